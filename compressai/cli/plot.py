# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressai.cli.options import Overwrite
from compressai.cli.tasks import check_output

__all__ = ["plot"]


def plot(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="JSON files of compressai eval, or of the programs of CompressAI.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .png, .svg or .pdf file.")
    ] = Path("plot.png"),
    metric: Annotated[
        str, typer.Option("-m", "--metric", help="What to draw: psnr, ms-ssim, lpips.")
    ] = "psnr",
    title: Annotated[str | None, typer.Option("-t", "--title", help="Title of the plot.")] = None,
    size: Annotated[
        tuple[float, float], typer.Option(help="Width and height in inches.", metavar="W H")
    ] = (9.0, 6.0),
    axes: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(help="Ends of the axes.", metavar="XMIN XMAX YMIN YMAX"),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw rate-distortion curves of results."""
    from compressai.evaluation.plot import curves_of, full_name, read_curves, save_plot

    check_output(output, overwrite)
    metric = full_name(metric)
    curves = [curve for path in results for curve in curves_of(read_curves(path), metric)]
    save_plot(curves, metric, output, title=title, figsize=size, limits=axes, replace=overwrite)
    print(output)
