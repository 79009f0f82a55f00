# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Layers of 1x1 by tiles of bfloat16: right to the digits of float32, and only where they exist."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from pointwise import Case, cases, check_convolution, check_pair, random_map
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference import entropy_path, prepare
from compressai.inference.kernels import ExactConv, NativeLinear
from compressai.inference.tiles import in_pieces, tile_products
from compressai.models import MeanScaleHyperprior

pytestmark = pytest.mark.usefixtures("one_torch_thread")
needs_tiles = pytest.mark.skipif(not _kernels.has_tiles(), reason="needs AMX tiles for bfloat16")

EPSILON = 2.0**-24


def _tile(layer: nn.Module) -> nn.Module:
    assert tile_products(nn.Sequential(layer))
    return layer


@pytest.mark.parametrize("inputs", [64, 80])
def test_pieces_add_up_to_the_weights(inputs: int) -> None:
    matrix = random_map(96, inputs) * 10 ** torch.linspace(-20, 20, inputs)
    pieces = in_pieces(matrix)
    steps = -(-inputs // 32)
    assert pieces.shape == (6, 3 * steps, 256)
    parts = pieces.view(torch.bfloat16).float().view(6, steps, 3, 16, 16, 2)
    of_input = parts.double().sum(2).permute(0, 3, 1, 2, 4).reshape(96, 32 * steps)
    assert torch.equal(of_input[:, :inputs].float(), matrix)
    assert not of_input[:, inputs:].any()


@needs_tiles
@settings(deadline=None, max_examples=25)
@given(case=cases([64, 80, 192, 1328], [64, 208, 448], [None, 2]))
def test_convolutions(case: Case) -> None:
    check_convolution(case, _tile, 3e-6)


@needs_tiles
@pytest.mark.parametrize("widths", [(192, 256, 192), (96, 64, 48), (48, 64, 96), (64, 1024, 64)])
@pytest.mark.parametrize("threads", [1, 3])
def test_pairs_of_which_both_or_one_is_tiled(widths: tuple[int, int, int], threads: int) -> None:
    check_pair(widths, threads, _tile, 4e-6)


@needs_tiles
@pytest.mark.parametrize("depth", [64, 640, 1920])
@pytest.mark.parametrize("kind", ["normal", "all positive", "unequal"])
def test_rounding_is_that_of_sums_in_float32(depth: int, kind: str) -> None:
    """Over the sum of magnitudes: with signs that cancel, sums are small, and what is left out of
    the products shows. One piece less in the weights has 5 to 90 times EPSILON, this 1 to 2."""
    layer = nn.Linear(depth, 64, bias=False).requires_grad_(False)
    weight, x = random_map(64, depth), random_map(97, depth)
    if kind == "all positive":
        weight, x = weight.abs(), x.abs()
    if kind == "unequal":
        x *= 10 ** torch.linspace(-4, 2, depth)
    layer.weight.copy_(weight)
    error = (_tile(NativeLinear(layer))(x).double() - x.double() @ weight.double().T).abs()
    magnitudes = x.double().abs() @ weight.double().abs().T
    most = 6 + depth / 80 if kind == "all positive" else 4
    assert (error / magnitudes).max() <= most * EPSILON


@needs_tiles
def test_what_is_not_finite_is_not_hidden() -> None:
    layer = nn.Linear(64, 64, bias=False).requires_grad_(False)
    native = _tile(NativeLinear(layer))
    x = random_map(5, 64)
    x[1, 3], x[2, 3], x[4, 3] = float("nan"), float("inf"), 3e38
    out = native(x)
    assert not out[1:3].isfinite().any()
    assert out[[0, 3, 4]].isfinite().all()


def test_pieces_that_do_not_fit_are_refused() -> None:
    x, out = torch.zeros(1, 2, 3, 64), torch.zeros(1, 2, 3, 64)

    def conv(weights: Tensor) -> None:
        _kernels.conv1x1(x, weights, None, 1.0, False, None, False, 1, 0, out, 1)

    if _kernels.has_tiles():
        conv(torch.zeros(4, 6, 256))
    for weights in (torch.zeros(4, 3, 256), torch.zeros(3, 6, 256), torch.zeros(4, 7, 256)):
        with pytest.raises((ValueError, RuntimeError)):
            conv(weights)


def test_only_processors_with_tiles_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernels, "has_tiles", lambda: False)
    layer = NativeLinear(nn.Linear(64, 64))
    assert not tile_products(nn.Sequential(layer))
    assert layer.weight.shape == (4, 64, 16)


@pytest.mark.parametrize("capability", ["avx512", "avx2", "default"])
def test_capability_limits_them(capability: str) -> None:
    program = (
        "import torch\n"
        "from compressai import _kernels\n"
        "assert not _kernels.has_tiles()\n"
        "x = torch.zeros(1, 1, 1, 64)\n"
        "arguments = None, 1.0, False, None, False, 1, 0, torch.zeros(1, 1, 1, 16), 1\n"
        "try:\n"
        "    _kernels.conv1x1(x, torch.zeros(1, 6, 256), *arguments)\n"
        "except (ValueError, RuntimeError):\n"
        "    print('refused')\n"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"


class _Pointwise(MeanScaleHyperprior):
    """Its hyper synthesis has a large 1x1 layer."""

    def __init__(self) -> None:
        super().__init__(64, 80)
        self.h_s.insert(0, nn.Conv2d(64, 64, 1))
        self.h_s.insert(0, nn.Conv2d(64, 64, 1))


def _widths(net: nn.Module) -> set[int]:
    """Of the panels of the 1x1 layers of the hyper synthesis as it runs in synchrony."""
    native = vars(net.h_s)["forward"]._synchronised
    layers = [part for m in native.network.modules() for part in getattr(m, "parts", (m,))]
    return {m.weight.size(2) for m in layers if isinstance(m, ExactConv) and m.weight.dim() == 3}


@needs_tiles
def test_entropy_path_is_tiled_only_within_a_quarter_of_the_tolerance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    net = _Pointwise().eval()
    net.update()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    fast = prepare(net, "fp32")
    coded = fast.compress(x, sync_safe=True)
    assert _widths(fast) == {256}
    monkeypatch.setattr(entropy_path, "_SHARE_OF_FEWER", 0.0)
    whole = prepare(net, "fp32")
    decoded = whole.decompress(coded["strings"], coded["shape"], sync_safe=True)
    assert _widths(whole) == {16}
    assert torch.equal(decoded["y_hat"], coded["y_hat"])
