# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai published``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from compressai.cli.messages import print_report, print_table
from compressai.cli.options import AsJson

__all__ = ["PublishedDataset", "published"]

PublishedDataset = Annotated[
    str, typer.Option("--dataset", help="Images of the points: kodak, clic or tecnick.")
]


def published(
    models: Annotated[
        list[str] | None, typer.Argument(help="Names of models. (default: all that are known)")
    ] = None,
    anchor: Annotated[
        str,
        typer.Option(
            "-a",
            "--anchor",
            help="What to compare with: a model with published points, or a JSON file of "
            "compressai eval over the same images.",
        ),
    ] = "dcae",
    dataset: PublishedDataset = "kodak",
    metric: Annotated[str, typer.Option("-m", "--metric", help="psnr or ms-ssim.")] = "psnr",
    as_json: AsJson = False,
) -> None:
    """List rate-distortion points that authors have published, with BD-rates.

    BD-rates are bits more than the anchor, computed from the points. Those against VTM are as their
    sources have them; versions and settings of VTM differ by several percent between these.
    """
    from compressai.evaluation import bd_rates_against, published_bd_rates, published_curves

    curves = published_curves(models, dataset=dataset, metric=metric)
    rates = bd_rates_against(_points_of(anchor, dataset, metric), curves)
    quoted = published_bd_rates(dataset=dataset) if metric == "psnr" else []
    if models is not None:
        quoted = [rate for rate in quoted if rate.model in models]
    if as_json:
        print_report(
            {
                "anchor": anchor,
                "curves": [{**vars(curve), "bd_rate": rate} for curve, rate in rates],
                "bd_rates_as_published": [vars(rate) for rate in quoted],
            },
            as_json=True,
        )
        return
    print_table(
        {
            "model": "left",
            "bpp": "right",
            metric: "right",
            f"against {anchor}": "right",
            "source": "left",
        },
        [
            (
                curve.model,
                f"{curve.bpp[0]:.3f} - {curve.bpp[-1]:.3f}",
                f"{curve.values[0]:.4g} - {curve.values[-1]:.4g}",
                "" if rate is None else f"{rate:+.1f} %",
                curve.source,
            )
            for curve, rate in rates
        ],
    )
    if quoted:
        print()
        print_table(
            {"model": "left", "as published": "right", "anchor": "left", "source": "left"},
            [(rate.model, f"{rate.percent:+.1f} %", rate.anchor, rate.source) for rate in quoted],
        )


def _points_of(anchor: str, dataset: str, metric: str) -> list[tuple[float, float]]:
    from compressai.evaluation import known_curve, published_curves
    from compressai.evaluation.plot import curves_of, full_name

    if not anchor.endswith(".json") and metric != "psnr":
        return published_curves([anchor], dataset=dataset, metric=metric)[0].points()
    curves: list[Any] = curves_of([known_curve(anchor, dataset=dataset)], full_name(metric))
    return [*zip(curves[0].rates, curves[0].values)]
