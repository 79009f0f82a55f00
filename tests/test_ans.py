# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The entropy coder: its format, what it accepts, and that it loses nothing.

The golden cases of the coder are in ``test_golden.py``, bad input in ``test_ans_errors.py``.
"""

from __future__ import annotations

import copy
import csv
import itertools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import reference_coder
import torch
from ans_strategies import INT32_MAX, INT32_MIN, Message, messages
from hypothesis import given, settings
from hypothesis import strategies as st

from compressai import ans

TABLES = Path(__file__).parent / "tables"
VECTORS = json.loads((TABLES / "rans_vectors.json").read_text())
SMALL = ([[0, 20000, 40000, 60000, 65536]], [5], [-1])


def _int32(values: object) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def _encode_buffered(message: Message, cut: int) -> bytes:
    encoder = ans.BufferedRansEncoder()
    for part in (slice(None, cut), slice(cut, None)):
        encoder.encode_with_indexes(message.symbols[part], message.indexes[part], *message.tables)
    return encoder.flush()


@pytest.mark.parametrize("vector", VECTORS, ids=[v["note"] for v in VECTORS])
def test_vectors_of_the_specification(vector: dict) -> None:
    tables = (vector["cdfs"], vector["cdf_sizes"], vector["offsets"])
    encoded = ans.RansEncoder().encode_with_indexes(vector["symbols"], vector["indexes"], *tables)
    assert encoded.hex() == vector["bytes_hex"]
    decoder = ans.RansDecoder()
    decoded = decoder.decode_with_indexes(encoded, vector["indexes"], *tables, check_end=True)
    assert decoded == vector["symbols"]


@given(messages())
def test_bytes_are_those_of_the_plain_python_coder(message: Message) -> None:
    symbols, indexes, tables = message
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, *tables)
    assert encoded == reference_coder.encode(symbols, indexes, *tables)


@given(messages(), st.data())
def test_every_way_to_code_a_message_gives_the_same(message: Message, data: st.DataObject) -> None:
    symbols, indexes, model = message
    prepared = ans.CdfTables(*model)
    cut = data.draw(st.integers(0, len(symbols)))
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, prepared)
    assert _encode_buffered(message, cut) == encoded
    for tables in (model, (prepared,)):
        arrays = _int32(symbols), torch.tensor(indexes, dtype=torch.int32)
        assert ans.RansEncoder().encode_with_indexes(*arrays, *tables) == encoded
        decoder = ans.RansDecoder()
        assert decoder.decode_with_indexes(encoded, indexes, *tables, check_end=True) == symbols
        decoder.set_stream(encoded)
        first = decoder.decode_stream(indexes[:cut], *tables)
        assert first + decoder.decode_stream(indexes[cut:], *tables) == symbols
        assert decoder.finished


@given(messages(), st.data())
def test_a_first_part_can_be_decoded_alone(message: Message, data: st.DataObject) -> None:
    symbols, indexes, model = message
    cut = data.draw(st.integers(0, len(symbols)))
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, *model)
    decoded = ans.RansDecoder().decode_with_indexes(encoded, indexes[:cut], *model)
    assert decoded == symbols[:cut]


@pytest.mark.parametrize("offset", [0, -1, 7, INT32_MIN, INT32_MAX - 2])
@pytest.mark.parametrize("exponent", range(32))
def test_symbols_of_every_magnitude_are_coded(exponent: int, offset: int) -> None:
    tables = ([[0, 30000, 50000, 65536], [0, 65536]], [4, 2], [offset, offset])
    size = 2**exponent
    symbols = [s for s in (-size - 1, -size, -size + 1, size - 1, size) if s <= INT32_MAX]
    symbols = [max(s, INT32_MIN) for s in symbols] + [offset]
    indexes = [i % 2 for i in range(len(symbols))]
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, *tables)
    assert encoded == reference_coder.encode(symbols, indexes, *tables)
    decoded = ans.RansDecoder().decode_with_indexes(encoded, indexes, *tables, check_end=True)
    assert decoded == symbols


def test_every_frequency_divides_exactly() -> None:
    """States at and around multiples of each frequency, up to the largest the encoder can have."""
    frequencies = [*range(1, 400), *range(400, 65536, 257), 32767, 32768, 32769, 65534, 65535]
    cdfs = [[0, f, 65536] for f in frequencies]
    rows = np.repeat(np.arange(len(cdfs)), 3)
    rng = np.random.default_rng(0)
    rng.shuffle(rows)
    symbols = rng.integers(0, 2, len(rows))
    tables = (cdfs, [3] * len(cdfs), [0] * len(cdfs))
    encoded = ans.RansEncoder().encode_with_indexes(symbols, rows, *tables)
    assert encoded == reference_coder.encode(symbols.tolist(), rows.tolist(), *tables)


@pytest.mark.parametrize("slots", [1, 2, 64, 2047, 2048, 2049, 30000, 65535, 65536])
def test_rows_of_every_width(slots: int) -> None:
    cdf = [65536 * i // slots for i in range(slots + 1)]
    tables = ans.CdfTables([cdf], [slots + 1], [-5])
    symbols = np.random.default_rng(slots).integers(-9, slots + 3, 3000).astype(np.int32)
    symbols[: min(slots, 3000)] = np.arange(min(slots, 3000)) - 5
    indexes = np.zeros(len(symbols), np.int32)
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, tables)
    decoded = ans.RansDecoder().decode_with_indexes(encoded, indexes, tables, check_end=True)
    np.testing.assert_array_equal(decoded, symbols)


def test_long_messages_equal_the_plain_python_coder() -> None:
    """Beyond the sizes of buffers and of calls that keep the interpreter lock."""
    rng = np.random.default_rng(5)
    symbols = rng.integers(-9, 9, 12_345).astype(np.int32)
    indexes = np.zeros_like(symbols)
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, *SMALL)
    assert encoded == reference_coder.encode(symbols.tolist(), indexes.tolist(), *SMALL)
    message = Message(symbols.tolist(), indexes.tolist(), SMALL)
    assert _encode_buffered(message, 5_000) == encoded
    decoded = ans.RansDecoder().decode_with_indexes(encoded, indexes, *SMALL, check_end=True)
    np.testing.assert_array_equal(decoded, symbols)


def test_an_empty_message_has_eight_bytes() -> None:
    empty = bytes.fromhex("0000008000000000")
    assert ans.RansEncoder().encode_with_indexes([], [], *SMALL) == empty
    assert ans.RansEncoder().encode_with_indexes([], [], [], [], []) == empty
    assert ans.BufferedRansEncoder().flush() == empty
    assert ans.RansDecoder().decode_with_indexes(empty, [], *SMALL, check_end=True) == []


def test_flush_empties_the_queue() -> None:
    encoder = ans.BufferedRansEncoder()
    encoder.encode_with_indexes([0, 1], [0, 0], *SMALL)
    first = encoder.flush()
    assert len(encoder.flush()) == 8
    encoder.encode_with_indexes([0, 1], [0, 0], *SMALL)
    assert encoder.flush() == first


def test_calls_with_different_tables_make_one_message() -> None:
    other = ans.CdfTables([[0, 1, 65536]], [3], [40])
    encoder = ans.BufferedRansEncoder()
    encoder.encode_with_indexes([1, 0], [0, 0], *SMALL)
    encoder.encode_with_indexes([40, -40], [0, 0], other)
    decoder = ans.RansDecoder()
    decoder.set_stream(encoder.flush())
    assert decoder.decode_stream([0, 0], *SMALL) == [1, 0]
    assert not decoder.finished
    assert decoder.decode_stream([0, 0], other) == [40, -40]
    assert decoder.finished


def test_set_stream_restarts_and_keeps_a_copy() -> None:
    encoded = bytearray(ans.RansEncoder().encode_with_indexes([1, 0, 1], [0] * 3, *SMALL))
    decoder = ans.RansDecoder()
    decoder.set_stream(encoded)
    assert decoder.decode_stream([0, 0], *SMALL) == [1, 0]
    decoder.set_stream(encoded)
    encoded[:] = bytes(len(encoded))
    assert decoder.decode_stream([0] * 3, *SMALL) == [1, 0, 1]


def test_decode_with_indexes_leaves_the_stream_alone() -> None:
    encoded = ans.RansEncoder().encode_with_indexes([1, 0, 1], [0] * 3, *SMALL)
    decoder = ans.RansDecoder()
    decoder.set_stream(encoded)
    decoder.decode_stream([0], *SMALL)
    decoder.decode_with_indexes(encoded, [0, 0, 0], *SMALL)
    assert decoder.decode_stream([0, 0], *SMALL) == [0, 1]


CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "numpy integers": lambda v: [np.int64(i) for i in v],
    "tensors of no dimension": lambda v: [torch.tensor(i) for i in v],
    **{
        f"numpy {dtype}": lambda v, dtype=dtype: np.array(v, dtype)
        for dtype in ("int8", "uint8", "int16", ">i4", "int32", "uint32", "int64", "uint64", "O")
    },
    **{
        str(dtype): lambda v, dtype=dtype: torch.tensor(v, dtype=dtype)
        for dtype in (torch.uint8, torch.int16, torch.int32, torch.int64)
    },
    "every second": lambda v: np.repeat(_int32(v), 2)[::2],
    "unaligned": lambda v: np.frombuffer(b"." + _int32(v).tobytes(), np.int32, offset=1),
    "reversed": lambda v: _int32(v[::-1])[::-1],
    "a column": lambda v: torch.tensor([v, v], dtype=torch.int32).T[:, 1],
}


@pytest.mark.parametrize("convert", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_of_integers(convert) -> None:
    symbols, indexes = [1, 2, 3, 0, 1, 100], [0, 1, 0, 1, 0, 0]
    cdfs, sizes, offsets = [[0, 9, 99, 65536], [0, 1, 65536]], [4, 3], [0, 2]
    want = ans.RansEncoder().encode_with_indexes(symbols, indexes, cdfs, sizes, offsets)
    vectors = [convert(v) for v in (symbols, indexes, sizes, offsets)]
    rows = [np.array(row, np.uint32) if i else row for i, row in enumerate(cdfs)]
    got = ans.RansEncoder().encode_with_indexes(*vectors[:2], rows, *vectors[2:])
    assert got == want
    assert list(ans.RansDecoder().decode_with_indexes(want, vectors[1], rows, *vectors[2:])) == (
        symbols
    )


def test_ranges_and_bools_are_integers() -> None:
    row = [[0, *range(1, 10), 65536]]
    want = ans.RansEncoder().encode_with_indexes([0, 1, 2], [0, 0, 0], row, [11], [0])
    got = ans.RansEncoder().encode_with_indexes(range(3), [False] * 3, row, (11,), [False])
    assert got == want
    bools = np.zeros(3, bool), torch.zeros(3, dtype=torch.bool)
    for indexes in bools:
        assert ans.RansEncoder().encode_with_indexes(range(3), indexes, row, [11], [0]) == want


@pytest.mark.parametrize(
    "convert",
    [
        np.array,
        torch.tensor,
        lambda rows: np.asfortranarray(_int32(rows)),
        lambda rows: torch.tensor(rows, dtype=torch.int32).T.contiguous().T,
        lambda rows: np.repeat(_int32(rows), 2, axis=1)[:, ::2],
        lambda rows: [np.array(row, np.int16) if max(row) < 2**15 else row for row in rows],
        lambda rows: tuple(torch.tensor(row) for row in rows),
    ],
)
def test_containers_of_rows(convert) -> None:
    cdfs = [[0, 9, 99, 65536], [0, 1, 65536, -7]]
    want = ans.RansEncoder().encode_with_indexes([1, 2], [0, 1], cdfs, [4, 3], [0, 2])
    got = ans.RansEncoder().encode_with_indexes([1, 2], [0, 1], convert(cdfs), [4, 3], [0, 2])
    assert got == want


def test_read_only_memory_is_accepted() -> None:
    symbols = _int32([0, 1, 2])
    symbols.flags.writeable = False
    want = ans.RansEncoder().encode_with_indexes([0, 1, 2], [0] * 3, *SMALL)
    assert ans.RansEncoder().encode_with_indexes(symbols, [0] * 3, *SMALL) == want


def test_the_result_is_an_array_for_an_array_of_indexes_else_a_list() -> None:
    encoded = ans.RansEncoder().encode_with_indexes([0, 1], [0, 0], *SMALL)
    decoder = ans.RansDecoder()
    for indexes in (_int32([0, 0]), np.zeros(2, np.int64), torch.zeros(2, dtype=torch.int32)):
        decoder.set_stream(encoded)
        for decoded in (
            decoder.decode_with_indexes(encoded, indexes, *SMALL),
            decoder.decode_stream(indexes, *SMALL),
        ):
            assert isinstance(decoded, np.ndarray)
            assert decoded.dtype == np.int32
            assert decoded.tolist() == [0, 1]
    for indexes in ([0, 0], (0, 0)):
        decoded = decoder.decode_with_indexes(encoded, indexes, *SMALL)
        assert type(decoded) is list
        assert {type(value) for value in decoded} == {int}


def test_keywords_name_the_arguments() -> None:
    cdfs, sizes, offsets = SMALL
    encoded = ans.RansEncoder().encode_with_indexes(
        symbols=[1], indexes=[0], cdfs=cdfs, cdfs_sizes=sizes, offsets=offsets
    )
    tables = ans.CdfTables(cdfs=cdfs, cdfs_sizes=sizes, offsets=offsets)
    decoder = ans.RansDecoder()
    assert decoder.decode_with_indexes(encoded=encoded, indexes=[0], tables=tables) == [1]


def test_copies_of_tables_code_the_same() -> None:
    tables = ans.CdfTables(*SMALL)
    want = ans.RansEncoder().encode_with_indexes([1, 70], [0, 0], tables)
    copies = [copy.copy(tables), copy.deepcopy(tables), pickle.loads(pickle.dumps(tables))]
    for other in copies:
        assert ans.RansEncoder().encode_with_indexes([1, 70], [0, 0], other) == want
        assert len(other) == 1


def test_gaussian_tables_take_little_memory() -> None:
    with (TABLES / "gaussian_default_cdf.tsv").open() as file:
        lines = list(csv.reader(file, delimiter="\t"))[1:]
    frequencies = [[int(f) for f in line[-1].split()] for line in lines]
    cdfs = [[0, *itertools.accumulate(row)] for row in frequencies]
    tables = ans.CdfTables(cdfs, [len(row) for row in cdfs], [int(line[-2]) for line in lines])
    assert len(tables) == 64
    assert tables.nbytes < 500_000


def test_modules_carry_their_public_names() -> None:
    assert ans.__name__ == "compressai.ans"
    public = {name for name in dir(ans) if not name.startswith("_")}
    assert public == {
        "BufferedRansEncoder", "CdfTables", "RansDecoder", "RansEncoder",
        "decode_batch", "encode_batch",
    }  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.integers(INT32_MIN, INT32_MAX), max_size=8), st.integers(INT32_MIN, INT32_MAX))
def test_a_table_without_any_value_codes_every_integer(symbols: list[int], offset: int) -> None:
    tables = ([[0, 65536]], [2], [offset])
    indexes = [0] * len(symbols)
    encoded = ans.RansEncoder().encode_with_indexes(symbols, indexes, *tables)
    decoded = ans.RansDecoder().decode_with_indexes(encoded, indexes, *tables, check_end=True)
    assert decoded == symbols
