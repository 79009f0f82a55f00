# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Hypothesis strategies for tables and messages of the entropy coder."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

__all__ = ["INT32_MAX", "INT32_MIN", "Message", "Tables", "messages", "tables"]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


class Tables(NamedTuple):
    """Arguments of ``compressai.ans.CdfTables``."""

    cdfs: list[list[int]]
    sizes: list[int]
    offsets: list[int]


class Message(NamedTuple):
    """Arguments of ``encode_with_indexes``, the tables apart."""

    symbols: list[int]
    indexes: list[int]
    tables: Tables


@st.composite
def _inner(draw: st.DrawFn) -> list[int]:
    """The entries between 0 and 65536: any, evenly spread, or all at one end (rare slots)."""
    kind = draw(st.sampled_from(["any", "even", "low", "high"]))
    if kind == "any":
        return sorted(draw(st.sets(st.integers(1, 65535), max_size=24)))
    count = draw(st.integers(0, 300))
    if kind == "even":
        return [65536 * (i + 1) // (count + 1) for i in range(count)]
    return [i + 1 if kind == "low" else 65536 - count + i for i in range(count)]


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    """One to four rows with padding of any values behind them."""
    cdfs, sizes, offsets = [], [], []
    for _ in range(draw(st.integers(1, 4))):
        row = [0, *draw(_inner()), 65536]
        sizes.append(len(row))
        cdfs.append(row + draw(st.lists(st.integers(INT32_MIN, INT32_MAX), max_size=3)))
        near = st.integers(-300, 300)
        offsets.append(draw(near | st.integers(INT32_MIN, INT32_MAX - len(row))))
    return Tables(cdfs, sizes, offsets)


@st.composite
def messages(draw: st.DrawFn, max_size: int = 60) -> Message:
    """Symbols within and around the rows, and some anywhere in int32."""
    model = draw(tables())
    symbols, indexes = [], []
    for _ in range(draw(st.integers(0, max_size))):
        row = draw(st.integers(0, len(model.cdfs) - 1))
        low, width = model.offsets[row], model.sizes[row]
        near = st.integers(max(low - 3, INT32_MIN), min(low + width + 3, INT32_MAX))
        symbols.append(draw(near | near | st.integers(INT32_MIN, INT32_MAX)))
        indexes.append(row)
    return Message(symbols, indexes, model)
