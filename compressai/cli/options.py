# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Options that several commands have, so that they read the same everywhere."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer

from compressai.zoo.defaults import DEFAULT_METRIC, DEFAULT_MODEL

__all__ = [
    "AsJson",
    "Checkpoint",
    "CodedFiles",
    "Jobs",
    "MaxPixels",
    "ModelName",
    "Device",
    "Effort",
    "Multiplier",
    "Overwrite",
    "Precision",
    "Quality",
    "Quiet",
    "SkipExisting",
    "Verbose",
    "debugging",
    "parse_quality",
    "quality_option",
]


def _model_names(incomplete: str) -> list[str]:
    """For the shell's completion."""
    from compressai.zoo.names import image_model_names

    return [name for name in image_model_names() if name.startswith(incomplete)]


def debugging(context: typer.Context) -> bool:
    """Whether the program was started with ``--debug``."""
    return bool(context.find_root().params.get("debug"))


Checkpoint = Annotated[
    Path | None, typer.Option(help="File with weights, such as one of examples/train.py.")
]


def parse_quality(text: str) -> float:
    """A quality: a whole number, or one with a fraction for models that have a scale.

    Raises:
        typer.BadParameter: it is no number.
    """
    try:
        value = float(text)
        return int(value) if value.is_integer() else value
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no number") from None


def quality_option(text: str) -> Any:
    """The option for a quality.

    Args:
        text: its help, without what the default is.
    """
    return typer.Option(
        "-q",
        "--quality",
        parser=parse_quality,
        metavar="NUMBER",
        help=f"{text} (default: the model's)",
    )


Quality = Annotated[float | None, quality_option("Quality in the zoo.")]
AnyQuality = Annotated[
    float | None, quality_option("Quality in the zoo, or level of a variable-rate --checkpoint.")
]
Metric = Annotated[
    str | None,
    typer.Option(help=f"What the zoo's weights were trained for. (default: {DEFAULT_METRIC})"),
]
SyncSafe = Annotated[
    bool | None,
    typer.Option(
        "--sync-safe/--plain",
        help="Code so that rounding differences between machines do not matter. (default: "
        "where the model can)",
    ),
]
ModelName = Annotated[
    str | None,
    typer.Option(
        "--model",
        help=f"Name in the model zoo. (default: {DEFAULT_MODEL})",
        autocompletion=_model_names,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print neither results nor notes, only errors.")
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Print all that is known of each result.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
SkipExisting = Annotated[
    bool,
    typer.Option(
        "--skip-existing",
        help="Leave files out whose result exists, whatever it was made with.",
    ),
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "-j",
        "--jobs",
        min=1,
        help="Files to work on at the same time. (default: one for each core, at most 8)",
    ),
]


class PrecisionName(str, enum.Enum):
    """What :func:`compressai.inference.prepare` takes."""

    AUTO = "auto"
    BF16 = "bf16"
    FP32 = "fp32"


Precision = Annotated[
    PrecisionName,
    typer.Option(help="Of the synthesis; auto is bf16 where that is faster, as with AMX or CUDA."),
]
Effort = Annotated[
    int,
    typer.Option(
        min=1,
        max=9,
        help="Of the encoder, 1 to 9: each takes about twice as long as the one before, for a "
        "better file of the same format.",
    ),
]
Multiplier = Annotated[
    float | None,
    typer.Option(
        "--lambda",
        help="With --effort: weight of the distortion. (default: what the model was trained with)",
    ),
]
Device = Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1 and so on.")]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Refuse larger images. (default: 134217728)"),
]
CodedFiles = Annotated[
    list[str],
    typer.Argument(
        help=".cai files, .bin files of CompressAI 1.2, folders with .cai files, or - for stdin.",
        show_default=False,
    ),
]
