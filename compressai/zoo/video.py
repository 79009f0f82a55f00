# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Video models by name and quality: views of the rows."""

from __future__ import annotations

from typing import Any

from compressai.models.base import CompressionModel
from compressai.registry import EntryView
from compressai.zoo.build import entry_of, load_model, zoo_function

__all__ = ["model_architectures"]

model_architectures: EntryView[Any] = EntryView(
    lambda entry: entry.in_zoo and entry.video, lambda entry: entry.model
)


def _load_model(
    architecture: str, metric: str, quality: int, *args: Any, **kwargs: Any
) -> CompressionModel:
    entry = entry_of(architecture, model_architectures)
    return load_model(entry, metric, quality, *args, **kwargs)


def __getattr__(name: str) -> Any:
    return zoo_function(__name__, name, model_architectures)
