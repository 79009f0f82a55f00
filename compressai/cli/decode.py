# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai decode``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from compressai.cli.messages import print_note, print_report
from compressai.cli.options import AsJson, Checkpoint, CodedFile, MaxPixels, Overwrite
from compressai.cli.targets import check_target

__all__ = ["decode"]


def decode(
    file: CodedFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: FILE with suffix .png.")
    ] = None,
    checkpoint: Checkpoint = None,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decompress a coded picture."""
    from compressai.bitstream import (
        MAX_PIXELS,
        check_picture_file,
        decode_picture,
        read_coded,
        save_picture,
    )
    from compressai.weights import model_of

    target = output or file.with_suffix(".png")
    check_target(target, file, overwrite)
    coded = read_coded(file)
    note = check_picture_file(target, coded.mode)
    if note:
        print_note(note)
    if coded.random_weights:
        print_note(f"{file} was coded with RANDOM weights: the picture will not be recognisable")
    net = model_of(coded, checkpoint)
    start = time.perf_counter()
    picture = decode_picture(net, coded, max_pixels=max_pixels or MAX_PIXELS)
    seconds = time.perf_counter() - start
    save_picture(picture, target)
    print_report(
        {
            "file": str(target),
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
