# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image models of one rate by name and quality: tables of CompressAI as views of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressai.models.base import CompressionModel
from compressai.registry import ENTRIES, LAMBDAS, METRICS, EntryView, ModelEntry
from compressai.zoo.build import entry_of, load_model, zoo_function

__all__ = ["LAMBDAS", "METRICS", "cfgs", "entries", "model_architectures", "training_recipe"]


def _is_fixed_rate(entry: ModelEntry) -> bool:
    return entry.in_zoo and not entry.video and not entry.variable_rate


def _configurations(entry: ModelEntry) -> dict[int, tuple[int, ...] | dict[str, Any]]:
    """By quality: sizes N and M in order, else arguments and weights of the loss by name."""
    low, high = entry.qualities
    losses = entry.losses.get(METRICS[0], {})
    table: dict[int, tuple[int, ...] | dict[str, Any]] = {}
    for quality in entry.sizes or range(low, high + 1):
        sizes = entry.at(quality)
        if entry.needs_quality and sizes and set(sizes) <= {"N", "M"}:
            table[quality] = tuple(sizes.values())
        else:
            table[quality] = {**sizes, **losses.get(quality, {})}
    return table


model_architectures: EntryView[Any] = EntryView(_is_fixed_rate, lambda entry: entry.model)
cfgs: EntryView[dict[int, Any]] = EntryView(_is_fixed_rate, _configurations)


def _load_model(
    architecture: str, metric: str, quality: int | None, *args: Any, **kwargs: Any
) -> CompressionModel:
    entry = entry_of(architecture, model_architectures)
    return load_model(entry, metric, quality, *args, **kwargs)


def entries() -> Mapping[str, ModelEntry]:
    """The rows of the image models of one rate, by name."""
    return {name: ENTRIES[name] for name in model_architectures}


def training_recipe(architecture: str, quality: int, metric: str = "mse") -> dict[str, float]:
    """Weights of the loss that the published models of a quality were trained with.

    Args:
        architecture: name in ``image_models``.
        quality: one of the architecture's.
        metric: ``"mse"`` or ``"ms-ssim"``.

    Returns:
        ``{"lmbda"}``, for CCA ``{"lmbda", "beta"}``; empty if nothing was published for the metric.

    Raises:
        ValueError: unknown ``architecture``, ``quality`` or ``metric``.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {list(METRICS)}, got {metric!r}")
    entry = entry_of(architecture, model_architectures)
    if quality not in cfgs[architecture]:
        raise ValueError(
            f"quality of {architecture} must be one of {list(cfgs[architecture])}, got {quality!r}"
        )
    return dict(entry.losses.get(metric, {}).get(quality, {}))


def __getattr__(name: str) -> Any:
    return zoo_function(__name__, name, model_architectures)
