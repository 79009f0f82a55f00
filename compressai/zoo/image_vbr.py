# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Variable-rate image models by name, one model each for all rates: views of the rows."""

from __future__ import annotations

from typing import Any

from compressai.models.base import CompressionModel
from compressai.registry import EntryView, ModelEntry
from compressai.zoo.build import entry_of, load_model, zoo_function

__all__ = ["cfgs", "model_architectures"]


def _is_variable_rate(entry: ModelEntry) -> bool:
    return entry.in_zoo and not entry.video and entry.variable_rate


model_architectures: EntryView[Any] = EntryView(_is_variable_rate, lambda entry: entry.model)
# Constructor arguments N and M.
cfgs: EntryView[tuple[Any, ...]] = EntryView(
    _is_variable_rate, lambda entry: tuple(entry.arguments.values())
)


def _load_model(architecture: str, metric: str, *args: Any, **kwargs: Any) -> CompressionModel:
    entry = entry_of(architecture, model_architectures)
    return load_model(entry, metric, None, *args, **kwargs)


def __getattr__(name: str) -> Any:
    return zoo_function(__name__, name, model_architectures)
