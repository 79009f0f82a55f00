# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The tables of lite's model card, put into docs/lite.md.

::

    compressai eval photos -q 0 10 20 30 40 50 60 70 80 90 100 --precision fp32 \
        --against jpeg webp --json first.json
    compressai eval photos -q 0 10 20 30 40 50 60 70 80 90 100 --precision fp32 \
        --against avif jxl --json second.json
    python benchmarks/lite_card.py first.json second.json
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compressai._decibels import psnr_of
from compressai.evaluation import bd_rate

PAGE = Path(__file__).parents[1] / "docs" / "lite.md"
_SHOWN = (10, 30, 50, 70, 90, 100)
_ANCHORS = {"jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "jxl": "JPEG XL"}


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n"
    return head + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def points_table(points: Sequence[dict[str, Any]]) -> str:
    """Bits per pixel, PSNR and MS-SSIM of each image at some qualities."""
    rows: dict[str, list[str]] = {}
    for point in points:
        if point["codec"] == "lite" and point["quality"] in _SHOWN:
            figures = f"{point['bpp']:.3f} / {point['psnr']:.2f} / {point['ms_ssim']:.4f}"
            rows.setdefault(Path(point["image"]).stem, []).append(figures)
    header = ["photograph", f"quality {_SHOWN[0]}", *map(str, _SHOWN[1:])]
    return _table(header, [[name, *figures] for name, figures in rows.items()])


def rates_table(results: Sequence[dict[str, Any]]) -> str:
    """BD-rates of each image by PSNR and by MS-SSIM in decibels, and their means."""
    curves: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for k, result in enumerate(results):
        for point in result["points"]:
            # Each run has lite of its own, which is the same.
            curve = curves.setdefault((point["image"], f"{point['codec']}{k}"), {})
            for metric in ("psnr", "ms_ssim_db"):
                curve.setdefault(metric, []).append((point["bpp"], _value(point, metric)))
    images = list(dict.fromkeys(image for image, _ in curves))
    columns = [
        (metric, anchor, k)
        for metric in ("psnr", "ms_ssim_db")
        for k, result in enumerate(results)
        for anchor in result["against"]
    ]
    figures = {
        image: [
            bd_rate(curves[image, f"{anchor}{k}"][metric], curves[image, f"lite{k}"][metric])
            for metric, anchor, k in columns
        ]
        for image in images
    }
    means = [sum(column) / len(images) for column in zip(*figures.values())]
    names = [_ANCHORS[anchor] for _, anchor, _ in columns]
    names[len(names) // 2] = f"MS-SSIM: {names[len(names) // 2]}"
    rows = [[Path(image).stem, *map(_percent, values)] for image, values in figures.items()]
    return _table(["photograph", *names], [*rows, ["**mean**", *map(_percent, means)]])


def _value(point: dict[str, Any], metric: str) -> float:
    return psnr_of(1 - point["ms_ssim"], 1) if metric == "ms_ssim_db" else float(point[metric])


def _percent(value: float) -> str:
    return f"{value:+.1f} %"


def replaced(page: str, table: str) -> str:
    """The page with a table in place of the one that has the same header."""
    header, rule, *_ = table.splitlines()
    pattern = re.compile(f"^{re.escape(header)}\n{re.escape(rule)}\n(?:\\|.*\n)+", re.MULTILINE)
    if len(pattern.findall(page)) != 1:
        raise SystemExit(f"{PAGE} has not one table with the header {header}")
    return pattern.sub(lambda _: table, page)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", type=Path, nargs=2, help="what eval --json wrote")
    args = parser.parse_args(argv)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in args.results]
    page = PAGE.read_text(encoding="utf-8")
    for table in (points_table(results[0]["points"]), rates_table(results)):
        print(table)
        page = replaced(page, table)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
