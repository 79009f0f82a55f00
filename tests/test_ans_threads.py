# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The entropy coder with batches and threads: results never depend on who codes when."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from ans_strategies import Message, messages
from hypothesis import given
from hypothesis import strategies as st

from compressai import ans

SMALL = ans.CdfTables([[0, 20000, 40000, 60000, 65536], [0, 60000, 65535, 65536]], [5, 4], [-1, 0])
# Beyond the size of calls that keep the interpreter lock, and enough for several threads.
LONG = 20_000


def _batch(items: int, count: int = LONG) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    rng = np.random.default_rng(items)
    symbols = rng.integers(-3, 4, (items, count)).astype(np.int32)
    indexes = rng.integers(0, 2, (items, count)).astype(np.int32)
    encoder = ans.RansEncoder()
    strings = [encoder.encode_with_indexes(*row, SMALL) for row in zip(symbols, indexes)]
    return symbols, indexes, strings


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 8, 100])
@pytest.mark.parametrize(("items", "count"), [(1, LONG), (2, LONG), (5, LONG), (7, 3), (3, 0)])
def test_a_batch_is_coded_as_its_rows_are(items: int, count: int, threads: int) -> None:
    symbols, indexes, strings = _batch(items, count)
    assert ans.encode_batch(symbols, indexes, SMALL, threads=threads) == strings
    decoded = ans.decode_batch(strings, indexes, SMALL, threads=threads, check_end=True)
    assert decoded.dtype == np.int32
    np.testing.assert_array_equal(decoded, symbols)


@given(messages(max_size=40), st.integers(1, 5), st.randoms(use_true_random=False))
def test_a_batch_of_any_messages(message: Message, items: int, random) -> None:
    tables = ans.CdfTables(*message.tables)
    pairs = list(zip(message.symbols, message.indexes))
    rows = [random.sample(pairs, len(pairs)) for _ in range(items)]
    matrix = np.array(rows, np.int64).reshape(items, len(pairs), 2)
    symbols, indexes = matrix[..., 0], matrix[..., 1]
    strings = ans.encode_batch(symbols, indexes, tables)
    encoder = ans.RansEncoder()
    assert strings == [encoder.encode_with_indexes(*row, tables) for row in zip(symbols, indexes)]
    np.testing.assert_array_equal(ans.decode_batch(strings, indexes, tables), symbols)


def test_a_batch_may_be_tensors_or_views() -> None:
    symbols, indexes, strings = _batch(4, 50)
    assert ans.encode_batch(torch.tensor(symbols), torch.tensor(indexes), SMALL) == strings
    assert ans.encode_batch(np.asfortranarray(symbols), indexes.astype(np.int64), SMALL) == strings
    decoded = ans.decode_batch(tuple(map(bytearray, strings)), torch.tensor(indexes), SMALL)
    np.testing.assert_array_equal(decoded, symbols)


def test_no_item_makes_an_empty_batch() -> None:
    empty = np.zeros((0, 5), np.int32)
    assert ans.encode_batch(empty, empty, SMALL) == []
    assert ans.decode_batch([], empty, SMALL).shape == (0, 5)


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_name_the_first_item_that_fails(threads: int) -> None:
    symbols, indexes, strings = _batch(5)
    damaged = [strings[0], strings[1], strings[2][:400], strings[3], b""]
    with pytest.raises(ValueError, match="batch item 2: the stream ended"):
        ans.decode_batch(damaged, indexes, SMALL, threads=threads)
    extended = [strings[0], *(string + bytes(4) for string in strings[1:])]
    with pytest.raises(ValueError, match="batch item 1: the stream does not end"):
        ans.decode_batch(extended, indexes, SMALL, threads=threads, check_end=True)
    indexes[3, 7] = 2
    with pytest.raises(ValueError, match=r"batch item 3: indexes\[7\]"):
        ans.encode_batch(symbols, indexes, SMALL, threads=threads)


def test_arguments_of_a_batch_must_fit() -> None:
    symbols, indexes, strings = _batch(3, 10)
    for call in (
        lambda: ans.encode_batch(symbols[:2], indexes, SMALL),
        lambda: ans.encode_batch(symbols[:, :5], indexes, SMALL),
        lambda: ans.encode_batch(symbols, indexes, SMALL, threads=-1),
        lambda: ans.decode_batch(strings[:2], indexes, SMALL),
        lambda: ans.decode_batch(strings, indexes, SMALL, threads=-1),
    ):
        with pytest.raises(ValueError):
            call()
    for call in (
        lambda: ans.encode_batch(symbols.tolist(), indexes, SMALL),
        lambda: ans.encode_batch(symbols[0], indexes[0], SMALL),
        lambda: ans.encode_batch(symbols.astype(np.float32), indexes, SMALL),
        lambda: ans.encode_batch(symbols, indexes, None),
        lambda: ans.decode_batch(strings, indexes[0], SMALL),
        lambda: ans.decode_batch(strings[0], indexes, SMALL),
        lambda: ans.decode_batch(iter(strings), indexes, SMALL),
        lambda: ans.decode_batch([1, 2, 3], indexes, SMALL),
    ):
        with pytest.raises(TypeError):
            call()


def test_threads_share_tables_and_a_stateless_coder() -> None:
    symbols, indexes, strings = _batch(16)
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()

    def code(item: int) -> bool:
        encoded = encoder.encode_with_indexes(symbols[item], indexes[item], SMALL)
        decoded = decoder.decode_with_indexes(encoded, indexes[item], SMALL, check_end=True)
        return encoded == strings[item] and bool((decoded == symbols[item]).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(code, range(16)))


@pytest.mark.parametrize("count", [5, LONG])
def test_threads_may_append_to_one_queue(count: int) -> None:
    """Whole calls follow each other in some order; equal calls make every order the same."""
    symbols, indexes, _ = _batch(1, count)
    shared, alone = ans.BufferedRansEncoder(), ans.BufferedRansEncoder()
    calls = 12

    def append(encoder: ans.BufferedRansEncoder) -> None:
        encoder.encode_with_indexes(symbols[0], indexes[0], SMALL)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, [shared] * calls))
    for _ in range(calls):
        append(alone)
    assert shared.flush() == alone.flush()


@pytest.mark.parametrize("count", [5, LONG])
def test_threads_may_read_one_stream(count: int) -> None:
    """Each call takes the next symbols; together they take all, each once."""
    calls = 12
    values = np.repeat(np.arange(calls, dtype=np.int32), count)
    indexes = np.zeros(count, np.int32)
    encoded = ans.RansEncoder().encode_with_indexes(values, np.zeros_like(values), SMALL)
    decoder = ans.RansDecoder()
    decoder.set_stream(encoded)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda _: decoder.decode_stream(indexes, SMALL), range(calls)))
    assert all((part == part[0]).all() for part in parts)
    assert sorted(part[0] for part in parts) == list(range(calls))
    assert decoder.finished


def test_threads_may_restart_a_stream_that_others_read() -> None:
    symbols, indexes, strings = _batch(2)
    decoder = ans.RansDecoder()
    decoder.set_stream(strings[0])

    def use(item: int) -> None:
        if item % 3 == 0:
            decoder.set_stream(strings[item % 2])
            return
        try:
            decoder.decode_stream(indexes[0], SMALL)
        except ValueError:
            assert item % 3

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, range(60)))
    decoder.set_stream(strings[1])
    np.testing.assert_array_equal(decoder.decode_stream(indexes[1], SMALL), symbols[1])
