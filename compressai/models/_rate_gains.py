# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Gains that grow or fall with the quality."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["HIGHEST_QUALITY", "RateGains"]

HIGHEST_QUALITY = 100


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))


class RateGains(nn.Module):
    """A gain for each channel and quality, which grows with quality by its structure.

    Gains are learned at some qualities and interpolated between them: their logarithm is linear.
    From one to the next, the logarithm of each channel grows by a softplus.

    Args:
        channels: number of gains at a quality.
        nodes: number of qualities at which they are learned, evenly spaced from 0 to 100.
        rise: natural logarithm of last gain over first gain to begin with.
        falls: gains that shrink with quality instead.

    Attributes:
        digits: binary digits of what :meth:`exact` gives.

    Raises:
        ValueError: fewer than two nodes.

    Source: interpolation, Cui et al. 2021, "Asymmetric gained deep image compression with
    continuous rate adaptation", eq. 7.
    """

    def __init__(self, channels: int, nodes: int, rise: float, *, falls: bool = False) -> None:
        super().__init__()
        if nodes < 2:
            raise ValueError(f"nodes must be at least 2, got {nodes}")
        self.sign = -1 if falls else 1
        self.digits = 16
        step = rise / (nodes - 1)
        self.middle = nn.Parameter(torch.zeros(channels))
        self.steps = nn.Parameter(torch.full((nodes - 1, channels), _inverse_softplus(step)))

    def forward(self, quality: Tensor) -> Tensor:
        """Gains.

        Args:
            quality: ``(N,)``, 0 to 100.

        Returns:
            ``(N, C, 1, 1)``, positive.
        """
        return self._gains(self.middle, self.steps, quality.to(self.steps))

    @torch.no_grad()
    def exact(self, quality: Tensor) -> Tensor:
        """The same without gradient, rounded so that all machines get the same bits.

        They are computed in double precision, where machines differ in the last bit, and rounded
        to ``digits`` bits, which takes that difference away but in one case out of some hundred
        million.

        Args and result as :meth:`forward`.
        """
        values = (self.middle, self.steps, quality)
        gains = self._gains(*(value.detach().cpu().double() for value in values))
        mantissa, exponent = torch.frexp(gains)
        unit = 2**self.digits
        return torch.ldexp((mantissa * unit).round() / unit, exponent).to(self.steps)

    def _gains(self, middle: Tensor, steps: Tensor, quality: Tensor) -> Tensor:
        steps = F.softplus(steps)
        count = steps.size(0)
        logs = torch.cat((torch.zeros_like(steps[:1]), steps.cumsum(0)))
        logs = logs - logs[count // 2]
        place = quality * (count / HIGHEST_QUALITY)
        left = place.floor().clamp(0, count - 1)
        share = (place - left)[:, None]
        left = left.long()
        log = logs[left] + share * steps[left]
        return (middle + self.sign * log).exp()[:, :, None, None]
