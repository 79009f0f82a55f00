# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Quantisation of probabilities: the integers of the definition, whatever the algorithm."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import reference_coder
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressai import _CXX

TABLES = Path(__file__).parent / "tables"
VECTORS = json.loads((TABLES / "pmf_vectors.json").read_text())

quantize = _CXX.pmf_to_quantized_cdf

float32 = st.floats(0, 1, width=32)
# Few different values, so that many are equal, and many that get no frequency of their own.
coarse = st.sampled_from([0.0, 1e-9, 1e-5, 2**-17, 2**-16, 0.01, 0.3, 1.0]).map(
    lambda p: float(np.float32(p))
)
pmfs = st.lists(float32, min_size=1, max_size=40) | st.lists(coarse, min_size=1, max_size=150)


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors_of_the_specification(vector: dict) -> None:
    assert quantize(vector["pmf"], vector["precision"]) == vector["cdf"]


@settings(max_examples=500)
@given(pmfs, st.integers(0, 20))
def test_tables_are_those_of_the_quadratic_definition(pmf: list[float], precision: int) -> None:
    weights = [int(p * 2**precision + 0.5) for p in pmf]
    if sum(weights) == 0 or len(pmf) > 2**precision:
        with pytest.raises(ValueError):
            quantize(pmf, precision)
        return
    cdf = quantize(pmf, precision)
    assert cdf == reference_coder.quantize(pmf, precision)
    assert cdf[0] == 0
    assert cdf[-1] == 2**precision
    assert all(a < b for a, b in itertools.pairwise(cdf))


@pytest.mark.parametrize("count", [1, 2, 255, 256])
def test_as_many_symbols_as_units_are_possible(count: int) -> None:
    pmf = [0.0] * (count - 1) + [1.0]
    assert quantize(pmf, 8) == [*range(count), 256]
    assert quantize(pmf[::-1], 8) == [0, *range(257 - count, 257)]


def test_halves_of_a_unit_round_up() -> None:
    unit = 2.0**-8
    assert quantize([0.5 * unit, 0.25, 0.75 - 1.5 * unit], 8) == [0, 1, 65, 256]
    just_below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    with pytest.raises(ValueError):
        quantize([just_below * unit], 8)


@pytest.mark.parametrize("precision", [0, 1, 16, 24, 30, 31])
def test_all_precisions_work(precision: int) -> None:
    assert quantize([1.0], precision) == [0, 2**precision]


@pytest.mark.parametrize(
    "pmf",
    [
        [-0.1, 1.1],
        [1.0, -1e-30],
        [float("nan"), 1.0],
        [float("inf"), 0.1],
        [1.0, float("-inf")],
        [1e300],
        [],
        [0.0, 0.0],
        [1e-9],
        [1e-9] * 1000,
        [1.0] * 65537,
        [0.5] + [0.0] * 65536,
        [65536.0],
        [40000.0, 40000.0],
        [3e38],
    ],
    ids=lambda pmf: f"{pmf[:2]}x{len(pmf)}",
)
def test_impossible_probabilities_are_value_errors(pmf: list[float]) -> None:
    with pytest.raises(ValueError):
        quantize(pmf, 16)
    with pytest.raises(ValueError):
        quantize(np.array(pmf), 16)


def test_negative_zero_is_zero() -> None:
    assert quantize([-0.0, 1.0], 16) == quantize([0.0, 1.0], 16)


@pytest.mark.parametrize("precision", [-1, 32, 64, 2**31 - 1])
def test_precisions_out_of_range_are_value_errors(precision: int) -> None:
    with pytest.raises(ValueError, match="precision"):
        quantize([1.0], precision)


@pytest.mark.parametrize(
    ("pmf", "precision"),
    [(None, 16), ("1", 16), (b"1", 16), (1.0, 16), (["1"], 16), ([None], 16), ({1.0}, 16),
     (np.ones((2, 2)), 16), ([[1.0]], 16), ([1.0], 1.5), ([1.0], None), ([1.0], 2**70)],
)  # fmt: skip
def test_wrong_types_are_type_errors(pmf: object, precision: object) -> None:
    with pytest.raises(TypeError):
        quantize(pmf, precision)


def test_containers_of_numbers() -> None:
    pmf = [0.5, 0.25, 0.0, 0.25]
    want = quantize(pmf, 16)
    assert {type(entry) for entry in want} == {int}
    for same in (
        tuple(pmf),
        [np.float32(p) for p in pmf],
        np.array(pmf),
        np.array(pmf, np.float32),
        np.array(pmf, np.float16),
        np.repeat(np.array(pmf, np.float32), 2)[::2],
        torch.tensor(pmf),
        torch.tensor(pmf, dtype=torch.float64),
    ):
        assert quantize(same, 16) == want
    assert quantize([1, 0, True], 16) == quantize([1.0, 0.0, 1.0], 16)
    assert quantize(pmf=pmf, precision=16) == want


@given(st.lists(st.lists(coarse, min_size=12, max_size=12), min_size=1, max_size=5), st.data())
def test_rows_are_quantised_as_single_ones_are(rows: list[list[float]], data) -> None:
    lengths = [data.draw(st.integers(0, 12)) for _ in rows]
    tails = [data.draw(st.sampled_from([0.25, 1.0])) for _ in rows]
    got = _CXX.pmfs_to_quantized_cdfs(np.float32(rows), np.float32(tails), np.int32(lengths), 16)
    assert got.dtype == np.int32
    assert got.shape == (len(rows), 14)
    for row, length, tail, cdf in zip(rows, lengths, tails, got.tolist()):
        want = quantize([*row[:length], tail], 16)
        assert cdf == want + [0] * (14 - len(want))


def test_rows_may_be_tensors_and_tails_a_column() -> None:
    pmfs = torch.tensor([[0.5, 0.5], [1.0, 0.0]])
    tails = torch.tensor([[1e-4], [1e-4]])
    got = _CXX.pmfs_to_quantized_cdfs(pmfs, tails, [2, 1])
    want = _CXX.pmfs_to_quantized_cdfs(pmfs.numpy(), [1e-4, 1e-4], torch.tensor([2, 1]), 16)
    np.testing.assert_array_equal(got, want)


def test_bad_rows_are_refused() -> None:
    pmfs, tails, lengths = np.ones((2, 3), np.float32), np.ones(2, np.float32), np.int32([3, 3])
    build = _CXX.pmfs_to_quantized_cdfs
    for bad in (
        (pmfs, tails[:1], lengths),
        (pmfs, tails, lengths[:1]),
        (pmfs, tails, np.int32([3, 4])),
        (pmfs, tails, np.int32([3, -1])),
        (pmfs, tails, lengths, 31),
        (pmfs, tails, lengths, -1),
    ):
        with pytest.raises(ValueError):
            build(*bad)
    pmfs[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"row 1: pmf\[2\].*nan"):
        build(pmfs, tails, lengths)
    for bad in ((pmfs[0], tails, lengths), (pmfs.tolist(), tails, lengths), (pmfs, None, lengths),
                (pmfs, tails, tails)):  # fmt: skip
        with pytest.raises(TypeError):
            build(*bad)


@pytest.mark.parametrize("value", [-1e-9, -1.5e-30])
def test_small_negative_numbers_are_told_in_full(value: float) -> None:
    pmf = np.array([0.5, value], dtype=np.float32)
    with pytest.raises(ValueError, match=r"pmf\[1\] must be .*, got -1") as caught:
        quantize(pmf, 16)
    assert np.float32(str(caught.value).rpartition(" ")[2]) == pmf[1]
