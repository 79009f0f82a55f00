# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A model that was chosen, by whatever engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ChosenModel"]


@dataclass(frozen=True)
class ChosenModel:
    """A model that is ready to code, and what a file says about it; see ``CodedImage``.

    Attributes:
        net: a model of torch, or a :class:`~compressai.runtime.RuntimeModel`.
        model, quality, metric, random_weights: as in a file.
    """

    net: Any
    model: str
    quality: float | None
    metric: str | None
    random_weights: bool = False
