# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Layers of 1x1 by fewer products: right, and within the errors that theory and the entropy path
leave."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from pointwise import Case, cases, check_convolution, check_pair, random_map
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference import entropy_path, fewer_products, prepare
from compressai.inference.fewer_products import divide_products, parts_of
from compressai.inference.kernels import ExactConv, NativeLinear
from compressai.models import MeanScaleHyperprior

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(not _kernels.available(), reason="needs a processor with AVX2"),
]

EPSILON = 2.0**-24


@pytest.fixture(autouse=True)
def _small_layers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fewer_products, "_LEAST", {2: 32, 4: 192})
    # Where there are tiles, they take the place of fewer products.
    monkeypatch.setattr(_kernels, "has_tiles", lambda: False)


def _integers(*shape: int) -> Tensor:
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(sum(shape))).float()


def _divide(layer: nn.Module) -> nn.Module:
    assert divide_products(nn.Sequential(layer))
    return layer


def test_layers_are_divided_by_their_smaller_side() -> None:
    assert [parts_of(96, 64), parts_of(192, 256), parts_of(1024, 96)] == [2, 4, 2]
    # Too narrow, or no whole panels of parts.
    assert [parts_of(16, 256), parts_of(208, 256), parts_of(224, 256)] == [1, 1, 2]


def test_both_sides_know_the_same_products() -> None:
    """Integers of this size are multiplied without rounding."""
    for inputs, outputs, pixels in ((64, 96, 5), (192, 256, 301), (1280, 192, 24)):
        layer = nn.Linear(inputs, outputs).requires_grad_(False)
        layer.weight.copy_(_integers(outputs, inputs))
        layer.bias.copy_(_integers(outputs))
        x = _integers(pixels, inputs)
        native = _divide(NativeLinear(layer))
        assert native.weight.size(1) == inputs // parts_of(outputs, inputs) < inputs
        assert torch.equal(native(x), layer(x))


@settings(deadline=None, max_examples=40)
@given(case=cases([32, 96, 192, 320], [32, 224, 192, 448], [None, 2, 4]))
def test_convolutions(case: Case) -> None:
    check_convolution(case, _divide, 1e-5)


@pytest.mark.parametrize("widths", [(192, 256, 192), (96, 64, 48), (48, 64, 96)])
@pytest.mark.parametrize("threads", [1, 3])
def test_pairs_of_layers_that_are_divided_otherwise(
    widths: tuple[int, int, int], threads: int
) -> None:
    check_pair(widths, threads, _divide, 1e-5)


def _inputs(kind: str, *shape: int) -> Tensor:
    random = random_map(*shape)
    if kind == "all positive":
        return random.abs()
    if kind == "signs":
        return random.sign()
    # A few values decide.
    return random * 10 ** torch.linspace(-4, 2, shape[1])


@pytest.mark.parametrize("kind", ["normal", "all positive", "signs", "unequal"])
@pytest.mark.parametrize(("depth", "parts"), [(64, 2), (192, 4), (640, 4), (1920, 4)])
def test_rounding_is_within_what_theory_gives(depth: int, parts: int, kind: str) -> None:
    """Higham 2002, "Accuracy and stability of numerical algorithms", theorem 23.2.

    Of the largest values, since sums of parts mix them: ``(12**L (k**2 + 5 k) - 5 K) u`` for L
    levels and products of k terms, K in all. In practice rounding errors do not all have one sign,
    and far less comes out: here 4 u for each of the K terms.
    """
    outputs = 192 if parts == 4 else 64
    layer = nn.Linear(depth, outputs, bias=False).requires_grad_(False)
    layer.weight.copy_(_inputs(kind, outputs, depth) if kind != "normal" else layer.weight)
    x = random_map(97, depth) if kind == "normal" else _inputs(kind, 97, depth)
    native = _divide(NativeLinear(layer))
    assert native.weight.size(1) == depth // parts
    error = (native(x).double() - layer.double()(x.double())).abs().max()
    largest = float(x.abs().max() * layer.weight.abs().max())
    inner = depth // parts
    theory = 12 ** (parts // 2) * (inner**2 + 5 * inner) - 5 * depth
    assert error <= theory * EPSILON * largest
    assert error <= 4 * depth * EPSILON * largest


def test_weights_of_parts_that_do_not_fit_are_refused() -> None:
    x, out = torch.zeros(1, 2, 3, 64), torch.zeros(1, 2, 3, 64)
    for weights in (
        torch.zeros(13, 32, 16),  # no multiple of seven products
        torch.zeros(14, 24, 16),
        torch.zeros(7, 32, 16),  # of other outputs
    ):
        with pytest.raises(ValueError, match=r" must .*, got "):
            _kernels.conv1x1(x, weights, None, 1.0, False, None, False, 1, 0, out, 1)
    with pytest.raises(ValueError, match="multiples of 16 inputs"):
        _kernels.conv1x1(
            torch.zeros(1, 2, 3, 32),
            torch.zeros(49, 8, 16),
            None,
            1.0,
            False,
            None,
            False,
            1,
            0,
            out,
            1,
        )


class _Pointwise(MeanScaleHyperprior):
    """Its hyper synthesis has a large 1x1 layer."""

    def __init__(self) -> None:
        super().__init__(32, 48)
        self.h_s.insert(0, nn.Conv2d(32, 32, 1))
        self.h_s.insert(0, nn.Conv2d(32, 32, 1))


def _depths(net: nn.Module) -> set[int]:
    """Inputs of the 1x1 layers of the hyper synthesis as it runs in synchrony."""
    native = vars(net.h_s)["forward"]._synchronised
    layers = [part for m in native.network.modules() for part in getattr(m, "parts", (m,))]
    return {m.weight.size(1) for m in layers if isinstance(m, ExactConv) and m.weight.dim() == 3}


def test_entropy_path_has_fewer_products_only_within_a_quarter_of_the_tolerance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    net = _Pointwise().eval()
    net.update()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    fast = prepare(net, "fp32")
    coded = fast.compress(x, sync_safe=True)
    assert _depths(fast) == {16}
    monkeypatch.setattr(entropy_path, "_SHARE_OF_FEWER", 0.0)
    whole = prepare(net, "fp32")
    decoded = whole.decompress(coded["strings"], coded["shape"], sync_safe=True)
    assert _depths(whole) == {32}
    assert torch.equal(decoded["y_hat"], coded["y_hat"])
