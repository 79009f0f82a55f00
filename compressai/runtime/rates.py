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
        whole: whether only whole qualities are there, each with factors of its own.
        nodes: qualities at which factors were learned, float64 ascending; unless they are all that
            is there, what lies between them is interpolated.

    Raises:
        KeyError, TypeError, ValueError: ``told`` and ``arrays`` do not fit.
    """

    def __init__(self, told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        self.low, self.high, self.default = (float(told[key]) for key in ("low", "high", "default"))
        self.whole = bool(told.get("whole", False))
        read = _read_rows if self.whole else _read_growth
        self._factors = {name: read(name, one, arrays) for name, one in told["factors"].items()}
        counts = {nodes for nodes, *_ in self._factors.values()}
        if len(counts) != 1 or not self.low <= self.default <= self.high or self.low == self.high:
            raise ValueError("factors differ in their nodes, or qualities are out of order")
        count = counts.pop()
        self.nodes = np.linspace(self.low, self.high, count)
        if self.whole and not (
            self.default in self.nodes and np.array_equal(self.nodes, np.arange(1, count + 1))
        ):
            raise ValueError("whole qualities must be numbered from 1, a row of factors for each")
        self.factor = lru_cache(maxsize=64)(self._row if self.whole else self._factor)

    def check(self, quality: float) -> float:
        """A quality that there is.

        Raises:
            ValueError: it is not there.
        """
        if not self.low <= quality <= self.high:
            raise ValueError(f"quality must be in {self.low:g} ... {self.high:g}, got {quality}")
        if self.whole and quality != round(quality):
            raise ValueError(f"quality must be a whole number, got {quality}")
        return float(quality)

    def _row(self, name: str, quality: float) -> np.ndarray:
        """As :meth:`_factor`, where each quality has a row."""
        _, rows = self._factors[name]
        return rows[round(quality) - 1][None, :, None, None]

    def _factor(self, name: str, quality: float) -> np.ndarray:
        """A factor, as :class:`compressai.models.lite.RateGains` has it, to the bit.

        Args:
            name: of the factor.
            quality: ``low`` to ``high``.

        Returns:
            float32 ``(1, C, 1, 1)``.
        """
        _, middle, rises, sign, unit = self._factors[name]
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


def _read_growth(
    name: str, told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[Any, ...]:
    """Number of nodes, and what a factor grows by from one to the next."""
    middle, steps = arrays[told["middle"]], arrays[told["steps"]]
    if middle.ndim != 1 or steps.shape != (len(steps), len(middle)) or not len(steps):
        raise ValueError(f"factor {name}: arrays have shapes {middle.shape}, {steps.shape}")
    unit = 2 ** int(told.get("digits", _DIGITS))
    return len(steps) + 1, middle, steps, -1 if told["falls"] else 1, unit


def _read_rows(
    name: str, told: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> tuple[Any, ...]:
    """Number of nodes, and the factor at each."""
    rows = arrays[told["values"]]
    if rows.ndim != 2:
        raise ValueError(f"factor {name}: its array has shape {rows.shape}")
    return len(rows), rows
