# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate-distortion curves of result files, by matplotlib or plotly."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressai._distribution import install_command
from compressai._files import atomic_write
from compressai.evaluation.plot import (
    PlotCurve,
    curves_of,
    draw_curves,
    full_name,
    read_curves,
)

__all__ = ["draw", "main", "matplotlib_plt", "parse_json_file", "plotly_plt", "setup_args"]

Scatter = Mapping[str, Any]
XLABEL = "Bit-rate [bpp]"


def parse_json_file(filepath: str | Path, metric: str) -> dict[str, Any]:
    """The curve in a file of results.

    Args:
        filepath: JSON.
        metric: ``psnr``, ``ms-ssim``, or a key of the results.

    Returns:
        ``{"name", "xs", "ys"}``: rates in bits per pixel and values; MS-SSIM in decibels.

    Raises:
        ValueError: the file is no JSON, or has no such metric; names those that it has.
    """
    try:
        curves = read_curves(filepath)
    except ValueError:
        print(f"{filepath} cannot be read as JSON")
        raise
    curve = curves_of(curves, full_name(metric))[0]
    return {"name": curve.name, "xs": curve.rates, "ys": curve.values}


def matplotlib_plt(
    scatters: Sequence[Scatter],
    title: str | None,
    ylabel: str,
    output_file: str | Path | None,
    limits: Sequence[float] | None = None,
    show: bool = False,
    figsize: Sequence[float] | None = None,
    xlabel: str = XLABEL,
) -> None:
    """Draw with matplotlib.

    Args:
        scatters: what :func:`parse_json_file` gives.
        title, ylabel, xlabel: texts.
        output_file: file to write at 300 dpi, if any; its suffix says what it is, PNG if none.
        limits: ends of the axes, ``(xmin, xmax, ymin, ymax)``.
        show: open a window.
        figsize: width and height in inches.

    Raises:
        ImportError: the extra ``plot`` is not installed.
    """
    figure = draw_curves(
        [PlotCurve(scatter["name"], scatter["xs"], scatter["ys"]) for scatter in scatters],
        ylabel,
        xlabel=xlabel,
        title=title,
        figsize=figsize or (9, 6),
        limits=limits,
        interactive=show,
    )
    if output_file:
        target = Path(output_file)
        target = target if target.suffix else target.with_suffix(".png")
        with atomic_write(target) as unfinished:
            figure.savefig(unfinished, format=target.suffix[1:], dpi=300)
    if show:
        # Of the extra plot.
        from matplotlib import pyplot

        pyplot.show()


def plotly_plt(
    scatters: Sequence[Scatter],
    title: str | None,
    ylabel: str,
    output_file: str | Path | None,
    limits: Sequence[float] | None = None,
    show: bool = False,
    figsize: Sequence[float] | None = None,
    xlabel: str = XLABEL,
) -> None:
    """Draw with plotly, into an HTML page.

    Args:
        scatters, title, ylabel, limits, xlabel: as of :func:`matplotlib_plt`.
        output_file: page to write, ``plot.html`` by default.
        show: open it in the browser.
        figsize: has no meaning in a page.

    Raises:
        SystemExit: plotly is not installed.
    """
    del figsize
    try:
        # Of the extra plotly.
        from plotly import graph_objects
    except ImportError:
        raise SystemExit(f"--backend plotly needs plotly: {install_command('plotly')}") from None
    figure = graph_objects.Figure()
    for scatter in scatters:
        figure.add_trace(
            graph_objects.Scatter(x=scatter["xs"], y=scatter["ys"], name=scatter["name"])
        )
    figure.update_layout(title=title, xaxis_title=xlabel, yaxis_title=ylabel)
    if limits:
        figure.update_xaxes(range=limits[:2])
        figure.update_yaxes(range=limits[2:])
    target = Path(output_file or "plot.html")
    with atomic_write(target) as unfinished:
        figure.write_html(unfinished)
    if show:
        webbrowser.open(target.resolve().as_uri())


def setup_args() -> argparse.ArgumentParser:
    """The parser of the program."""
    parser = argparse.ArgumentParser(prog="python -m compressai.utils.plot", description=__doc__)
    parser.add_argument(
        "-f", "--results-file", metavar="", type=str, nargs="*", required=True, help="JSON files"
    )
    parser.add_argument(
        "-m", "--metric", metavar="", type=str, default="psnr", help="(default: %(default)s)"
    )
    parser.add_argument("-t", "--title", metavar="", type=str, help="title of the plot")
    parser.add_argument("-o", "--output", metavar="", type=str, help="file to write")
    parser.add_argument(
        "--figsize", metavar=("W", "H"), nargs=2, type=float, default=(9, 6),
        help="size in inches (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--axes", metavar=("XMIN", "XMAX", "YMIN", "YMAX"), nargs=4, type=float,
        help="ends of the axes",
    )  # fmt: skip
    parser.add_argument(
        "--backend", choices=["matplotlib", "plotly"], default="matplotlib",
        help="(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--show", action="store_true", help="open a window with the plot")
    return parser


def draw(
    args: argparse.Namespace,
    parse: Callable[[str, str], Scatter],
    xlabel: str = XLABEL,
) -> None:
    """Draw what the command line says.

    Args:
        args: what the parser of :func:`setup_args` gives.
        parse: called with the name of a file and the metric, such as :func:`parse_json_file`.
        xlabel: text.
    """
    plot = {"matplotlib": matplotlib_plt, "plotly": plotly_plt}[args.backend]
    plot(
        [parse(file, args.metric) for file in args.results_file],
        args.title,
        f"{args.metric} [dB]",
        args.output,
        limits=args.axes,
        show=args.show,
        figsize=args.figsize,
        xlabel=xlabel,
    )


def main(argv: Sequence[str]) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name.
    """
    args = setup_args().parse_args(argv)
    draw(args, parse_json_file)


if __name__ == "__main__":
    main(sys.argv[1:])
