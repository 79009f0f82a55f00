# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latents on arrays: rows of scales, the grid of synchronised coding, strings and back.

This is the only place that decides what is written. Torch's entropy models and coding without torch
both call it; arrays of the items of a batch are ``(N, C, P)``, ``P`` positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compressai import _CXX
from compressai.entropy_models._sync_stream import (
    MAX_BLOCKS,
    Exceptions,
    Rounding,
    StreamWriter,
    open_stream,
)

__all__ = [
    "DEFAULT_TOLERANCE",
    "SLOPE",
    "STEP",
    "Levels",
    "Plan",
    "Planner",
    "PreparedScales",
    "check_level",
    "decode_symbols",
    "level_numbers",
    "settle",
    "sync_rows",
    "values_of",
    "write_plans",
]

DEFAULT_TOLERANCE = 2e-5
# Values that later networks see are multiples of this.
STEP = 0.125
# Guards grow with the magnitude m of what they guard, by 1 + SLOPE * m: so does rounding error.
SLOPE = 0.5


class PreparedScales:
    """A scale table as the native code takes it.

    Args:
        table: ascending scales, float32 ``(rows,)``.
        bound: scales are at least that.

    Attributes:
        table: as given.
        first: the row of the bound, the lowest in use.
        native: the table as ``compressai._CXX.ScaleLevels``.
        levels: the rows that synchronised coding uses, and these as ``ScaleLevels``.

    Raises:
        ValueError: the table does not ascend, or has scales that are not positive.
    """

    def __init__(self, table: np.ndarray, bound: float) -> None:
        self.table = table
        self.first = int(np.searchsorted(self.table[:-1], bound))
        self.native = _CXX.ScaleLevels(self.table)

    @cached_property
    def levels(self) -> tuple[np.ndarray, Any]:
        rows = sync_rows(self.table, self.first)
        return rows, _CXX.ScaleLevels(self.table[rows])


# Below these two scales, levels of synchronised coding that are closer than the ratio are left out.
# Nearly all symbols are 0 there, so a coarser scale costs next to nothing, and thresholds would be
# close to each other.
_FIRST_LEVEL = 0.141
_SPARSE_BELOW = 0.19
_SPARSE_RATIO = 1.2


def sync_rows(table: np.ndarray, first: int = 0) -> np.ndarray:
    """Rows of a scale table that synchronised coding uses.

    Args:
        table: ascending scales, float32.
        first: no row below it.

    Returns:
        int32, ascending.
    """
    scales = table.astype(np.float64)
    usable = range(first, len(scales))
    low = [row for row in usable if scales[row] <= _FIRST_LEVEL]
    rows = [low[-1] if low else first]
    for row in usable:
        least = min(_SPARSE_BELOW, _SPARSE_RATIO * scales[rows[-1]])
        if row > rows[-1] and scales[row] >= least:
            rows.append(row)
    return np.array(rows, dtype=np.int32)


@dataclass(frozen=True)
class Levels:
    """Levels that scales are rounded to.

    Attributes:
        rows: their rows in the tables, int32.
        native: the levels as ``compressai._CXX.ScaleLevels``.
        tables: the tables as ``compressai.ans.CdfTables``.
    """

    rows: np.ndarray
    native: Any
    tables: Any


@dataclass(frozen=True)
class Plan:
    """What an encoder does with one item of a latent.

    Attributes:
        rounding: goes in front of the symbols.
        rows: the table row of each scale, int32 ``(C * P,)``.
        steps: values as multiples of :data:`STEP`, int32 ``(C * P,)``; empty without values.
    """

    rounding: Rounding
    rows: np.ndarray
    steps: np.ndarray


class Planner:
    """Chooses the shifts of parts of a latent.

    Args:
        levels: of its scales.
        scale_gains, value_gains: how much larger the deviation of its parameters can be than that
            of one network, float ``(C,)``; ``None`` if no values are rounded.
        tolerance: how much an output of a network may differ between encoder and decoder.
    """

    def __init__(
        self,
        levels: Levels,
        scale_gains: np.ndarray,
        value_gains: np.ndarray | None,
        tolerance: float,
    ) -> None:
        self.levels = levels
        self._scale_guards = _guards(scale_gains, tolerance)
        self._value_guards = None if value_gains is None else _guards(value_gains, tolerance)

    def plan(
        self, scales: np.ndarray, values: np.ndarray | None, max_blocks: int = MAX_BLOCKS
    ) -> Plan:
        """What to do with an item.

        Args:
            scales: float32 ``(C, P)``.
            values: float32 ``(C, P)`` or ``None``.
            max_blocks: largest number of blocks.

        Raises:
            ValueError: scales or values are not finite.
        """
        ranks, odd_scales, odd_values = _CXX.plan_sync(
            scales,
            values,
            self.levels.native,
            STEP,
            self._scale_guards,
            None if values is None else self._value_guards,
            SLOPE,
            max_blocks,
        )
        numbers = _CXX.round_scales(scales, self.levels.native, ranks)
        rounding = Rounding(ranks, _told(odd_scales, numbers))
        steps = np.empty(0, dtype=np.int32)
        if values is not None:
            steps = _CXX.round_values(values, STEP, ranks)
            rounding.values = _told(odd_values, steps)
        return Plan(rounding, self.levels.rows.take(numbers), steps)


def _guards(gains: np.ndarray, tolerance: float) -> np.ndarray:
    return (gains.astype(np.float64) * tolerance).astype(np.float32)


def _told(elements: np.ndarray, results: np.ndarray) -> Exceptions:
    return (
        Exceptions(elements.tolist(), results[elements].tolist()) if elements.size else Exceptions()
    )


def write_plans(
    symbols: np.ndarray, plans: Sequence[Plan], tables: Any, interleave: bool = False
) -> list[bytes]:
    """The strings of a latent.

    Args:
        symbols: int32 ``(N, C, P)``.
        plans: one an item.
        tables: of the levels.
        interleave: long strings may be interleaved.
    """
    return [
        StreamWriter(plan.rounding).finish(item.reshape(-1), plan.rows, tables, interleave)
        for item, plan in zip(symbols, plans)
    ]


def decode_symbols(
    strings: Sequence[bytes | None], scales: np.ndarray, levels: Levels
) -> tuple[np.ndarray, list[Rounding]]:
    """The symbols of a latent, and how the encoder rounded.

    Args:
        strings: one an item; ``None`` for one that is lost, whose symbols are taken to be 0.
        scales: float32 ``(N, C, P)``.
        levels: of the scales.

    Returns:
        int32 ``(N, C * P)``, and one rounding an item.

    Raises:
        ValueError: a string is damaged.
    """
    roundings, symbols = [], []
    for string, item in zip(strings, scales):
        reader = open_stream(string, item.size)
        numbers = level_numbers(levels, item, reader.rounding)
        symbols.append(reader.symbols(levels.rows.take(numbers), levels.tables))
        reader.check_finished()
        roundings.append(reader.rounding)
    return _batch(symbols), roundings


def level_numbers(levels: Levels, scales: np.ndarray, rounding: Rounding) -> np.ndarray:
    """Scales rounded to numbers of levels, as the encoder did it."""
    numbers = _CXX.round_scales(scales, levels.native, rounding.ranks)
    for number in rounding.scales.results:
        check_level(number, levels)
    rounding.scales.apply(numbers)
    return numbers


def check_level(number: int, levels: Levels) -> None:
    """Raise ValueError for a number that is not of a level."""
    if not 0 <= number < len(levels.rows):
        raise ValueError("the string is damaged: it tells of a scale that does not exist")


def settle(values: np.ndarray, roundings: Sequence[Rounding]) -> np.ndarray:
    """The values of the encoder, bit for bit.

    Args:
        values: what the symbols stand for, as computed here, float32 ``(N, C, P)``.
        roundings: how the encoder rounded, one an item.

    Returns:
        float32 ``(N, C * P)``.

    Raises:
        ValueError: the values are not finite, or a string was damaged.
    """
    steps = []
    for item, rounding in zip(values, roundings):
        cells = _CXX.round_values(item, STEP, rounding.ranks)
        rounding.values.apply(cells)
        steps.append(cells)
    return values_of(steps)


def values_of(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Values of the steps of the items of a batch, float32."""
    values = _batch(steps).astype(np.float32)
    values *= np.float32(STEP)
    return values


def _batch(items: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of the items of a batch as one; without a copy if there is one item."""
    return items[0][None] if len(items) == 1 else np.stack(items)
