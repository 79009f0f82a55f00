# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The rates that one model is trained for: one, or the levels of a variable-rate model."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = ["Level", "Levels"]

_LEVEL = 2  # tells these draws from those of SeededSamples


@dataclass(frozen=True)
class Level:
    """What a step of training is for.

    Attributes:
        criterion: the loss.
        arguments: those that the model is called with, besides the images.
        weight: what its loss is multiplied by. Losses grow with the weight of the distortion, and
            the highest rates would have all the say.
    """

    criterion: nn.Module
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    def losses(self, out: Mapping[str, Any], x: Tensor) -> dict[str, Tensor]:
        """What the criterion says, with the ``loss`` multiplied by the weight.

        Args:
            out: what the model gave.
            x: the images, ``(N, 3, H, W)``.
        """
        losses = self.criterion(out, x)
        return {**losses, "loss": self.weight * losses["loss"]}


class Levels:
    """The levels of a run, of which each step draws one.

    Args:
        levels: all of them. A single one is no choice, and draws nothing.
        seed: of the draws, which then depend on seed, epoch and step alone; ``None`` takes
            Python's default generator.

    Raises:
        ValueError: there are no levels.

    Source: Kamisli, Racapé and Choi 2024, Variable-rate learned image compression with
    multi-objective optimization and quantization-reconstruction offsets. The paper optimises the
    levels jointly; one that is drawn for each step has the same objective on average, and a step
    costs what it costs with a fixed rate.
    """

    def __init__(self, levels: Sequence[Level], seed: int | None = None) -> None:
        if not levels:
            raise ValueError("levels must not be empty")
        self.levels = tuple(levels)
        self.seed = seed

    def draw(self, epoch: int, step: int) -> Level:
        """The level of a step of an epoch; the same one in all processes that have the seed."""
        if len(self.levels) == 1:
            return self.levels[0]
        if self.seed is None:
            return random.choice(self.levels)
        sequence = np.random.SeedSequence([self.seed, epoch, step, _LEVEL])
        return self.levels[int(np.random.default_rng(sequence).integers(len(self.levels)))]
