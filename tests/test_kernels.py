# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Native layers give what torch's layers give, up to rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference.graph import use_kernels
from compressai.inference.kernels import (
    ChannelsLastNorm,
    ExactConv,
    NativeConv,
    NativeDepthwise,
    NativeGDN,
    NativeLinear,
    NativePair,
)
from compressai.inference.layouts import in_channels_last, in_default_layout
from compressai.layers import (
    GDN,
    GDN1,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBottleneckBlock,
    ResidualUnit,
)
from compressai.layers.attn import WinResidualUnit
from compressai.layers.naf import LayerNorm2d
from compressai.models.utils import deconv

needs_kernels = pytest.mark.skipif(not _kernels.available(), reason="no kernels for the processor")
SIDES = st.integers(1, 11)


def _random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _on_threads(count: int, layer: nn.Module, *inputs: Tensor | None) -> Tensor:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        return layer(*inputs)
    finally:
        torch.set_num_threads(before)


def _check(layer: nn.Module, x: Tensor, out: Tensor, residual: Tensor | None = None) -> None:
    """Within the rounding errors of float32 of what is right."""
    with torch.no_grad():
        expected = layer.double()(x.double())
    if residual is not None:
        expected = expected + residual
    assert out.shape == expected.shape
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=5e-6 * expected.abs().max())


@needs_kernels
@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 2),
    height=SIDES,
    width=SIDES,
    inputs=st.sampled_from([16, 48]),
    outputs=st.sampled_from([3, 16, 64, 80, 128, 144, 192]),
    kernel=st.sampled_from([1, 3, 5]),
    factor=st.sampled_from([None, 2, 4]),
    activation=st.sampled_from([None, nn.ReLU(), nn.LeakyReLU(0.2), nn.GELU()]),
    bias=st.booleans(),
    with_residual=st.booleans(),
    threads=st.sampled_from([1, 3]),
)
def test_convolutions(
    batch: int,
    height: int,
    width: int,
    inputs: int,
    outputs: int,
    kernel: int,
    factor: int | None,
    activation: nn.Module | None,
    bias: bool,
    with_residual: bool,
    threads: int,
) -> None:
    if factor:
        outputs = -(-outputs // factor**2) * factor**2
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=bias)
    shuffle = nn.PixelShuffle(factor) if factor else None
    assert NativeConv.fits(conv, activation, shuffle)
    native = NativeConv(conv, activation, shuffle)
    layer = nn.Sequential(conv, shuffle or nn.Identity(), activation or nn.Identity())
    x = _random(batch, inputs, height, width)
    scale = factor or 1
    shape = (batch, outputs // scale**2, scale * height, scale * width)
    residual = _random(*shape) if with_residual else None
    out = _on_threads(threads, native, x, residual)
    _check(layer, x, out, residual)


@needs_kernels
@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 2),
    height=SIDES,
    width=SIDES,
    channels=st.sampled_from([16, 48, 64]),
    activation=st.sampled_from([None, nn.ReLU(), nn.LeakyReLU(0.2), nn.GELU()]),
    bias=st.booleans(),
    gate=st.sampled_from([None, "map", "channels"]),
    threads=st.sampled_from([1, 3]),
)
def test_depthwise_convolutions(
    batch: int,
    height: int,
    width: int,
    channels: int,
    activation: nn.Module | None,
    bias: bool,
    gate: str | None,
    threads: int,
) -> None:
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=bias)
    assert NativeDepthwise.fits(conv, activation)
    native = NativeDepthwise(conv, activation)
    x = _random(batch, channels, height, width)
    size = {None: (), "map": x.shape, "channels": (1, channels, 1, 1)}[gate]
    factor = _random(*size) if gate else None
    out = _on_threads(threads, native, x, factor)
    layer = nn.Sequential(conv, activation or nn.Identity()).double()
    with torch.no_grad():
        expected = layer(x.double()) * (1 if factor is None else factor)
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=5e-6)


@needs_kernels
@pytest.mark.parametrize("shape", [(48,), (5, 48), (2, 3, 4, 48), (0, 48)])
@pytest.mark.parametrize("activation", [None, nn.GELU()])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_layers(shape: tuple[int, ...], activation: nn.Module | None, bias: bool) -> None:
    layer = nn.Linear(48, 32, bias=bias)
    assert NativeLinear.fits(layer, activation)
    native = NativeLinear(layer, activation)
    x, residual = _random(*shape), _random(*shape[:-1], 32)
    whole = nn.Sequential(layer, activation or nn.Identity())
    out = native(x, residual)
    if x.numel():
        _check(whole, x, out, residual)
    assert out.shape == residual.shape


class _Gate(nn.Module):
    """Layers whose activation, sum and product are done with them."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(16, 32)
        self.act = nn.GELU()
        self.spatial = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.back = nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.back(self.act(self.wide(x)))
        y = x.permute(0, 3, 1, 2)
        return self.act(self.spatial(y)) * y


@needs_kernels
def test_what_stands_behind_a_layer_is_done_with_it() -> None:
    module = _Gate().eval().requires_grad_(False)
    native = use_kernels(copy.deepcopy(module))
    kinds = [type(m) for m in native.modules() if isinstance(m, (NativeLinear, NativeDepthwise))]
    assert sorted(kinds, key=str) == [NativeDepthwise, NativeLinear, NativeLinear]
    assert {node.op for node in native.graph.nodes} == {
        *("placeholder", "call_module", "call_method", "output")
    }
    x = _random(2, 5, 7, 16)
    torch.testing.assert_close(native(x), module(x), rtol=0, atol=1e-5)


@needs_kernels
@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(24, 32),
        nn.Linear(32, 24),
        nn.Conv2d(16, 16, 3, padding=1, groups=8),
        nn.Conv2d(16, 32, 3, padding=1, groups=16),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, stride=2),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 16, 5, padding=2, groups=16),
        nn.Conv2d(16, 16, 3, padding=1, groups=16, padding_mode="reflect"),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
    ],
)
def test_no_kernel_takes_what_it_does_not_compute(layer: nn.Module) -> None:
    assert not NativeLinear.fits(layer)
    assert not NativeDepthwise.fits(layer)


@needs_kernels
@pytest.mark.parametrize("outputs", [3, 16, 48])
@pytest.mark.parametrize("size", [(1, 1), (4, 6), (9, 5)])
def test_transposed_convolution(outputs: int, size: tuple[int, int]) -> None:
    layer = deconv(32, outputs)
    x = _random(2, 32, *size)
    assert NativeConv.fits(layer)
    _check(layer, x, NativeConv(layer)(x))


@needs_kernels
@pytest.mark.parametrize("kind", [NativeConv, ExactConv])
@pytest.mark.parametrize("size", [(6, 10), (5, 3), (1, 1)])
@pytest.mark.parametrize("outputs", [3, 32])
@pytest.mark.parametrize(
    "layer",
    [
        lambda outputs: nn.Conv2d(48, outputs, 2, stride=2),
        lambda outputs: nn.ConvTranspose2d(48, outputs, 2, stride=2),
        lambda outputs: nn.ConvTranspose2d(48, outputs, 4, stride=2, padding=1),
    ],
    ids=["down 2x2", "up 2x2", "up 4x4"],
)
def test_resampling_layers_of_even_kernels(
    layer: Callable[[int], nn.Module], outputs: int, size: tuple[int, int], kind: type[NativeConv]
) -> None:
    conv = layer(outputs)
    if isinstance(conv, nn.Conv2d) and size == (1, 1):
        size = (2, 2)  # less gives nothing
    x = _random(2, 48, *size)
    assert kind.fits(conv)
    native = kind(conv)
    for layout in (torch.contiguous_format, torch.channels_last):
        _check(conv, x, native(x.contiguous(memory_format=layout)))
        conv.float()


@needs_kernels
@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    height=SIDES,
    width=st.sampled_from([1, 7, 61]),
    inputs=st.sampled_from([16, 48, 160]),
    hidden=st.sampled_from([16, 96, 272]),
    outputs=st.sampled_from([16, 64, 144]),
    activation=st.sampled_from([None, nn.LeakyReLU(), nn.GELU()]),
    bias=st.booleans(),
    with_residual=st.booleans(),
    threads=st.sampled_from([1, 2, 3]),
)
def test_pairs_of_convolutions(
    batch: int,
    height: int,
    width: int,
    inputs: int,
    hidden: int,
    outputs: int,
    activation: nn.Module | None,
    bias: bool,
    with_residual: bool,
    threads: int,
) -> None:
    first = nn.Conv2d(inputs, hidden, 1, bias=bias)
    second = nn.Conv2d(hidden, outputs, 1, bias=bias)
    native = NativePair(NativeConv(first, activation), NativeConv(second))
    x = _random(batch, inputs, height, width)
    residual = _random(batch, outputs, height, width) if with_residual else None
    out = _on_threads(threads, native, x, residual)
    _check(nn.Sequential(first, activation or nn.Identity(), second), x, out, residual)


class _Residual(nn.Module):
    """A block whose sum goes through one more layer."""

    def __init__(self, hidden: int, last: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(64, hidden, 1)
        self.second = nn.Conv2d(hidden, 64, 1, bias=False)
        self.last = nn.Conv2d(64, last, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.second(F.leaky_relu(self.first(x))))


@needs_kernels
@pytest.mark.parametrize("last", [32, 64, 128])
def test_layers_behind_a_residual_block(last: int) -> None:
    layer = _Residual(96, last)
    x = _random(2, 64, 5, 9)
    native = use_kernels(copy.deepcopy(layer))
    # Only a layer with fewer outputs than the block is worth taking into it.
    through = [name for name, _ in native.named_modules() if "through" in name]
    assert bool(through) == (last < 64)
    with torch.no_grad():
        _check(layer, x, native(x))


@needs_kernels
def test_what_is_used_twice_is_computed_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(32, 48, 1), nn.Conv2d(48, 32, 1)

        def forward(self, x: Tensor) -> Tensor:
            hidden = self.first(x)
            return self.second(hidden) + hidden[:, :32]

    layer = Twice()
    x = _random(1, 32, 4, 4)
    native = use_kernels(copy.deepcopy(layer))
    assert not any(isinstance(module, NativePair) for module in native.modules())
    with torch.no_grad():
        _check(layer, x, native(x))


@pytest.mark.parametrize("shape", [(2, 32, 5, 7), (1, 3, 4, 4), (0, 32, 2, 2), (1, 960, 1, 1)])
def test_layouts(shape: tuple[int, ...]) -> None:
    x = _random(*shape)
    turned = in_channels_last(x)
    assert turned.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(turned, x)
    back = in_default_layout(turned)
    assert back.is_contiguous()
    assert torch.equal(back, x)
    part = torch.cat([x, x], dim=1)[:, shape[1] // 2 : shape[1] // 2 + shape[1]]
    for change in (in_channels_last, in_default_layout):
        assert torch.equal(change(part), part)
        assert torch.equal(change(part.double()), part.double())


@needs_kernels
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("kind", [GDN, GDN1])
def test_gdn(kind: type[GDN], inverse: bool, with_residual: bool) -> None:
    layer = kind(48, inverse=inverse)
    with torch.no_grad():
        layer.gamma += 0.1 * _random(48, 48).abs()
        layer.beta += _random(48).abs()
    x = _random(2, 48, 7, 19)
    residual = _random(2, 48, 7, 19) if with_residual else None
    _check(layer, x, NativeGDN(layer)(x, residual), residual)


@needs_kernels
@pytest.mark.parametrize(
    "block",
    [
        pytest.param(lambda: ResidualBlock(16, 16), id="residual"),
        pytest.param(lambda: ResidualBlock(16, 32), id="residual-skip"),
        pytest.param(lambda: ResidualBlockUpsample(32, 16), id="upsample"),
        pytest.param(lambda: ResidualBottleneckBlock(32, 32), id="bottleneck"),
        pytest.param(lambda: ResidualBottleneckBlock(32, 64), id="bottleneck-skip"),
        pytest.param(lambda: ResidualUnit(32), id="unit"),
        pytest.param(lambda: WinResidualUnit(32), id="unit-gelu"),
        pytest.param(
            lambda: nn.Sequential(nn.Conv2d(32, 48, 3, padding=1), nn.PixelShuffle(4)), id="last"
        ),
    ],
)
def test_blocks(block: object) -> None:
    layer = nn.Sequential(block())
    x = _random(1, next(layer.parameters()).size(1), 6, 10)
    native = use_kernels(copy.deepcopy(layer))
    kinds = {type(module) for module in native.modules()}
    assert NativeConv in kinds
    assert not kinds & {nn.Conv2d, nn.LeakyReLU, nn.ReLU}
    with torch.no_grad():
        _check(layer, x, native(x))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 16, 3, padding=1),
        nn.Conv2d(16, 16, 3),
        nn.Conv2d(16, 16, 3, padding=1, stride=2),
        nn.Conv2d(16, 16, 3, padding=1, groups=2),
        nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(16, 16, 7, padding=3),
        nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, output_padding=1),
        nn.Linear(16, 17),
    ],
    ids=repr,
)
def test_other_layers_stay_as_they_are(conv: nn.Module) -> None:
    assert not NativeConv.fits(conv)
    network = use_kernels(nn.Sequential(conv))
    assert [type(layer) for layer in network.children()] == [type(conv)]


def test_nothing_changes_without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernels, "available", lambda: False)
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
    assert use_kernels(network) is network
    assert type(network[0]) is nn.Conv2d


@needs_kernels
@pytest.mark.parametrize("shape", [(0, 16, 4, 4), (1, 16, 0, 4)], ids=["batch", "height"])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_nothing_gives_nothing(kernel: int, shape: tuple[int, ...]) -> None:
    native = NativeConv(nn.Conv2d(16, 32, kernel, padding=kernel // 2))
    assert native(torch.zeros(shape)).shape == (shape[0], 32, *shape[2:])


@needs_kernels
def test_activation_of_a_sum_needs_whole_panels() -> None:
    with pytest.raises(ValueError, match="multiple of 16 channels, conv has 3"):
        NativeConv(nn.Conv2d(16, 3, 1), nn.ReLU(), activate_sum=True)


@needs_kernels
def test_sizes_that_do_not_fit_are_refused() -> None:
    x, out = torch.zeros(1, 4, 4, 16), torch.zeros(1, 4, 4, 32)
    panels, bias = torch.zeros(2, 16, 16), torch.zeros(32)

    def run(**changes: object) -> None:
        arguments = {
            "x": x,
            "weights": panels,
            "bias": bias,
            "slope": 1.0,
            "gelu": False,
            "activate_sum": False,
            "residual": None,
            "shuffle": 1,
            "planes": 0,
            "out": out,
            "threads": 1,
        }
        _kernels.conv1x1(**{**arguments, **changes})

    run()
    for changes in (
        {"x": torch.zeros(1, 4, 4, 32)},
        {"weights": torch.zeros(1, 16, 16)},
        {"bias": torch.zeros(16)},
        {"residual": x},
        {"shuffle": 0},
        {"shuffle": 2},
        {"planes": 33},
        {"planes": 3},
        {"threads": 0},
        {"out": torch.zeros(1, 4, 5, 32)},
        {"x": torch.zeros(1, 4, 4, 8), "weights": torch.zeros(2, 8, 16)},
    ):
        with pytest.raises(ValueError, match=r" must .*, got "):
            run(**changes)
    for changes in ({"x": x.double()}, {"out": out.transpose(1, 2)}, {"x": None}):
        with pytest.raises(TypeError):
            run(**changes)


class _OtherNorm(LayerNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@needs_kernels
@pytest.mark.parametrize("layout", [in_channels_last, in_default_layout])
@pytest.mark.parametrize("channels", [1, 7, 48])
def test_norms_over_channels(layout: Callable[[Tensor], Tensor], channels: int) -> None:
    norm = LayerNorm2d(channels)
    with torch.no_grad():
        norm.weight.copy_(_random(channels))
        norm.bias.copy_(_random(channels, 1)[:, 0])
    x = layout(_random(2, channels, 3, 5) + 4)
    network = use_kernels(nn.Sequential(copy.deepcopy(norm), nn.Identity()).eval())
    assert [type(layer) for layer in network.children()] == [ChannelsLastNorm]
    _check(norm, x, network(x))


@needs_kernels
def test_norms_that_compute_something_else_stay() -> None:
    network = use_kernels(nn.Sequential(_OtherNorm(16), nn.Conv2d(16, 16, 1)).eval())
    assert not any(isinstance(layer, ChannelsLastNorm) for layer in network.modules())
    x = _random(1, 16, 3, 3)
    _check(_OtherNorm(16), x, use_kernels(nn.Sequential(_OtherNorm(16)).eval())(x))
