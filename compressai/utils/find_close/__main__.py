# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Find the quality at which a classical codec comes closest to a rate or a distortion."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from compressai._files import atomic_write
from compressai.evaluation.metrics import MS_SSIM, PSNR
from compressai.utils.bench.codecs import AV1, AVIF, BPG, HM, JPEG, JPEG2000, JXL, VTM, Codec, WebP

__all__ = ["codecs", "find_closest", "get_codec_q_bounds", "main", "setup_args"]

codecs: list[type[Codec]] = [JPEG, WebP, JPEG2000, BPG, VTM, HM, AV1, AVIF, JXL]
_METRICS = ("bpp", PSNR, MS_SSIM)


def get_codec_q_bounds(codec: Codec) -> tuple[bool, int, int]:
    """Where to search.

    Args:
        codec: the codec.

    Returns:
        ``(reversed, lower, upper)``: whether a higher quality number is worse, and bounds between
        which the numbers lie (the bounds themselves are outside).

    Raises:
        ValueError: the codec has no such scale.
    """
    if isinstance(codec, (JPEG, WebP, AVIF, JXL)):
        return False, -1, 101
    if isinstance(codec, JPEG2000):
        # 0 would be lossless.
        return False, 0, 101
    if isinstance(codec, (BPG, HM)):
        return True, -1, 52
    if isinstance(codec, (VTM, AV1)):
        return True, -1, 64
    raise ValueError(f"codec must be one of those of this program, got {codec!r}")


def find_closest(
    codec: Codec, img: str | Path | Image.Image, target: float, metric: str = PSNR
) -> tuple[int, dict[str, Any], Image.Image]:
    """Search the quality by bisection.

    Args:
        codec: the codec.
        img: the image.
        target: value to come close to.
        metric: what of: ``bpp``, ``psnr-rgb`` or ``ms-ssim-rgb``.

    Returns:
        Of the closest that was tried: quality, what :meth:`Codec.run` gives, decoded image.
    """
    is_reversed, lower, upper = get_codec_q_bounds(codec)
    metrics = [PSNR] if metric == "bpp" else list(dict.fromkeys((PSNR, metric)))
    best: tuple[float, int, dict[str, Any], Image.Image] | None = None
    while upper > lower + 1:
        quality = (upper + lower) // 2
        result, decoded = codec.run(img, quality, metrics, return_rec=True)
        print(f"\rtrying quality {quality}, {metric} {result[metric]:.4f}", end="", file=sys.stderr)
        distance = abs(result[metric] - target)
        if best is None or distance < best[0]:
            best = distance, quality, result, decoded
        if result[metric] == target:
            break
        if (result[metric] < target) == is_reversed:
            upper = quality
        else:
            lower = quality
    print(file=sys.stderr)
    if best is None:
        raise ValueError(f"there are no qualities between {lower} and {upper}")
    return best[1:]


def setup_args() -> argparse.ArgumentParser:
    """The parser of the program."""
    parser = argparse.ArgumentParser(
        prog="python -m compressai.utils.find_close", description=__doc__
    )
    subparsers = parser.add_subparsers(dest="codec", help="codec", required=True)
    for codec in codecs:
        # BPG has an -m of its own; --metric has only its long name there.
        of_codec = subparsers.add_parser(
            codec.__name__.lower(), help=codec.__doc__, conflict_handler="resolve"
        )
        of_codec.add_argument("image", type=str, help="image")
        of_codec.add_argument("target", type=float, help="value to come close to")
        of_codec.add_argument(
            "-m", "--metric", choices=_METRICS, default="bpp", help="(default: %(default)s)"
        )
        of_codec.add_argument(
            "--save", action="store_true", help="keep the image as output_CODEC_qQUALITY.png"
        )
        codec.setup_args(of_codec)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name.
    """
    args = setup_args().parse_args(argv)
    chosen = next(codec for codec in codecs if codec.__name__.lower() == args.codec)
    try:
        quality, metrics, decoded = find_closest(chosen(args), args.image, args.target, args.metric)
    except (ImportError, FileNotFoundError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    for key, value in metrics.items():
        print(f"{key}: {value:.4f}")
    if args.save:
        with atomic_write(f"output_{args.codec}_q{quality}.png") as unfinished:
            decoded.save(unfinished, format="PNG")


if __name__ == "__main__":
    main(sys.argv[1:])
