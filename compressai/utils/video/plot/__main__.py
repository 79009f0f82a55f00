# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate-distortion curves of video codecs, drawn as those of image codecs are."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from compressai.evaluation.plot import curves_of, read_curves
from compressai.utils.plot import __main__ as image_plot

__all__ = ["main", "matplotlib_plt", "parse_json_file", "plotly_plt", "setup_args"]

XLABEL = "Bit-rate [kbit/s]"

matplotlib_plt = partial(image_plot.matplotlib_plt, xlabel=XLABEL)
plotly_plt = partial(image_plot.plotly_plt, xlabel=XLABEL)


def parse_json_file(filepath: str | Path, metric: str) -> dict[str, Any]:
    """The curve in a file of results.

    Args:
        filepath: JSON of ``compressai.utils.video.bench`` or ``eval_model``.
        metric: such as ``psnr-rgb``. MS-SSIM ``v`` becomes ``-10 log10(1 - v)``.

    Returns:
        ``{"name", "xs", "ys"}``; rates in kbit/s.

    Raises:
        ValueError: no JSON, or it has no such metric; names those that it has.
    """
    curve = curves_of(read_curves(filepath)[:1], metric, rate="bitrate")[0]
    return {"name": curve.name, "xs": curve.rates, "ys": curve.values}


def setup_args() -> argparse.ArgumentParser:
    """The command line."""
    parser = image_plot.setup_args()
    parser.prog = "python -m compressai.utils.video.plot"
    parser.description = __doc__
    parser.set_defaults(metric="psnr-rgb")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name; ``None`` takes that of the process.

    Raises:
        ValueError: neither ``--output`` nor ``--show``, or a file without such results.
    """
    args = setup_args().parse_args(argv)
    if not args.output and not args.show:
        raise ValueError("give --output, --show, or both")
    image_plot.draw(args, parse_json_file, XLABEL)


if __name__ == "__main__":
    main(sys.argv[1:])
