# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which gain a model of variable rate works with: that of a level, or one that the caller gives."""

from __future__ import annotations

import math
import operator

from torch import Tensor, nn

__all__ = ["LevelGains"]


class LevelGains(nn.Module):
    """For models that have a gain for each level.

    Attributes:
        Gain: the gains ``(levels,)``; their signs do not matter.
        levels: number of levels.
    """

    Gain: nn.Parameter
    levels: int

    def _input_scale(self, inputscale: float | Tensor) -> Tensor | None:
        """The gain that the caller gave, or ``None`` for 0."""
        if isinstance(inputscale, Tensor):
            if inputscale.numel() != 1:
                raise ValueError(f"inputscale must be one number, got {tuple(inputscale.shape)}")
            inputscale = inputscale.detach()
        value = float(inputscale)
        if not 0 <= value < math.inf:
            raise ValueError(f"inputscale must be positive, or 0 for Gain[s], got {value}")
        return self.Gain.new_tensor(value) if value else None

    def _level_gain(self, s: int) -> Tensor:
        return self.Gain[s].detach().abs()

    def _forward_gain(self, s: int, inputscale: float | Tensor) -> Tensor:
        given = None if self.training else self._input_scale(inputscale)
        level = min(max(operator.index(s), 0), self.levels - 1)
        return self._level_gain(level) if given is None else given

    def _coding_gain(self, s: int, inputscale: float | Tensor) -> Tensor:
        given = self._input_scale(inputscale)
        if given is None and not 0 <= operator.index(s) < self.levels:
            raise ValueError(f"s must be in 0 ... {self.levels - 1}, got {s}")
        return self._level_gain(s) if given is None else given
