# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai encode``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from compressai.cli.messages import print_note, print_report
from compressai.cli.options import AsJson, Checkpoint, MaxPixels, Overwrite
from compressai.cli.targets import check_target

__all__ = ["encode"]


def encode(
    picture: Annotated[Path, typer.Argument(help="Picture of any kind that Pillow reads.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: PICTURE with suffix .cai.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name in the model zoo.  [default: mbt2018-mean]")
    ] = None,
    quality: Annotated[
        int | None, typer.Option("-q", "--quality", help="Quality in the zoo.  [default: 3]")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What the zoo's weights were trained for.  [default: mse]")
    ] = None,
    checkpoint: Checkpoint = None,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compress a picture into a .cai file."""
    if checkpoint is not None and (quality, metric) != (None, None):
        raise typer.BadParameter("--quality and --metric choose weights of the zoo, not of a file")
    from compressai import weights
    from compressai._files import atomic_write
    from compressai.bitstream import MAX_PIXELS, encode_picture, read_picture

    target = output or picture.with_suffix(".cai")
    check_target(target, picture, overwrite)
    source = read_picture(picture)
    for note in source.notes:
        print_note(f"{picture}: {note}")
    if model is None and checkpoint is None:
        model = weights.DEFAULT_MODEL
    chosen = weights.choose_model(
        model,
        weights.DEFAULT_QUALITY if quality is None else quality,
        weights.DEFAULT_METRIC if metric is None else metric,
        checkpoint,
    )
    if chosen.random_weights:
        print_note(weights.RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    start = time.perf_counter()
    coded = encode_picture(
        chosen.net,
        source,
        model=chosen.model,
        quality=chosen.quality,
        metric=chosen.metric,
        random_weights=chosen.random_weights,
        max_pixels=max_pixels or MAX_PIXELS,
    )
    seconds = time.perf_counter() - start
    content = coded.to_bytes()
    with atomic_write(target) as unfinished:
        unfinished.write_bytes(content)
    print_report(
        {
            "file": str(target),
            "bytes": len(content),
            "bpp": 8 * len(content) / (coded.width * coded.height),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "seconds": seconds,
        },
        as_json,
    )
