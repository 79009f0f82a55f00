# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Strings of synchronised coding: what the decoder must know to round as the encoder did, and then
the symbols, in one rANS stream. The layout is in ``docs/synchrony.md``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from compressai import _CXX, ans
from compressai.entropy_models._recording import note_symbols

__all__ = [
    "MAX_BLOCKS",
    "SHIFTS",
    "Exceptions",
    "Rounding",
    "StreamReader",
    "StreamWriter",
    "open_stream",
]

SHIFTS = 128
MAX_BLOCKS = 4096
_BLOCK_BITS_LIMIT = MAX_BLOCKS.bit_length()
# Mean ranks of the geometric distributions that ranks may be coded with.
_MEAN_RANKS = (0.05, 0.25, 1, 3, 8, 16, 28, 50)
_BLOCK_BITS, _RANK_TABLE, _COUNT, _BYTE, _FIRST_RANKS = 0, 1, 2, 3, 4


def _geometric(mean: float, size: int) -> np.ndarray:
    """Probabilities of 0 ... ``size - 1``, by multiplications only: the same bits everywhere."""
    ratio = mean / (1 + mean)
    return np.multiply.accumulate(np.r_[1 / (1 + mean), np.full(size - 1, ratio)])


@lru_cache(maxsize=1)
def _control_tables() -> Any:
    rows = [
        np.full(_BLOCK_BITS_LIMIT, 1.0 / _BLOCK_BITS_LIMIT),
        np.full(len(_MEAN_RANKS), 1.0 / len(_MEAN_RANKS)),
        _geometric(0.05, 64),
        np.full(256, 1.0 / 256),
        *(_geometric(mean, SHIFTS) for mean in _MEAN_RANKS),
    ]
    # The last probability of each is that of the escape.
    tables = [_CXX.pmf_to_quantized_cdf(np.r_[row, 0.0].astype(np.float32), 16) for row in rows]
    return ans.CdfTables(tables, [len(table) for table in tables], [0] * len(tables))


@dataclass
class Exceptions:
    """Elements whose result is told rather than computed, in ascending order."""

    elements: list[int] = field(default_factory=list)
    results: list[int] = field(default_factory=list)

    def apply(self, results: np.ndarray) -> None:
        """Put the results that are told in their places of a flat array."""
        if self.elements:
            if self.elements[-1] >= results.size:
                raise ValueError("the string is damaged: it tells of an element beyond the latent")
            results[self.elements] = self.results


@dataclass
class Rounding:
    """All that a decoder must be told to round the scales and values of one string.

    Attributes:
        ranks: int32, the shift of each block.
        scales: results of scales as numbers of levels.
        values: results of values as numbers of steps.
    """

    ranks: np.ndarray
    scales: Exceptions = field(default_factory=Exceptions)
    values: Exceptions = field(default_factory=Exceptions)


class StreamWriter:
    """Makes one string.

    Args:
        rounding: goes in front.
        one_block_a_position: the number of blocks is that of the positions, which both sides know.
        stream: a ``compressai.ans.BufferedRansEncoder`` to append to; ``None`` makes one.
    """

    def __init__(
        self, rounding: Rounding, one_block_a_position: bool = False, stream: Any | None = None
    ) -> None:
        self._encoder = ans.BufferedRansEncoder() if stream is None else stream
        ranks = np.ascontiguousarray(rounding.ranks, dtype=np.int32)
        mean = float(ranks.mean())
        table = min(
            range(len(_MEAN_RANKS)),
            key=lambda i: mean * np.log1p(1 / _MEAN_RANKS[i]) + np.log1p(_MEAN_RANKS[i]),
        )
        notes = _to_bytes(rounding)
        head = [] if one_block_a_position else [(len(ranks).bit_length() - 1, _BLOCK_BITS)]
        head += [(table, _RANK_TABLE), (len(notes), _COUNT)]
        self._write([value for value, _ in head], [row for _, row in head])
        self._write(ranks, np.full(ranks.size, _FIRST_RANKS + table, dtype=np.int32))
        self._write(list(notes), [_BYTE] * len(notes))

    def _write(self, values: Any, rows: Any) -> None:
        tables = _control_tables()
        note_symbols(None, values, rows, (tables,), told=True)
        self._encoder.encode_with_indexes(values, rows, tables)

    def append(self, symbols: np.ndarray, indexes: np.ndarray, tables: Any) -> None:
        """Append the symbols, int32 ``(n,)`` with their table rows."""
        note_symbols(None, symbols, indexes, (tables,))
        self._encoder.encode_with_indexes(symbols, indexes, tables)

    def finish(
        self, symbols: np.ndarray, indexes: np.ndarray, tables: Any, interleave: bool = False
    ) -> bytes:
        """As :meth:`append`, and give the string, interleaved if it is long and may be."""
        self.append(symbols, indexes, tables)
        return self._encoder.flush(interleave=interleave)


class StreamReader:
    """Takes one string apart.

    Args:
        string: what :class:`StreamWriter` made, or a ``compressai.ans.RansDecoder`` that stands
            where a writer began to append.
        elements: number of elements of the latent.
        blocks: number of blocks if both sides know it, else ``None``.

    Attributes:
        rounding: what was told.

    Raises:
        ValueError: the string is damaged.
    """

    def __init__(self, string: Any, elements: int, blocks: int | None = None) -> None:
        if isinstance(string, ans.RansDecoder):
            self._decoder = string
        else:
            self._decoder = ans.RansDecoder()
            self._decoder.set_stream(string)
        if blocks is None:
            blocks = 1 << self._checked(_BLOCK_BITS, _BLOCK_BITS_LIMIT)
        table = self._checked(_RANK_TABLE, len(_MEAN_RANKS))
        # An exception takes a handful of bytes.
        notes = self._checked(_COUNT, 32 * (elements + 1))
        ranks = self._read(np.full(blocks, _FIRST_RANKS + table, dtype=np.int32))
        if ranks.size and not 0 <= int(ranks.min()) <= int(ranks.max()) < SHIFTS:
            raise ValueError("the string is damaged: it has a shift that does not exist")
        read = self._read(np.full(notes, _BYTE, dtype=np.int32))
        self.rounding = _from_bytes(ranks, read.tolist(), elements)

    def _read(self, rows: np.ndarray) -> np.ndarray:
        return self._decoder.decode_stream(rows, _control_tables())

    def _checked(self, row: int, limit: int) -> int:
        value = int(self._read(np.array([row], dtype=np.int32))[0])
        if not 0 <= value < limit:
            raise ValueError(f"the string is damaged: {value} is beyond the limit of {limit}")
        return value

    def symbols(self, indexes: np.ndarray, tables: Any) -> np.ndarray:
        """The next symbols: int32, as many as there are ``indexes``."""
        return self._decoder.decode_stream(indexes, tables)

    def check_finished(self) -> None:
        """Raise ValueError unless the string ends here."""
        if not self._decoder.finished:
            raise ValueError("the string is damaged: it holds more than this latent")


class _LostStream:
    """Stands for a string that is lost: nothing was told, and all symbols are 0."""

    def __init__(self, blocks: int) -> None:
        self.rounding = Rounding(np.zeros(blocks, dtype=np.int32))

    def symbols(self, indexes: np.ndarray, tables: Any) -> np.ndarray:
        return np.zeros(len(indexes), dtype=np.int32)

    def check_finished(self) -> None:
        pass


def open_stream(
    string: Any | None, elements: int, blocks: int | None = None
) -> StreamReader | _LostStream:
    """A reader of a string; ``None`` stands for one that is lost.

    Args:
        string, elements, blocks: as :class:`StreamReader`.

    Raises:
        ValueError: the string is damaged.
    """
    if string is None:
        return _LostStream(1 if blocks is None else blocks)
    return StreamReader(string, elements, blocks)


def _to_bytes(rounding: Rounding) -> bytes:
    if not rounding.scales.elements and not rounding.values.elements:
        return b""
    numbers: list[int] = [len(rounding.scales.elements)]
    for exceptions in (rounding.scales, rounding.values):
        last = 0
        for element, result in zip(exceptions.elements, exceptions.results):
            numbers += [element - last, 2 * result if result >= 0 else -2 * result - 1]
            last = element
    return b"".join(map(_varint, numbers))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(128 | value & 127)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varints(data: Iterable[int]) -> list[int]:
    numbers, value, shift = [], 0, 0
    for byte in data:
        if not 0 <= byte < 256 or shift > 35:
            raise ValueError("the string is damaged: it has a number that is too large")
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    if shift:
        raise ValueError("the string is damaged: a number ends too early")
    return numbers


def _from_bytes(ranks: np.ndarray, data: Sequence[int], elements: int) -> Rounding:
    rounding = Rounding(ranks)
    if not data:
        return rounding
    count, *numbers = _varints(data)
    if len(numbers) % 2 or count > len(numbers) // 2:
        raise ValueError("the string is damaged: exceptions are not complete")
    for exceptions, part in (
        (rounding.scales, numbers[: 2 * count]),
        (rounding.values, numbers[2 * count :]),
    ):
        last = 0
        for gap, code in zip(part[::2], part[1::2]):
            last += gap
            result = -(code + 1) // 2 if code % 2 else code // 2
            if last >= elements or abs(result) > 2**30:
                raise ValueError("the string is damaged: an exception is out of range")
            exceptions.elements.append(last)
            exceptions.results.append(result)
    return rounding
