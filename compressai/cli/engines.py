# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``--engine``: what runs the networks, and the models that need no torch."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from compressai.cli.options import PrecisionName
from compressai.zoo.defaults import DEFAULT_METRIC, DEFAULT_MODEL, DEFAULT_QUALITY

if TYPE_CHECKING:
    from compressai.bitstream.chosen import ChosenModel, Ladder

__all__ = [
    "ENGINE_HELP",
    "CodingEngine",
    "check_runtime",
    "encoding_bundle",
    "encoding_bundles",
    "engine_name",
]

ENGINE_HELP = (
    "What runs the networks: torch, or onnxruntime with a bundle; auto takes a bundle where there "
    "is one, which saves the seconds that torch takes to load. ray works on a Ray cluster."
)


class CodingEngine(str, enum.Enum):
    """What runs the networks, and where."""

    AUTO = "auto"
    TORCH = "torch"
    RUNTIME = "runtime"
    RAY = "ray"


def check_runtime(
    engine: enum.Enum, checkpoint: Path | None, device: str, precision: PrecisionName
) -> None:
    """Refuse options that need torch, with ``--engine runtime``.

    Raises:
        typer.BadParameter: there is such an option.
    """
    if engine.value != "runtime":
        return
    if checkpoint is not None or device != "cpu":
        raise typer.BadParameter("--engine runtime takes neither --checkpoint nor --device")
    if precision is PrecisionName.BF16:
        raise typer.BadParameter("--engine runtime computes in fp32, --precision bf16 needs torch")


def encoding_bundle(
    model: str | None,
    quality: float | None,
    metric: str | None,
    *,
    needed: bool,
    plain: bool,
    threads: int | None,
) -> ChosenModel | None:
    """The model of a bundle that a command line asks for.

    Args:
        model, quality, metric: what was given.
        needed: whether it must be a bundle.
        plain: whether files are to be coded without synchrony.
        threads: of one network.

    Returns:
        The model; ``None`` if torch has to code.

    Raises:
        ValueError: a bundle is needed, and there is none, or it cannot code so.
        ImportError: onnxruntime is needed, and missing.
    """
    from compressai.bitstream.chosen import chosen_bundle
    from compressai.runtime import bundle_file

    name = DEFAULT_MODEL if model is None else model
    metric = DEFAULT_METRIC if metric is None else metric
    try:
        found = chosen_bundle(
            *(name, quality, metric),
            default_quality=DEFAULT_QUALITY,
            plain=plain,
            threads=threads,
        )
    except ImportError:
        if needed:
            raise
        return None
    if found is None and needed:
        if plain:
            raise ValueError(f"--plain needs --engine torch for {name}, which codes with floats")
        wanted = DEFAULT_QUALITY if quality is None else quality
        raise ValueError(
            f"no bundle of {name}, quality {wanted}, {metric} is at "
            f"{bundle_file(name, wanted, metric)}: make it with compressai export --bundle, or "
            "encode with --engine torch"
        )
    return found


def encoding_bundles(
    model: str | None, metric: str | None, *, needed: bool, plain: bool, threads: int | None
) -> Ladder | None:
    """The models of bundles for a target, as :func:`encoding_bundle`.

    Raises:
        ValueError: bundles are needed, and are not at hand for all qualities, or cannot code so.
        ImportError: onnxruntime is needed, and missing.
    """
    from compressai.bitstream.chosen import ladder_of_bundles

    name = DEFAULT_MODEL if model is None else model
    metric = DEFAULT_METRIC if metric is None else metric
    try:
        found = ladder_of_bundles(name, metric, plain=plain, threads=threads)
    except ImportError:
        if needed:
            raise
        return None
    if found is None and needed:
        raise ValueError(
            f"a target needs a bundle of all qualities of {name}, which models of variable rate "
            "have; give a quality, or encode with --engine torch"
        )
    return found


def engine_name(net: Any) -> str:
    """``"runtime"`` or ``"torch"``."""
    from compressai.runtime import RuntimeModel

    return "runtime" if isinstance(net, RuntimeModel) else "torch"
