# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Compress and decompress a picture: the command line that CompressAI 1.2 had.

The program ``compressai`` does the same with more comfort. This one keeps the flags, printed lines
and default names of its predecessor. It reads files of both and writes the new format.
"""

from __future__ import annotations

import argparse
import enum
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import compressai
from compressai._files import atomic_write
from compressai.bitstream import (
    Picture,
    check_picture_file,
    decode_picture,
    encode_picture,
    parse_coded,
    read_coded,
    read_picture,
    save_picture,
)
from compressai.bitstream.legacy import METRICS, MODEL_IDS, read_body, write_body
from compressai.cli.messages import explain, print_note
from compressai.ops import compute_padding
from compressai.weights import (
    DEFAULT_METRIC,
    DEFAULT_QUALITY,
    RANDOM_WEIGHTS_NOTE,
    choose_model,
    model_of,
)

__all__ = [
    "CodecInfo",
    "CodecType",
    "Header",
    "crop",
    "decode_image",
    "encode_image",
    "filesize",
    "get_header",
    "img2torch",
    "inverse_dict",
    "load_image",
    "main",
    "metric_ids",
    "model_ids",
    "pad",
    "parse_header",
    "read_body",
    "torch2img",
    "write_body",
]

# Numbers in files of CompressAI 1.2.
model_ids = {name: number for number, name in enumerate(MODEL_IDS)}
metric_ids = {name: number for number, name in enumerate(METRICS)}


class CodecType(enum.IntEnum):
    """What a file holds."""

    IMAGE_CODEC = 0
    VIDEO_CODEC = 1
    NUM_CODEC_TYPE = 2


class Header(NamedTuple):
    """Which weights a picture is coded with; ``quality`` is ``None`` for those of a checkpoint."""

    model: str
    metric: str | None
    quality: int | None


class CodecInfo(NamedTuple):
    """What :func:`encode_image` and :func:`decode_image` work with."""

    codec_header: Header
    original_size: tuple[int, int] | None
    original_bitdepth: int
    net: nn.Module
    device: str
    random_weights: bool = False


def inverse_dict(d: Mapping[Any, Any]) -> dict[Any, Any]:
    """Keys by value.

    Raises:
        ValueError: two keys have the same value.
    """
    inverse = {value: key for key, value in d.items()}
    if len(inverse) != len(d):
        raise ValueError(f"d must not have a value twice, got {dict(d)!r}")
    return inverse


def filesize(filepath: str | Path) -> int:
    """Length of a file in bytes.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(filepath)
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    return path.stat().st_size


def load_image(filepath: str | Path) -> Image.Image:
    """A picture file as an upright RGB picture in sRGB."""
    return read_picture(filepath).to_image().convert("RGB")


def img2torch(img: Image.Image) -> Tensor:
    """A picture as float32 ``(1, 3, H, W)`` in [0, 1]."""
    return read_picture(img).pixels[None]


def torch2img(x: Tensor) -> Image.Image:
    """``(1, 3, H, W)`` in [0, 1] as an RGB picture; values are clamped and rounded."""
    return Picture(x.squeeze(0)).to_image()


def pad(x: Tensor, p: int = 2**6) -> Tensor:
    """Put pictures ``(N, C, H, W)`` in the middle of zeros, with sides that are multiples of p."""
    padding, _ = compute_padding(x.size(2), x.size(3), min_div=p)
    return F.pad(x, padding)


def crop(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Undo :func:`pad`: the middle ``size`` (height, width) of ``(N, C, H, W)``."""
    _, unpadding = compute_padding(*size, out_h=x.size(2), out_w=x.size(3))
    return F.pad(x, unpadding)


def get_header(
    model_name: str, metric: str, quality: int, num_of_frames: int, codec_type: CodecType
) -> tuple[int, ...]:
    """First numbers of a file of CompressAI 1.2; of a video, the number of frames is the third.

    Raises:
        ValueError: that format has no number for the model, metric or quality.
    """
    if model_name not in model_ids or metric not in metric_ids or not 1 <= quality <= 16:
        raise ValueError(
            f"model_name, metric and quality must be in {list(model_ids)}, {list(metric_ids)} and "
            f"1 ... 16, got {model_name!r}, {metric!r} and {quality!r}"
        )
    numbers = (model_ids[model_name], metric_ids[metric] << 4 | quality - 1)
    return (*numbers, num_of_frames) if codec_type == CodecType.VIDEO_CODEC else numbers


def parse_header(header: tuple[int, ...]) -> Header:
    """Names for the first two numbers of a file of CompressAI 1.2.

    Raises:
        ValueError: unknown numbers.
    """
    model, code = header[:2]
    if not 0 <= model < len(MODEL_IDS) or not 0 <= code >> 4 < len(METRICS):
        raise ValueError(f"header must hold numbers of a model and a metric, got {header!r}")
    return Header(MODEL_IDS[model], METRICS[code >> 4], (code & 15) + 1)


def encode_image(source: str | Path, codec: CodecInfo, output: str | Path) -> dict[str, float]:
    """Compress a picture file into a ``.cai`` file, whatever its name.

    Returns:
        ``{"bpp": bits of the file per pixel}``.
    """
    picture = read_picture(source)
    for note in picture.notes:
        print_note(f"{source}: {note}")
    coded = encode_picture(
        codec.net, picture, **codec.codec_header._asdict(), random_weights=codec.random_weights
    )
    with atomic_write(output) as unfinished:
        unfinished.write_bytes(coded.to_bytes())
    return {"bpp": filesize(output) * 8 / (coded.width * coded.height)}


def decode_image(
    f: BinaryIO, codec: CodecInfo, output: str | Path | None = None
) -> dict[str, Image.Image]:
    """Decompress a picture, and write it if there is an ``output``.

    Args:
        f: a file of either format, at its start.
        codec: the model.
        output: picture file.

    Returns:
        ``{"img": the picture}``.
    """
    picture = decode_picture(codec.net, parse_coded(f.read()))
    if output is not None:
        save_picture(picture, output)
    return {"img": picture.to_image()}


def _encode(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    chosen = choose_model(
        args.model, args.quality or DEFAULT_QUALITY, args.metric or DEFAULT_METRIC, args.checkpoint
    )
    loading = time.perf_counter() - start
    if chosen.random_weights:
        print_note(RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    header = Header(chosen.model, chosen.metric, chosen.quality)
    net = chosen.net.to(args.device)
    codec = CodecInfo(header, None, 8, net, args.device, chosen.random_weights)
    start = time.perf_counter()
    out = encode_image(args.input, codec, args.output or Path(args.input.with_suffix(".bin").name))
    seconds = time.perf_counter() - start
    print(f"{out['bpp']:.3f} bpp | Encoded in {seconds:.2f}s (model loading: {loading:.2f}s)")


def _decode(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    coded = read_coded(args.input)
    if args.output:
        note = check_picture_file(args.output, coded.mode)
        if note:
            print_note(note)
    net = model_of(coded, args.checkpoint).to(args.device)
    header = Header(coded.model, coded.metric, coded.quality)
    codec = CodecInfo(header, (coded.height, coded.width), 8, net, args.device)
    print(f"Model: {header.model}, metric: {header.metric}, quality: {header.quality}")
    loading = time.perf_counter() - start
    start = time.perf_counter()
    with open(args.input, "rb") as file:
        out = decode_image(file, codec, args.output)
    seconds = time.perf_counter() - start
    print(f"Decoded in {seconds:.2f}s (model loading: {loading:.2f}s)")
    if args.show:
        out["img"].show()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("input", type=Path)
    coders = compressai.available_entropy_coders()
    common.add_argument(
        "-c", "--coder", choices=coders, default=coders[0], help="(default: %(default)s)"
    )
    common.add_argument("-o", "--output", type=Path)
    common.add_argument("--checkpoint", type=Path, help="file with weights, not the zoo's")
    common.add_argument("--cuda", dest="device", action="store_const", const="cuda", default="cpu")

    encode = commands.add_parser("encode", parents=[common], help="picture to file")
    encode.set_defaults(run=_encode)
    encode.add_argument(
        "-f", "--num_of_frames", type=int, default=-1, help="of videos (default: all)"
    )
    encode.add_argument("--model", help=f"(default: {next(iter(compressai.zoo.models))})")
    encode.add_argument("-m", "--metric", choices=METRICS, help=f"(default: {DEFAULT_METRIC})")
    encode.add_argument(
        "-q", "--quality", type=int, choices=range(1, 9), help=f"(default: {DEFAULT_QUALITY})"
    )

    decode = commands.add_parser("decode", parents=[common], help="file to picture")
    decode.set_defaults(run=_decode)
    decode.add_argument("--show", action="store_true", help="open the picture in a viewer")
    return parser


def _check(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--cuda: this PyTorch finds no CUDA device")
    if ".yuv" in (args.input.suffix, args.output and args.output.suffix):
        parser.error("raw video (.yuv) is not supported, only pictures")
    if args.command == "decode":
        return
    if args.num_of_frames != -1:
        parser.error("-f is for videos, which are not supported")
    if args.checkpoint is not None:
        if (args.quality, args.metric) != (None, None):
            parser.error("-q and -m choose weights of the zoo, not of a file")
        return
    known = [*compressai.zoo.image_models]
    args.model = args.model or next(iter(compressai.zoo.models))
    if args.model not in known:
        kind = "is not for pictures" if args.model in model_ids else "is unknown"
        parser.error(f"--model {args.model} {kind}; choose one of {', '.join(known)}")


def main(argv: list[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name; ``None`` takes that of the process.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    _check(args, parser)
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    compressai.set_entropy_coder(args.coder)
    try:
        args.run(args)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        raise SystemExit(f"{parser.prog}: error: {explain(error)}") from error


if __name__ == "__main__":
    main()
