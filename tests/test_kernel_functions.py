# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The constants of the native functions of vectors keep the errors that their comments promise.

In double precision the error is that of the approximation, in single precision that of rounding is
added (somewhat less in the kernels, which fuse products and sums)."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

SOURCES = Path(__file__).parents[1] / "compressai" / "cpp_exts"


def _polynomials(function: str, file: str = "kernels/functions.inl") -> dict[str, list[float]]:
    """The coefficients of the polynomials in a function, the highest power first."""
    body = (SOURCES / file).read_text().split(f"inline Lanes {function}(")[1].split("\n}")[0]
    terms = re.findall(r"(?:Lanes )?([pq]) = .*? \+ ([-+0-9.e]+)f;", body)
    return {name: [float(value) for n, value in terms if n == name] for name, _ in terms}


def _horner(coefficients: list[float], x: np.ndarray) -> np.ndarray:
    result = np.zeros_like(x)
    for coefficient in coefficients:
        result = result * x + x.dtype.type(coefficient)
    return result


@pytest.mark.parametrize("function", ["exp2_negative", "gelu", "softplus"])
def test_constants_are_those_of_the_script(function: str) -> None:
    fits = runpy.run_path(str(SOURCES / "fit_functions.py"))["FITS"]
    file = "kernels/scan.cpp" if function == "softplus" else "kernels/functions.inl"
    _, expected = fits[function]()
    found = list(_polynomials(function, file).values())
    # Other processors round otherwise on the way to the same fit.
    for got, wanted in zip(found, expected, strict=True):
        assert got == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 3e-9), (np.float32, 1.5e-7)])
def test_power_of_two_keeps_its_error(dtype: type, bound: float) -> None:
    (p,) = _polynomials("exp2_negative").values()
    assert len(p) == 7
    assert p[-1] == 1
    x = np.linspace(-0.5, 0.5, 200001, dtype=dtype)
    exact = np.exp2(x.astype(np.float64))
    assert np.abs(_horner(p, x) / exact - 1).max() <= bound


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-7), (np.float32, 1.5e-6)])
def test_gelu_keeps_its_error(dtype: type, bound: float) -> None:
    parts = _polynomials("gelu")
    assert [len(part) for part in parts.values()] == [6, 6]
    x = np.linspace(-9, 9, 200001, dtype=dtype)
    z = np.clip(x, dtype(-5.6), dtype(5.6))
    s = z * z
    got = x * np.maximum(z * (_horner(parts["p"], s) / _horner(parts["q"], s)) + dtype(0.5), 0)
    exact = x.astype(np.float64) * ndtr(x.astype(np.float64))
    assert np.abs(got - exact).max() <= bound


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-8), (np.float32, 4e-7)])
def test_softplus_keeps_its_error(dtype: type, bound: float) -> None:
    (p,) = _polynomials("softplus", "kernels/scan.cpp").values()
    assert len(p) == 6
    x = np.linspace(-30, 20, 200001, dtype=dtype)
    z = np.exp(-np.abs(x))
    s = z / (z + 2)
    got = np.maximum(x, 0) + (s + s) * _horner(p, s * s)
    exact = np.logaddexp(0, x.astype(np.float64))
    assert np.abs(got / exact - 1).max() <= bound
