# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Images a second that `compressai encode --engine ray` codes, with one and with two workers.

::

    python benchmarks/corpus.py --images 40 --size 256 384
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from _report import PHOTO
from PIL import Image

from compressai.cluster import Run, encode_corpus
from compressai.cluster.engine import ray_cluster
from compressai.model_choice import choose_model


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--model", default="mbt2018-mean", help="name in the zoo (default: %(default)s)")
    add("--quality", type=int, default=1, help="(default: %(default)s)")
    add("--images", type=int, default=40, help="(default: %(default)s)")
    add(
        "--size",
        type=int,
        nargs=2,
        default=(256, 384),
        metavar=("H", "W"),
        help="of the images, at most 300 451 (default: %(default)s)",
    )
    add("--runs", type=int, default=3, help="of each (default: %(default)s)")
    return parser.parse_args(argv)


def working_time(rows: Sequence[Mapping[str, Any]]) -> float:
    """Seconds from the start of the first image to the end of the last.

    So the start of the first worker does not count, which a large job does not feel; that another
    one starts later does.
    """
    ends = [row["finished"].timestamp() for row in rows]
    return max(ends) - min(end - row["seconds"] for end, row in zip(ends, rows))


def main(argv: Sequence[str]) -> None:
    """Measure, and print one JSON object."""
    args = parse_args(argv)
    choose = functools.partial(choose_model, args.model, args.quality, "mse", None)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder, ray_cluster() as processors:
        photos = Path(folder) / "photos"
        photos.mkdir()
        with Image.open(PHOTO) as photo:
            height, width = args.size
            for i in range(args.images):
                left, top = i % (photo.width - width + 1), i % (photo.height - height + 1)
                crop = photo.convert("RGB").crop((left, top, left + width, top + height))
                crop.save(photos / f"{i:05}.png")
        for run in range(args.runs + 1):
            for workers, times in seconds.items():
                target = f"{folder}/{run}-{workers}"
                report = encode_corpus(
                    [str(photos)], target, choose, suffixes=[".png"], run=Run(workers=workers)
                )
                if report.failed:
                    raise SystemExit(f"corpus.py: {report.failed[0]['error']}")
                if run:  # the first run warms up
                    times.append(working_time(report.done))
    rates = {workers: args.images / statistics.median(t) for workers, t in seconds.items()}
    result = {
        "model": args.model,
        "quality": args.quality,
        "size": args.size,
        "processors": processors,
        "machine": platform.processor() or platform.machine(),
        "images_per_second": {str(k): round(v, 2) for k, v in rates.items()},
        "two_workers_against_one": round(rates[2] / rates[1], 2),
        "seconds": {str(k): [round(x, 2) for x in v] for k, v in seconds.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1:])
