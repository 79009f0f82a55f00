# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Options that several commands have, so that they read the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "Checkpoint", "CodedFile", "MaxPixels", "Overwrite"]

Checkpoint = Annotated[
    Path | None, typer.Option(help="File with weights, such as one of examples/train.py.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Refuse larger pictures.  [default: 134217728]"),
]
CodedFile = Annotated[Path, typer.Argument(help="A .cai file, or a .bin file of CompressAI 1.2.")]
