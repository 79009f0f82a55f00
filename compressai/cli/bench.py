# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compressai.cli.messages import print_note, print_report
from compressai.cli.options import (
    AsJson,
    Checkpoint,
    Device,
    Metric,
    ModelName,
    Precision,
    PrecisionName,
    Quality,
)

__all__ = ["bench"]


def bench(
    image: Annotated[Path, typer.Argument(help="An image.", show_default=False)],
    model: ModelName = None,
    quality: Quality = None,
    metric: Metric = None,
    checkpoint: Checkpoint = None,
    precision: Precision = PrecisionName.AUTO,
    device: Device = "cpu",
    repeats: Annotated[int, typer.Option(min=1, help="Timed repetitions, after one more.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch (default: as torch chooses)")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time a model on an image: encoding, decoding, and the stages of both."""
    if checkpoint is not None and (quality, metric) != (None, None):
        raise typer.BadParameter("--quality and --metric choose weights of the zoo, not of a file")
    import torch

    from compressai import model_choice
    from compressai.bitstream import read_image
    from compressai.evaluation import measure_speed
    from compressai.inference import name_precision

    source = read_image(image)
    if model is None and checkpoint is None:
        model = model_choice.DEFAULT_MODEL
    chosen = model_choice.choose_model(
        model,
        quality,
        metric or model_choice.DEFAULT_METRIC,
        checkpoint,
        precision=precision.value,
        device=device,
    )
    if chosen.random_weights:
        print_note(model_choice.RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    before = torch.get_num_threads()
    try:
        if threads is not None:
            torch.set_num_threads(threads)
        speed = measure_speed(
            chosen.net, source, model=chosen.model, quality=chosen.quality, repeats=repeats
        )
    finally:
        torch.set_num_threads(before)
    used = name_precision(chosen.net)
    report = {
        "model": chosen.model,
        "quality": chosen.quality,
        "precision": used,
        **speed.to_dict(),
    }
    if as_json:
        print_report(report, as_json=True)
    else:
        print(f"{chosen.model}, {used}, {speed}")
