# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate, distortion and times of a classical codec on a folder of images."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import starmap
from pathlib import Path
from typing import Any

from compressai.evaluation.metrics import METRICS, MS_SSIM, PSNR
from compressai.evaluation.results import finite_json
from compressai.utils.bench.codecs import (
    AV1,
    AVIF,
    BPG,
    HM,
    IMG_EXTENSIONS,
    JPEG,
    JPEG2000,
    JXL,
    TFCI,
    VTM,
    Codec,
    WebP,
)

__all__ = ["codecs", "collect", "func", "main", "setup_args", "setup_common_args"]

codecs: list[type[Codec]] = [JPEG, WebP, JPEG2000, BPG, TFCI, VTM, HM, AV1, AVIF, JXL]


def func(codec: Codec, i: int, *args: Any) -> tuple[int, dict[str, Any]]:
    """Run a codec on ``(image, quality, metrics)``; gives ``i`` back with the result."""
    return i, codec.run(*args)


def collect(
    codec: Codec,
    dataset: str | Path,
    qps: Sequence[float],
    metrics: Sequence[str],
    num_jobs: int = 1,
) -> dict[str, list[float]]:
    """Averages over the images of a folder.

    Args:
        codec: the codec.
        dataset: folder, searched at any depth.
        qps: qualities.
        metrics: what to measure.
        num_jobs: images to work on at the same time, which makes times longer.

    Returns:
        For each key of :meth:`Codec.run` a value for each quality, in rising order.

    Raises:
        NotADirectoryError: ``dataset`` is no folder.
        SystemExit: it has no images.
    """
    if not Path(dataset).is_dir():
        raise NotADirectoryError(f"{dataset} is no folder")
    files = sorted(p for p in Path(dataset).rglob("*") if p.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        print(f"{dataset} has no images ({' '.join(IMG_EXTENSIONS)})")
        raise SystemExit(1)
    qps = sorted(qps)
    jobs = [(codec, i, file, quality, metrics) for i, quality in enumerate(qps) for file in files]
    if num_jobs > 1:
        # Threads are enough: the codecs leave Python's lock alone while they work.
        with ThreadPoolExecutor(num_jobs) as pool:
            outcomes = list(pool.map(lambda job: func(*job), jobs))
    else:
        outcomes = list(starmap(func, jobs))
    results: dict[str, list[float]] = {}
    for i in range(len(qps)):
        of_quality = [result for j, result in outcomes if j == i]
        for key in of_quality[0]:
            results.setdefault(key, []).append(statistics.fmean(r[key] for r in of_quality))
    return results


def setup_common_args(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all codecs have."""
    parser.add_argument("dataset", type=str, help="folder with images")
    parser.add_argument(
        *("-j", "--num-jobs"), type=int, default=1, metavar="N",
        help="images at the same time (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        *("-q", "--qps"), dest="qps", metavar="Q", default="75",
        help="qualities, with commas between (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--metrics", nargs="+", default=[PSNR, MS_SSIM], choices=list(METRICS),
        help="(default: %(default)s)",
    )  # fmt: skip


def setup_args() -> argparse.ArgumentParser:
    """The parser of the program."""
    parser = argparse.ArgumentParser(
        prog="python -m compressai.utils.bench", description=__doc__.splitlines()[0]
    )
    subparsers = parser.add_subparsers(dest="codec", help="codec", required=True)
    for codec in codecs:
        of_codec = subparsers.add_parser(codec.__name__.lower(), help=codec.__doc__)
        setup_common_args(of_codec)
        codec.setup_args(of_codec)
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name.
    """
    parser = setup_args()
    args = parser.parse_args(argv)
    try:
        qps = [int(q) if float(q).is_integer() else float(q) for q in args.qps.split(",") if q]
    except ValueError:
        parser.error(f"--qps must be numbers with commas between, got {args.qps!r}")
    chosen = next(codec for codec in codecs if codec.__name__.lower() == args.codec)
    try:
        codec = chosen(args)
        results = collect(codec, args.dataset, qps, args.metrics, args.num_jobs)
        description = codec.description
    except NotADirectoryError:
        raise
    except (ImportError, FileNotFoundError, RuntimeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    print(finite_json({"name": codec.name, "description": description, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
