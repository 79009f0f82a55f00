# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressai.cli.options import Overwrite
from compressai.cli.published import PublishedDataset
from compressai.cli.several import command_with_several
from compressai.cli.tasks import check_output

__all__ = ["SETTINGS", "plot"]

SETTINGS = {
    "cls": command_with_several({"--published": lambda word: not word.endswith(".json")}),
}


def plot(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            help="JSON files of compressai eval, or of the programs of CompressAI.",
            show_default=False,
        ),
    ] = None,
    published: Annotated[
        list[str] | None,
        typer.Option(help="Models whose published points to draw as well, on --dataset."),
    ] = None,
    dataset: PublishedDataset = "kodak",
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
    if not results and not published:
        raise typer.BadParameter("nothing to draw: give files of results, or --published")
    from compressai.evaluation import published_curves
    from compressai.evaluation.plot import curves_of, full_name, read_curves, save_plot

    check_output(output, overwrite)
    try:
        points = published_curves(published, dataset=dataset, metric=metric) if published else []
    except ValueError as error:
        raise typer.BadParameter(
            f"--published: {error}; points of anything else can be in one of the files, as "
            '{"bpp": [0.2, 0.5], "psnr": [31.0, 34.1]}'
        ) from error
    metric = full_name(metric)
    found = [curve for path in results or () for curve in read_curves(path)]
    found += [curve.results() for curve in points]
    curves = curves_of(found, metric)
    save_plot(curves, metric, output, title=title, figsize=size, limits=axes, replace=overwrite)
    print(output)
