# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressai.cli.messages import print_note, print_report
from compressai.cli.options import (
    AsJson,
    Checkpoint,
    Metric,
    ModelName,
    Overwrite,
    Quality,
)
from compressai.cli.tasks import check_output
from compressai.zoo.defaults import DEFAULT_METRIC, DEFAULT_MODEL

__all__ = ["export"]


def export(
    folder: Annotated[
        Path | None, typer.Argument(help="Where g_a.onnx and g_s.onnx go.", show_default=False)
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the whole model into this file instead."),
    ] = None,
    model: ModelName = None,
    quality: Quality = None,
    metric: Metric = None,
    checkpoint: Checkpoint = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the only images to take. (default: any)"),
    ] = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write the transforms of a model as ONNX files, or all of it, and compare with onnxruntime."""
    if (folder is None) == (bundle is None):
        raise typer.BadParameter("name either a folder for the transforms, or a --bundle")
    if bundle is not None and size is not None:
        raise typer.BadParameter("--size is for the transforms: a bundle takes any size")
    if checkpoint is not None and (quality, metric) != (None, None):
        raise typer.BadParameter("--quality and --metric choose weights of the zoo, not of a file")
    if bundle is not None:
        check_output(bundle, overwrite, makes_folder=True)
    for name in ("g_a", "g_s") if folder is not None else ():
        check_output(folder / f"{name}.onnx", overwrite, makes_folder=True)
    from compressai import model_choice
    from compressai.inference import export_bundle, export_onnx

    if model is None and checkpoint is None:
        model = DEFAULT_MODEL
    chosen = model_choice.choose_model(
        model,
        quality,
        DEFAULT_METRIC if metric is None else metric,
        checkpoint,
    )
    if chosen.random_weights:
        print_note(model_choice.RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    report = {
        "model": chosen.model,
        "quality": chosen.quality,
        "random_weights": chosen.random_weights,
    }
    if bundle is not None:
        bundle.parent.mkdir(parents=True, exist_ok=True)
        one = export_bundle(chosen.net, bundle, replace=overwrite)
        exported = {"bundle": one}
    else:
        assert folder is not None
        exported = export_onnx(chosen.net, folder, size=size, replace=overwrite)
    if not as_json:
        for one in exported.values():
            print(f"{one.path}: differs from torch by {one.error:.1e}")
        return
    files = {name: {"path": str(one.path), "error": one.error} for name, one in exported.items()}
    print_report({**report, "files": files}, as_json)
