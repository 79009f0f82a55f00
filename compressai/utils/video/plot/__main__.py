# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Draw rate-distortion curves of video codecs from files of results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressai._files import atomic_write
from compressai.evaluation.plot import PlotCurve, curves_of, draw_curves, read_curves

__all__ = ["main", "matplotlib_plt", "parse_json_file", "plotly_plt", "setup_args"]

_XLABEL = "Bit-rate [kbit/s]"


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
    (curve,) = curves_of(read_curves(filepath)[:1], metric, rate="bitrate")
    return {"name": curve.name, "xs": curve.rates, "ys": curve.values}


def matplotlib_plt(
    scatters: Sequence[Mapping[str, Any]],
    title: str | None,
    ylabel: str,
    output_file: str | Path | None,
    limits: Sequence[float] | None = None,
    show: bool = False,
    figsize: Sequence[float] | None = None,
) -> None:
    """Draw with matplotlib.

    Args:
        scatters: curves of :func:`parse_json_file`.
        title, ylabel: texts.
        output_file: picture or PDF to write, or ``None``.
        limits: ends of the axes, ``(xmin, xmax, ymin, ymax)``.
        show: open a window.
        figsize: width and height in inches.

    Raises:
        ImportError: the extra ``plot`` is not installed.
    """
    curves = [PlotCurve(s["name"], list(s["xs"]), list(s["ys"])) for s in scatters]
    figure = draw_curves(
        curves, ylabel, title=title, xlabel=_XLABEL, figsize=figsize or (9, 6), limits=limits
    )
    if output_file:
        suffix = Path(output_file).suffix.lower().removeprefix(".") or "png"
        with atomic_write(output_file) as unfinished:
            figure.savefig(unfinished, format=suffix, dpi=300)
    if show:
        import matplotlib.pyplot as plt

        # A window for a figure that was made without one.
        canvas = plt.figure().canvas
        canvas.manager.canvas.figure = figure
        figure.set_canvas(canvas)
        plt.show()


def plotly_plt(
    scatters: Sequence[Mapping[str, Any]],
    title: str | None,
    ylabel: str,
    output_file: str | Path | None,
    limits: Sequence[float] | None = None,
    show: bool = False,
    figsize: Sequence[float] | None = None,
) -> None:
    """Draw with plotly, into a page of HTML.

    Args:
        scatters, title, ylabel, limits: as for :func:`matplotlib_plt`.
        output_file: page to write; ``plot.html`` if ``None``.
        show: open it in a browser.
        figsize: width and height, in hundreds of pixels.

    Raises:
        SystemExit: plotly is not installed; says how to install it.
    """
    try:
        import plotly.graph_objects as go
    except ModuleNotFoundError:
        raise SystemExit(
            "--backend plotly needs plotly, which is not installed: pip install plotly"
        ) from None

    figure = go.Figure(
        [go.Scatter(x=s["xs"], y=s["ys"], name=s["name"], mode="lines+markers") for s in scatters]
    )
    width, height = figsize or (9, 6)
    figure.update_layout(title=title, width=100 * width, height=100 * height)
    figure.update_xaxes(title_text=_XLABEL, range=None if limits is None else limits[:2])
    figure.update_yaxes(title_text=ylabel, range=None if limits is None else limits[2:])
    with atomic_write(output_file or "plot.html") as unfinished:
        unfinished.write_text(figure.to_html(include_plotlyjs="cdn"), encoding="utf-8")
    if show:
        figure.show()


_BACKENDS = {"matplotlib": matplotlib_plt, "plotly": plotly_plt}


def setup_args() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "-f",
        "--results-file",
        metavar="FILE",
        type=Path,
        nargs="+",
        required=True,
        help="files of results",
    )
    add("-m", "--metric", default="psnr-rgb", help="(default: %(default)s)")
    add("-t", "--title", help="above the curves")
    add("-o", "--output", type=Path, help="file to write")
    add("--figsize", metavar=("W", "H"), type=float, nargs=2, default=(9, 6), help="(default: 9 6)")
    add("--axes", metavar=("XMIN", "XMAX", "YMIN", "YMAX"), type=float, nargs=4, help="their ends")
    add("--backend", choices=_BACKENDS, default="matplotlib", help="(default: %(default)s)")
    add("--show", action="store_true", help="open a window or a browser")
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
    scatters = [parse_json_file(path, args.metric) for path in args.results_file]
    _BACKENDS[args.backend](
        scatters, args.title, f"{args.metric} [dB]", args.output, args.axes, args.show, args.figsize
    )


if __name__ == "__main__":
    main(sys.argv[1:])
