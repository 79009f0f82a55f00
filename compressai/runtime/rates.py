# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles of variable rate: what latents are multiplied by at a quality."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

__all__ = ["Rates"]

# Binary digits of a factor, if the bundle does not tell: machines differ in double precision by far
# less than the last one.
_DIGITS = 16
# Above, softplus is the identity in double precision and would overflow.
_LINEAR = 20.0


class Rates:
    """The qualities of a bundle, and factors by quality.

    Args:
        told: the field ``rate`` of the manifest.
        arrays: float32 arrays by name.

    Attributes:
        low, high, default: qualities.
        nodes: qualities at which factors were learned, float64 ascending; they are interpolated
            between.

    Raises:
        KeyError, TypeError, ValueError: ``told`` and ``arrays`` do not fit.
    """

    def __init__(self, told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.low, self.high, self.default = (float(told[key]) for key in ("low", "high", "default"))
        self._factors = {}
        for name, one in told["factors"].items():
            middle, steps = arrays[one["middle"]], arrays[one["steps"]]
            if middle.ndim != 1 or steps.shape != (len(steps), len(middle)) or not len(steps):
                raise ValueError(f"factor {name}: arrays have shapes {middle.shape}, {steps.shape}")
            unit = 2 ** int(one.get("digits", _DIGITS))
            self._factors[name] = (middle, steps, -1 if one["falls"] else 1, unit)
        counts = {len(steps) for _, steps, _, _ in self._factors.values()}
        if len(counts) != 1 or not self.low <= self.default <= self.high or self.low == self.high:
            raise ValueError("factors differ in their nodes, or qualities are out of order")
        self.nodes = np.linspace(self.low, self.high, counts.pop() + 1)
        self.factor = lru_cache(maxsize=64)(self._factor)

    def _factor(self, name: str, quality: float) -> np.ndarray:
        """A factor, as :class:`compressai.models.lite.RateGains` has it, to the bit.

        Args:
            name: of the factor.
            quality: ``low`` to ``high``.

        Returns:
            float32 ``(1, C, 1, 1)``.
        """
        middle, rises, sign, unit = self._factors[name]
        rises = rises.astype(np.float64)
        rises = np.where(rises > _LINEAR, rises, np.log1p(np.exp(np.minimum(rises, _LINEAR))))
        count = len(rises)
        logs = np.concatenate((np.zeros_like(rises[:1]), rises.cumsum(0)))
        logs -= logs[count // 2].copy()
        left, share = self.place(quality)
        log = logs[left] + share * rises[left]
        mantissa, exponent = np.frexp(np.exp(middle.astype(np.float64) + sign * log))
        factor = np.ldexp(np.rint(mantissa * unit) / unit, exponent)
        return factor.astype(np.float32)[None, :, None, None]

    def place(self, quality: float) -> tuple[int, float]:
        """The node to the left of a quality, and the share of the way to the next."""
        count = len(self.nodes) - 1
        place = (quality - self.low) * (count / (self.high - self.low))
        left = int(min(max(np.floor(place), 0), count - 1))
        return left, place - left

    def guards(self, rows: np.ndarray, quality: float) -> np.ndarray:
        """The larger of the guards at both nodes around a quality.

        Args:
            rows: ``(nodes, C)``.
            quality: ``low`` to ``high``.

        Returns:
            ``(C,)``.
        """
        left, share = self.place(quality)
        return rows[left] if share == 0 else np.maximum(rows[left], rows[left + 1])
