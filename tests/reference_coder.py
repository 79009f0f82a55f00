# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The entropy coder and the quantiser of probabilities in plain Python, to compare the native with.

Slow and without checks: they follow the definition of the format word by word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction

__all__ = ["decode", "encode", "quantize"]

Rows = Sequence[Sequence[int]]


def encode(
    symbols: Sequence[int],
    indexes: Sequence[int],
    cdfs: Rows,
    sizes: Sequence[int],
    offsets: Sequence[int],
    lanes: int = 1,
) -> bytes:
    """The stream of one message; with 4 lanes the interleaved one."""
    operations: list[tuple[int, int, int, int]] = []  # lane, start, frequency, precision
    for number, (symbol, row) in enumerate(zip(symbols, indexes)):
        lane = number % lanes
        value, escape = symbol - offsets[row], sizes[row] - 2
        slot = value if 0 <= value < escape else escape
        operations.append((lane, cdfs[row][slot], cdfs[row][slot + 1] - cdfs[row][slot], 16))
        if slot == escape:
            raw = -2 * value - 1 if value < 0 else 2 * (value - escape)
            digits = (raw.bit_length() + 3) // 4
            nibbles = [digits, *(raw >> 4 * i & 15 for i in range(digits))]
            operations += [(lane, nibble, 1, 4) for nibble in nibbles]
    states, words = [1 << 31] * lanes, []
    for lane, start, frequency, precision in reversed(operations):
        state = states[lane]
        if state >= frequency << (63 - precision):
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        states[lane] = (state // frequency << precision) + state % frequency + start
    if lanes > 1:
        states[0] |= 1 << 63
    for state in reversed(states):
        words += [state >> 32, state & 0xFFFFFFFF]
    return struct.pack(f"<{len(words)}I", *reversed(words))


def decode(
    encoded: bytes,
    indexes: Sequence[int],
    cdfs: Rows,
    sizes: Sequence[int],
    offsets: Sequence[int],
) -> list[int]:
    """The symbols of one message; StopIteration or ValueError if the stream is too short."""
    words: Iterator[int] = (word for (word,) in struct.iter_unpack("<I", encoded))
    states = [next(words) + (next(words) << 32)]
    if states[0] >> 63:
        states[0] -= 1 << 63
        states += [next(words) + (next(words) << 32) for _ in range(3)]

    def pop(cdf: Sequence[int], precision: int) -> int:
        state = states[lane]
        low = state & ((1 << precision) - 1)
        slot = max(s for s in range(len(cdf) - 1) if cdf[s] <= low)
        state = (cdf[slot + 1] - cdf[slot]) * (state >> precision) + low - cdf[slot]
        if state < 1 << 31:
            state = (state << 32) + next(words)
        states[lane] = state
        return slot

    symbols = []
    for number, row in enumerate(indexes):
        lane = number % len(states)
        value, escape = pop(cdfs[row][: sizes[row]], 16), sizes[row] - 2
        if value == escape:
            raw = sum(pop(range(17), 4) << 4 * i for i in range(pop(range(17), 4)))
            value = -(raw // 2) - 1 if raw % 2 else raw // 2 + escape
        symbols.append(value + offsets[row])
    return symbols


def quantize(pmf: Sequence[float], precision: int) -> list[int]:
    """The cumulative table of float32 probabilities, by the quadratic definition."""
    weights = [int(Fraction(p) * 2**precision + Fraction(1, 2)) for p in pmf]
    cdf = [0]
    for weight in weights:
        cdf.append(cdf[-1] + (weight << precision) // sum(weights))
    cdf[-1] = 1 << precision
    for i in range(len(pmf)):
        if cdf[i] != cdf[i + 1]:
            continue
        gaps = [cdf[j + 1] - cdf[j] for j in range(len(pmf))]
        donor = min((gap, j) for j, gap in enumerate(gaps) if gap > 1)[1]
        for j in range(donor + 1, i + 1):
            cdf[j] -= 1
        for j in range(i + 1, donor + 1):
            cdf[j] += 1
    return cdf
