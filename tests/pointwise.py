# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Layers of 1x1 that are computed by some other way, compared with double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from compressai.inference.kernels import NativeConv, NativePair

__all__ = ["Case", "cases", "check_convolution", "check_pair", "random_map"]

_SIDES = st.integers(1, 23)


def random_map(*shape: int) -> Tensor:
    """Normal numbers, the same ones for a shape every time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@dataclass(frozen=True)
class Case:
    """A layer, what it is called with, and on how many threads."""

    batch: int
    height: int
    width: int
    inputs: int
    outputs: int
    factor: int | None
    activation: nn.Module | None
    bias: bool
    with_residual: bool
    threads: int


def cases(
    inputs: Sequence[int], outputs: Sequence[int], factors: Sequence[int | None]
) -> st.SearchStrategy[Case]:
    """Layers with these numbers of channels, and factors of a pixel shuffle behind them."""
    return st.builds(
        Case,
        batch=st.integers(1, 2),
        height=_SIDES,
        width=_SIDES,
        inputs=st.sampled_from(inputs),
        outputs=st.sampled_from(outputs),
        factor=st.sampled_from(factors),
        activation=st.sampled_from([None, nn.ReLU(), nn.GELU()]),
        bias=st.booleans(),
        with_residual=st.booleans(),
        threads=st.sampled_from([1, 2, 3]),
    )


def check_convolution(
    case: Case, convert: Callable[[nn.Module], nn.Module], tolerance: float
) -> None:
    """``tolerance`` is of the greatest result."""
    conv = nn.Conv2d(case.inputs, case.outputs, 1, bias=case.bias).requires_grad_(False)
    shuffle = nn.PixelShuffle(case.factor) if case.factor else None
    native = convert(NativeConv(conv, case.activation, shuffle))
    x = random_map(case.batch, case.inputs, case.height, case.width)
    exact = nn.Sequential(conv, shuffle or nn.Identity(), case.activation or nn.Identity()).double()
    expected = exact(x.double())
    residual = random_map(*expected.shape) if case.with_residual else None
    torch.set_num_threads(case.threads)
    out = native(x, residual)
    expected = expected if residual is None else expected + residual
    torch.testing.assert_close(
        out.double(), expected, rtol=0, atol=tolerance * expected.abs().max()
    )


def check_pair(
    widths: tuple[int, int, int],
    threads: int,
    convert: Callable[[nn.Module], nn.Module],
    tolerance: float,
) -> None:
    """Two layers with GELU between and something added at their end."""
    inputs, hidden, outputs = widths
    layers = nn.Conv2d(inputs, hidden, 1), nn.GELU(), nn.Conv2d(hidden, outputs, 1)
    exact = nn.Sequential(*layers).requires_grad_(False)
    pair = convert(NativePair(NativeConv(layers[0], layers[1]), NativeConv(layers[2])))
    x, residual = random_map(2, inputs, 13, 27), random_map(2, outputs, 13, 27)
    torch.set_num_threads(threads)
    out = pair(x, residual)
    expected = exact.double()(x.double()) + residual
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=tolerance)
