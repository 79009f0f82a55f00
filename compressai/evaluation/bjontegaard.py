# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bjøntegaard deltas: one figure for the distance between two rate-distortion curves.

Curves are interpolated with SciPy's PCHIP, the piecewise cubic that stays monotonic between
points, as the codec committees do since the cubic fit through four points turned out to overshoot.
SciPy is here anyway; the package ``bjontegaard`` gives the same figures (the tests have some of
its) and would bring matplotlib.

Source: Bjøntegaard 2001, Calculation of average PSNR differences between RD-curves (VCEG-M33);
ITU-T HSTP-VID-WPOM 2020, Working practices using objective metrics.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.interpolate import PchipInterpolator

__all__ = ["bd_psnr", "bd_rate"]

Curve = Iterable[tuple[float, float]]


def bd_rate(anchor: Curve, test: Curve) -> float:
    """How many more bits the test needs for the same quality, over the range that both reach.

    Args:
        anchor, test: points ``(rate, quality)`` in any order. Rates in any unit above 0, such as
            bits per pixel; quality in decibels, or another measure that rises. Points that another
            one of the same curve beats (no more bits, no less quality) are left out: nobody would
            choose them.

    Returns:
        Percent; below 0 the test saves bits.

    Raises:
        ValueError: a curve has fewer than two points, values that are not finite or rates that
            are not positive, or the curves have no range of quality in common.

    Example:
        >>> anchor = [(0.2, 30.0), (0.4, 33.0), (0.8, 36.0)]
        >>> round(bd_rate(anchor, [(rate / 2, quality) for rate, quality in anchor]), 6)
        -50.0
    """
    curves = [_front("anchor", anchor), _front("test", test)]
    difference = _mean_difference([(q, np.log(r)) for r, q in curves], "quality")
    return 100 * math.expm1(difference)


def bd_psnr(anchor: Curve, test: Curve) -> float:
    """How much more quality the test gives for the same bits, over the range that both reach.

    Args:
        anchor, test: as for :func:`bd_rate`.

    Returns:
        Unit of the quality; above 0 the test is better.

    Raises:
        ValueError: as :func:`bd_rate`, but for a range of rates in common.
    """
    curves = [_front("anchor", anchor), _front("test", test)]
    return _mean_difference([(np.log(r), q) for r, q in curves], "rate")


def _front(name: str, curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """Rates and qualities, both rising."""
    points = [(float(rate), float(quality)) for rate, quality in curve]
    for rate, quality in points:
        if not (math.isfinite(rate) and rate > 0 and math.isfinite(quality)):
            raise ValueError(
                f"{name} must have positive rates and finite qualities, got {(rate, quality)}"
            )
    best = -math.inf
    front = []
    # Of the same rate the best quality comes first.
    for rate, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if quality > best:
            front.append((rate, quality))
            best = quality
    if len(front) < 2:
        raise ValueError(
            f"{name} must have at least two points of which more bits give more quality, got "
            f"{points}"
        )
    rates, qualities = np.array(front).T
    return rates, qualities


def _mean_difference(curves: list[tuple[np.ndarray, np.ndarray]], what: str) -> float:
    """Mean of the second curve minus the first, over the range of the argument in common."""
    low = max(float(x[0]) for x, _ in curves)
    high = min(float(x[-1]) for x, _ in curves)
    if not low < high:
        ranges = " and ".join(f"{x[0]:.4g} to {x[-1]:.4g}" for x, _ in curves)
        unit = "logarithm of the rate" if what == "rate" else what
        raise ValueError(
            f"the curves do not overlap: anchor and test have a {unit} of {ranges}; take "
            "qualities of the codecs that are closer"
        )
    anchor, test = (PchipInterpolator(x, y).integrate(low, high) for x, y in curves)
    return float(test - anchor) / (high - low)
