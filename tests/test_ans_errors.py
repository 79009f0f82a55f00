# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bad input to the entropy coder: exact error classes, damaged streams, and no half-done calls."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference_coder
import torch
from ans_strategies import INT32_MAX, INT32_MIN, Message, Tables, messages, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from compressai import ans

ROW = [0, 20000, 40000, 60000, 65536]
SMALL = ([ROW], [5], [-1])
STREAM = ans.RansEncoder().encode_with_indexes([0, 1, 9], [0, 0, 0], *SMALL)


def _generator() -> Any:
    yield 0


WRONG_TYPES = {
    "float": [0.0],
    "float array": np.zeros(1),
    "float32 array": np.zeros(1, np.float32),
    "half array": np.zeros(1, np.float16),
    "float tensor": torch.zeros(1),
    "half tensor": torch.zeros(1, dtype=torch.bfloat16),
    "complex array": np.zeros(1, complex),
    "float items in an array": np.array([0.0], object),
    "generator": _generator(),
    "set": {0},
    "dict": {0: 0},
    "None": None,
    "number": 0,
    "no dimension": np.int32(0),
    "array of no dimension": np.array(0),
    "tensor of no dimension": torch.tensor(0),
    "str": "0",
    "bytes": b"\0",
    "bytearray": bytearray(1),
    "None inside": [None],
    "str inside": ["0"],
    "list inside": [[0]],
    "matrix": np.zeros((1, 1), np.int32),
    "matrix tensor": torch.zeros((1, 1), dtype=torch.int32),
    "beyond int32": [2**31],
    "below int32": [-(2**31) - 1],
    "beyond int64": [2**64],
    "below int64": [-(2**64)],
    "int64 array beyond int32": np.array([2**31]),
    "uint32 array beyond int32": np.array([2**31], np.uint32),
    "uint64 array beyond int32": np.array([2**63], np.uint64),
    "int64 tensor beyond int32": torch.tensor([-(2**31) - 1]),
    "on another device": torch.zeros(1, dtype=torch.int32, device="meta"),
}


@pytest.mark.parametrize(
    ("position", "value"),
    [
        pytest.param(position, value, id=f"{argument}-{name}")
        for position, argument in enumerate(["symbols", "indexes", "cdfs", "sizes", "offsets"])
        for name, value in WRONG_TYPES.items()
        if not (argument == "cdfs" and name in ("matrix", "matrix tensor", "list inside"))
    ],
)
def test_wrong_types_are_type_errors(position: int, value: object) -> None:
    arguments = [[0], [0], *SMALL]
    arguments[position] = value
    with pytest.raises(TypeError):
        ans.RansEncoder().encode_with_indexes(*arguments)
    with pytest.raises(TypeError):
        ans.BufferedRansEncoder().encode_with_indexes(*arguments)
    if position > 0:
        with pytest.raises(TypeError):
            ans.RansDecoder().decode_with_indexes(STREAM, *arguments[1:])
    if position > 1:
        with pytest.raises(TypeError):
            ans.CdfTables(*arguments[2:])


@pytest.mark.parametrize(
    "stream",
    [STREAM.decode("latin-1"), memoryview(STREAM), np.frombuffer(STREAM, np.uint8), None, [0] * 8],
    ids=lambda stream: type(stream).__name__,
)
def test_a_stream_is_bytes_or_a_bytearray(stream: object) -> None:
    decoder = ans.RansDecoder()
    for call in (
        lambda: decoder.decode_with_indexes(stream, [0], *SMALL),
        lambda: decoder.set_stream(stream),
        lambda: ans.decode_batch([stream], np.zeros((1, 1), np.int32), ans.CdfTables(*SMALL)),
    ):
        with pytest.raises(TypeError, match="bytes"):
            call()
    assert decoder.decode_with_indexes(bytearray(STREAM), [0, 0, 0], *SMALL) == [0, 1, 9]


@pytest.mark.parametrize("count", [0, 1, 2, 4, 6])
def test_a_wrong_number_of_arguments_is_a_type_error(count: int) -> None:
    with pytest.raises(TypeError):
        ans.RansEncoder().encode_with_indexes(*([0], [0], *SMALL, None)[:count])


def test_classes_are_not_copyable() -> None:
    for cls in (ans.RansEncoder, ans.BufferedRansEncoder, ans.RansDecoder):
        with pytest.raises(TypeError):
            copy.copy(cls())


BAD_TABLES = {
    "a row of one entry": ([[0]], [1], [0]),
    "no entry": ([[]], [0], [0]),
    "negative size": ([ROW], [-1], [0]),
    "size beyond the row": ([ROW], [6], [0]),
    "size far beyond the row": ([ROW], [INT32_MAX], [0]),
    "size below the row's end": ([ROW], [4], [0]),
    "does not start with 0": ([[1, 65536]], [2], [0]),
    "negative start": ([[-1, 65536]], [2], [0]),
    "ends below 65536": ([[0, 65535]], [2], [0]),
    "ends above 65536": ([[0, 65537]], [2], [0]),
    "precision other than 16": ([[0, 2048, 4096]], [3], [0]),
    "frequency 0": ([[0, 9, 9, 65536]], [4], [0]),
    "frequency 0 at the start": ([[0, 0, 65536]], [3], [0]),
    "frequency 0 at the end": ([[0, 65536, 65536]], [3], [0]),
    "decreasing": ([[0, 9, 8, 65536]], [4], [0]),
    "differences that overflow": ([[0, INT32_MIN, 65536]], [3], [0]),
    "entries beyond 65536": ([[0, INT32_MAX, 65536]], [3], [0]),
    "values beyond int32": ([ROW], [5], [INT32_MAX - 1]),
    "second row": ([ROW, [0, 5]], [5, 2], [0, 0]),
    "sizes too short": ([ROW, ROW], [5], [0, 0]),
    "sizes too long": ([ROW], [5, 5], [0]),
    "offsets too short": ([ROW], [5], []),
    "offsets too long": ([ROW], [5], [0, 0]),
    "no rows but sizes": ([], [5], [0]),
}


@pytest.mark.parametrize("bad", BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables_are_value_errors(bad: tuple) -> None:
    for call in (
        lambda: ans.CdfTables(*bad),
        lambda: ans.RansEncoder().encode_with_indexes([0], [0], *bad),
        lambda: ans.BufferedRansEncoder().encode_with_indexes([0], [0], *bad),
        lambda: ans.RansDecoder().decode_with_indexes(STREAM, [0], *bad),
    ):
        with pytest.raises(ValueError):
            call()
    with contextlib.suppress(ValueError):  # rows of different lengths are no matrix
        matrix = np.array(bad[0], np.int32)
        with pytest.raises((ValueError, TypeError)):
            ans.CdfTables(matrix, *bad[1:])


def test_messages_name_argument_rule_and_value() -> None:
    with pytest.raises(ValueError, match=r"cdfs row 1 must end with 65536 .*, got 7"):
        ans.CdfTables([ROW, [0, 7]], [5, 2], [0, 0])
    with pytest.raises(ValueError, match=r"cdfs row 0 must increase strictly, got 9, 8"):
        ans.CdfTables([[0, 9, 8, 65536]], [4], [0])
    with pytest.raises(ValueError, match=r"indexes\[1\] must be in 0\.\.0, .*, got 3"):
        ans.RansEncoder().encode_with_indexes([0, 0], [0, 3], *SMALL)
    with pytest.raises(TypeError, match=r"symbols\[1\] must be an int32, got float"):
        ans.RansEncoder().encode_with_indexes([0, 0.5], [0, 0], *SMALL)
    with pytest.raises(TypeError, match=r"symbols\[0\] must be within int32, got 2147483648"):
        ans.RansEncoder().encode_with_indexes([2**31], [0], *SMALL)


@pytest.mark.parametrize("index", [-1, 1, 2**24, INT32_MAX, INT32_MIN])
def test_an_index_outside_of_the_tables_is_a_value_error(index: int) -> None:
    indexes = np.array([0, 0, index], np.int32)
    tables = ans.CdfTables(*SMALL)
    decoder = ans.RansDecoder()
    decoder.set_stream(STREAM)
    for call in (
        lambda: ans.RansEncoder().encode_with_indexes([0, 0, 0], indexes, tables),
        lambda: ans.BufferedRansEncoder().encode_with_indexes([0, 0, 0], indexes, tables),
        lambda: decoder.decode_with_indexes(STREAM, indexes, tables),
        lambda: decoder.decode_stream(indexes, tables),
    ):
        with pytest.raises(ValueError, match="indexes"):
            call()


def test_no_rows_leave_no_index() -> None:
    with pytest.raises(ValueError, match="indexes"):
        ans.RansEncoder().encode_with_indexes([0], [0], [], [], [])


@pytest.mark.parametrize(("symbols", "indexes"), [(2, 1), (1, 2), (0, 1), (1, 0)])
def test_symbols_and_indexes_must_be_equally_many(symbols: int, indexes: int) -> None:
    with pytest.raises(ValueError, match=f"{symbols} and {indexes}"):
        ans.RansEncoder().encode_with_indexes([0] * symbols, [0] * indexes, *SMALL)


def test_a_failed_append_leaves_the_queue_alone() -> None:
    encoder = ans.BufferedRansEncoder()
    encoder.encode_with_indexes([0, 1, 9], [0, 0, 0], *SMALL)
    with pytest.raises(ValueError):
        encoder.encode_with_indexes([0, 99, 0], [0, 0, 1], *SMALL)
    assert encoder.flush() == STREAM


def test_a_failed_call_leaves_the_stream_alone() -> None:
    decoder = ans.RansDecoder()
    decoder.set_stream(STREAM)
    assert decoder.decode_stream([0], *SMALL) == [0]
    for call in (
        lambda: decoder.decode_stream([0, 0, 1], *SMALL),
        lambda: decoder.decode_stream([0] * 100_000, *SMALL),
        lambda: decoder.set_stream(b"\0" * 8),
    ):
        with pytest.raises(ValueError):
            call()
    assert decoder.decode_stream([0, 0], *SMALL) == [1, 9]


def test_a_decoder_without_a_stream_refuses() -> None:
    with pytest.raises(ValueError, match="set_stream"):
        ans.RansDecoder().decode_stream([0], *SMALL)
    with pytest.raises(ValueError, match="set_stream"):
        _ = ans.RansDecoder().finished


@pytest.mark.parametrize("size", [*range(8), 9, 10, 11, 13])
def test_a_stream_of_impossible_size_is_a_value_error(size: int) -> None:
    stream = (STREAM * 2)[:size]
    with pytest.raises(ValueError, match=str(size)):
        ans.RansDecoder().decode_with_indexes(stream, [], *SMALL)
    with pytest.raises(ValueError, match=str(size)):
        ans.RansDecoder().set_stream(stream)


@pytest.mark.parametrize("state", [0, 1, 2**31 - 1])
def test_a_stream_of_impossible_state_is_a_value_error(state: int) -> None:
    stream = state.to_bytes(8, "little")
    with pytest.raises(ValueError, match=str(state)):
        ans.RansDecoder().set_stream(stream)


def test_decoding_beyond_the_end_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="ended before"):
        ans.RansDecoder().decode_with_indexes(STREAM, [0] * 100_000, *SMALL)


def test_symbols_left_over_are_found_only_on_demand() -> None:
    assert ans.RansDecoder().decode_with_indexes(STREAM, [0, 0], *SMALL) == [0, 1]
    with pytest.raises(ValueError, match="does not end"):
        ans.RansDecoder().decode_with_indexes(STREAM, [0, 0], *SMALL, check_end=True)
    decoder = ans.RansDecoder()
    decoder.set_stream(STREAM)
    decoder.decode_stream([0, 0], *SMALL)
    assert not decoder.finished


def _escaped(nibbles: list[int]) -> bytes:
    """A stream of one escape slot and these nibbles, which may be what no encoder writes."""
    state, words = 1 << 31, []
    for start, frequency, precision in reversed(
        [(60000, 5536, 16), *((nibble, 1, 4) for nibble in nibbles)]
    ):
        if state >= frequency << (63 - precision):
            words.append(state & 0xFFFFFFFF)
            state >>= 32
        state = (state // frequency << precision) + state % frequency + start
    words += [state >> 32, state & 0xFFFFFFFF]
    return b"".join(word.to_bytes(4, "little") for word in reversed(words))


def test_escapes_that_no_encoder_writes_are_value_errors() -> None:
    decode: Callable[..., list[int]] = ans.RansDecoder().decode_with_indexes
    assert decode(_escaped([1, 3]), [0], *SMALL, check_end=True) == [-3]
    too_many_digits = [[15] * 40 + [0], [15, 0], [10] + [1] * 10]
    beyond_int32 = [[9] + [15] * 9]
    leading_zero = [[1, 0], [2, 5, 0], [8] + [0] * 8]
    for nibbles in too_many_digits + beyond_int32 + leading_zero:
        with pytest.raises(ValueError, match="no encoder writes"):
            decode(_escaped(nibbles), [0], *SMALL)
    shifted = ([ROW], [5], [INT32_MAX - 2])
    with pytest.raises(ValueError, match="no encoder writes"):
        decode(_escaped([1, 2]), [0], *shifted)
    assert decode(_escaped([1, 1]), [0], *shifted) == [INT32_MAX - 3]


def _value_or_error(stream: bytes, indexes: list[int], model: Tables) -> None:
    """Decodes to what the plain Python coder finds, or is refused."""
    try:
        decoded = ans.RansDecoder().decode_with_indexes(stream, indexes, *model)
    except ValueError:
        return
    assert decoded == reference_coder.decode(stream, indexes, *model)


def _message_or_error(stream: bytes, indexes: list[int], model: Tables) -> None:
    """Is refused, or it is the stream of another message."""
    try:
        decoded = ans.RansDecoder().decode_with_indexes(stream, indexes, *model, check_end=True)
    except ValueError:
        return
    assert ans.RansEncoder().encode_with_indexes(decoded, indexes, *model) == stream


@given(messages(max_size=30))
def test_every_truncation_gives_values_or_a_value_error(message: Message) -> None:
    symbols, indexes, model = message
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, *model)
    for size in range(len(encoded)):
        _value_or_error(encoded[:size], indexes, model)
        _message_or_error(encoded[:size], indexes, model)


@settings(max_examples=300)
@given(messages(max_size=30), st.data())
def test_every_corruption_gives_values_or_a_value_error(
    message: Message, data: st.DataObject
) -> None:
    symbols, indexes, model = message
    encoded = bytearray(ans.RansEncoder().encode_with_indexes(symbols, indexes, *model))
    position = st.integers(0, len(encoded) - 1)
    for i, byte in data.draw(st.dictionaries(position, st.integers(1, 255), min_size=1)).items():
        encoded[i] ^= byte
    _value_or_error(bytes(encoded), indexes, model)
    _message_or_error(bytes(encoded), indexes, model)


def test_the_end_check_finds_damage_but_is_no_checksum() -> None:
    """A flip moves the state that must come out, unless it only swaps digits of an escape."""
    symbols, indexes = [0, 1, 0, 0, 1, 99], [0] * 6
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, *SMALL)
    found = 0
    for bit in range(8 * len(encoded)):
        damaged = bytearray(encoded)
        damaged[bit // 8] ^= 1 << bit % 8
        _message_or_error(bytes(damaged), indexes, Tables(*SMALL))
        try:
            ans.RansDecoder().decode_with_indexes(damaged, indexes, *SMALL, check_end=True)
        except ValueError:
            found += 1
    assert 0.8 < found / (8 * len(encoded)) < 1


@settings(max_examples=300)
@given(st.binary(max_size=60), tables(), st.data())
def test_random_streams_give_values_or_a_value_error(
    stream: bytes, model: Tables, data: st.DataObject
) -> None:
    row = st.integers(0, len(model.cdfs) - 1)
    indexes = data.draw(st.lists(row, max_size=40))
    _value_or_error(stream, indexes, model)
    _value_or_error(stream[: len(stream) // 4 * 4], indexes, model)


def test_sequences_that_change_while_they_are_read_do_no_harm() -> None:
    symbols: list[Any] = []

    class Shrinks:
        def __index__(self) -> int:
            symbols.clear()
            return 0

    symbols += [Shrinks(), 0, 0, 0]
    with pytest.raises(ValueError, match="1 and 4"):
        ans.RansEncoder().encode_with_indexes(symbols, [0] * 4, *SMALL)


def test_errors_inside_of_index_are_type_errors() -> None:
    class Fails:
        def __index__(self) -> int:
            raise RuntimeError

    with pytest.raises(TypeError, match=r"indexes\[0\]"):
        ans.RansEncoder().encode_with_indexes([0], [Fails()], *SMALL)
