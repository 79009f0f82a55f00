# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What symbols cost by the integer tables that they are coded with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["SymbolBits", "symbol_bits"]

# Of probabilities in tables, and of the digits behind an escape; see docs/bitstream.md.
_PRECISION = 16
_NIBBLE = 4


@dataclass(frozen=True)
class SymbolBits:
    """The price of some symbols.

    Attributes:
        bits: of all of them.
        symbols: how many there are.
        escapes: how many of them no table has a slot for.
        escape_bits: what these cost, which is part of ``bits``.
    """

    bits: float = 0.0
    symbols: int = 0
    escapes: int = 0
    escape_bits: float = 0.0

    def __add__(self, other: SymbolBits) -> SymbolBits:
        return SymbolBits(
            self.bits + other.bits,
            self.symbols + other.symbols,
            self.escapes + other.escapes,
            self.escape_bits + other.escape_bits,
        )


def symbol_bits(symbols: Any, rows: Any, tables: Sequence[Any]) -> SymbolBits:
    """Add up ``-log2`` of the probabilities that tables give symbols.

    Args:
        symbols: integers of any shape.
        rows: row of the tables for each, of the same number of elements.
        tables: ``(CdfTables,)``, or ``(cdfs, sizes, offsets)`` as coders take them.

    Returns:
        Their price, to the bit what an ideal coder would need.
    """
    values = np.asarray(symbols, dtype=np.int64).reshape(-1)
    index = np.asarray(rows, dtype=np.int64).reshape(-1)
    if not values.size:
        return SymbolBits()
    # Prepared tables are copied, and so taken apart, by what they were made of.
    cdfs, sizes, offsets = tables[0].__reduce__()[1] if len(tables) == 1 else tables
    used, index = np.unique(index, return_inverse=True)
    length = np.asarray([sizes[row] for row in used], dtype=np.int64)
    offset = np.asarray([offsets[row] for row in used], dtype=np.int64)
    cdf = np.zeros((len(used), int(length.max())), dtype=np.int64)
    for target, row, size in zip(cdf, used, length):
        target[:size] = np.asarray(cdfs[row])[:size]
    escape = length[index] - 2
    slot = values - offset[index]
    outside = (slot < 0) | (slot >= escape)
    place = np.where(outside, escape, slot)
    frequency = cdf[index, place + 1] - cdf[index, place]
    bits = _PRECISION - np.log2(frequency)
    excess = slot[outside]
    number = np.where(excess < 0, -2 * excess - 1, 2 * (excess - escape[outside]))
    digits = np.ceil(np.frexp(number.astype(np.float64))[1] / _NIBBLE)
    bits[outside] += _NIBBLE * (1 + digits)
    return SymbolBits(
        float(bits.sum()), values.size, int(outside.sum()), float(bits[outside].sum())
    )
