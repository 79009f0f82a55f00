# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bjøntegaard deltas: the figures of an independent package, and what a delta must do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressai.evaluation import bd_psnr, bd_rate

ANCHOR = [(0.2, 30.1), (0.45, 33.2), (0.9, 36.0), (1.7, 38.9)]

# Of the package bjontegaard 1.3.0: bd_rate and bd_psnr with method="pchip",
# require_matching_points=False, min_overlap=0.
REFERENCE = {
    "four points": (
        [(0.15, 29.5), (0.31, 32.4), (0.7, 35.9), (1.5, 39.4)],
        -17.962917273683942,
        0.8415442989977133,
    ),
    "two points": ([(0.5, 31.0), (1.0, 35.0)], 65.7493421339662, -2.0081336830654943),
}


@st.composite
def curves(draw):
    """Curves of two to six points that rise in both rate and quality."""
    size = draw(st.integers(2, 6))
    steps = st.floats(0.05, 2, allow_nan=False)
    rate, quality, points = draw(st.floats(0.01, 1)), draw(st.floats(20, 30)), []
    for _ in range(size):
        points.append((rate, quality))
        rate *= 1 + draw(steps)
        quality += draw(steps)
    return points


@pytest.mark.parametrize("name", REFERENCE)
def test_deltas_are_those_of_an_independent_package(name):
    test, rate, psnr = REFERENCE[name]
    assert bd_rate(ANCHOR, test) == pytest.approx(rate, rel=1e-9)
    assert bd_psnr(ANCHOR, test) == pytest.approx(psnr, rel=1e-9)


@given(curves(), st.floats(0.1, 10))
def test_a_codec_that_needs_so_many_times_the_bits_has_that_delta(curve, factor):
    scaled = [(factor * rate, quality) for rate, quality in curve]
    assert bd_rate(curve, scaled) == pytest.approx(100 * (factor - 1), abs=1e-6)


@given(curves(), st.floats(-0.02, 0.02))
def test_a_codec_that_gives_so_many_decibels_more_has_that_delta(curve, decibels):
    assert bd_psnr(curve, [(r, q + decibels) for r, q in curve]) == pytest.approx(decibels)


@given(curves(), curves())
def test_exchanging_the_codecs_inverts_the_ratio(a, b):
    try:
        ratio = 1 + bd_rate(a, b) / 100
    except ValueError:
        with pytest.raises(ValueError, match="overlap"):
            bd_rate(b, a)
    else:
        assert ratio * (1 + bd_rate(b, a) / 100) == pytest.approx(1)


@given(curves(), st.randoms())
def test_order_of_points_and_points_that_others_beat_change_nothing(curve, random):
    other = [(2 * rate, quality) for rate, quality in curve]
    expected = bd_rate(other, curve)
    (rate, quality), *_ = curve
    worse = [*curve, (rate * 1.01, quality - 1), (rate, quality - 2), curve[-1]]
    random.shuffle(worse)
    assert bd_rate(other, worse) == expected


@pytest.mark.parametrize("delta", [bd_rate, bd_psnr])
def test_curves_without_a_range_in_common_are_refused(delta):
    far = [(20.0, 60.0), (30.0, 65.0)]
    with pytest.raises(ValueError, match="overlap"):
        delta(ANCHOR, far)
    touching = [ANCHOR[-1], (9.0, 50.0)]
    with pytest.raises(ValueError, match="overlap"):
        delta(ANCHOR, touching)


@pytest.mark.parametrize(
    ("curve", "message"),
    [
        ([], "at least two points"),
        ([(1.0, 30.0)], "at least two points"),
        ([(1.0, 30.0), (2.0, 30.0)], "at least two points"),
        ([(0.0, 30.0), (2.0, 31.0)], "positive rates"),
        ([(1.0, 30.0), (2.0, math.inf)], "finite"),
        ([(1.0, math.nan), (2.0, 31.0)], "finite"),
    ],
)
def test_curves_that_are_none_are_refused_by_name(curve, message):
    with pytest.raises(ValueError, match=f"test must have .*{message}"):
        bd_rate(ANCHOR, curve)
    with pytest.raises(ValueError, match="anchor must have"):
        bd_psnr(curve, ANCHOR)
