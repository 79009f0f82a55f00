# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where the constants of ``kernels/functions.inl`` and ``kernels/scan.cpp`` come from.

Each function is a polynomial or rational whose largest error is as small as can be. It is found by
least squares whose weights are multiplied by the errors again and again (Lawson 1961,
"Contributions to the theory of linear least maximum approximation"); of the rational, the
denominator of the round before scales the equations (Sanathanan and Koerner 1963). Run it to see
constants and errors::

    python compressai/cpp_exts/fit_functions.py
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

__all__ = ["FITS", "exp2", "gelu", "softplus"]

_POINTS = 3000
# Of the normal distribution: 1 - ndtr(5.6) is 1e-8.
_END = 5.6

Fit = tuple[float, list[list[float]]]


def _nodes(low: float, high: float) -> np.ndarray:
    """Points that are denser at the ends, where errors are largest."""
    angles = np.pi * (np.arange(_POINTS) + 0.5) / _POINTS
    return low + (high - low) * 0.5 * (1 - np.cos(angles))


def _polynomial(x: np.ndarray, values: np.ndarray, weights: np.ndarray, degree: int) -> Fit:
    """``p`` with ``1 + x p(x)`` near ``values``: largest weighted error, highest power first."""
    scale = np.abs(x).max()
    columns = np.stack([(x / scale) ** k for k in range(1, degree + 1)], 1)
    shares, best = np.ones(len(x)), (np.inf, np.zeros(degree))
    for _ in range(400):
        rows = np.sqrt(shares) * weights
        found = np.linalg.lstsq(columns * rows[:, None], (values - 1) * rows, rcond=None)[0]
        errors = np.abs(columns @ found + 1 - values) * weights
        if errors.max() < best[0]:
            best = errors.max(), found
        shares *= errors
        shares /= shares.sum()
    powers = scale ** np.arange(1, degree + 1)
    return float(best[0]), [[*(best[1] / powers)[::-1].tolist(), 1.0]]


def exp2() -> Fit:
    """``2^x`` on [-1/2, 1/2]: relative error, and ``p``."""
    x = _nodes(-0.5, 0.5)
    return _polynomial(x, np.exp2(x), 1 / np.exp2(x), 6)


def softplus() -> Fit:
    """``ln(1 + z)`` on (0, 1] as ``2 s p(s^2)`` with ``s = z / (z + 2)``: as :func:`exp2`."""
    z = _nodes(0, 1)
    s = z / (z + 2)
    values = np.log1p(z) / (2 * s)
    return _polynomial(s * s, values, 1 / values, 5)


def gelu() -> Fit:
    """``x ndtr(x)`` as ``x (1/2 + x p(x^2) / q(x^2))``: absolute error, ``p`` and ``q``."""
    x = _END - _nodes(0, _END)
    s = x * x
    t = s / _END**2
    values = (ndtr(x) - 0.5) / x
    powers = np.stack([t**k for k in range(6)], 1)
    shares, denominator = np.ones(len(x)), np.ones(len(x))
    best, found = np.inf, np.zeros(11)
    for _ in range(1000):
        # values = p / q is p - values (q - 1) = values; an error there is q times as large here.
        rows = np.sqrt(shares) * s / denominator
        columns = np.concatenate([powers, -values[:, None] * powers[:, 1:]], 1) * rows[:, None]
        norms = np.linalg.norm(columns, axis=0)
        trial = np.linalg.lstsq(columns / norms, values * rows, rcond=1e-15)[0] / norms
        denominator = 1 + powers[:, 1:] @ trial[6:]
        errors = np.abs(s * (powers @ trial[:6] / denominator - values))
        if (denominator > 0).all() and errors.max() < best:
            best, found = float(errors.max()), trial
        shares *= np.sqrt(errors + 1e-12)
        shares /= shares.sum()
    p = found[:6] / _END ** (2 * np.arange(6))
    q = found[6:] / _END ** (2 * np.arange(1, 6))
    return best, [p[::-1].tolist(), [*q[::-1].tolist(), 1.0]]


FITS = {"exp2_negative": exp2, "gelu": gelu, "softplus": softplus}


if __name__ == "__main__":
    for name, fit in FITS.items():
        error, polynomials = fit()
        print(f"{name}, largest error {error:.2g}")
        for letter, coefficients in zip("pq", polynomials):
            print(f"  {letter}:", *(f"{value:.9g}" for value in coefficients))
