# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The native transformer block against the modules of compressai.layers.attn."""

from __future__ import annotations

import argparse
import copy
import hashlib
import importlib.util
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_attention import strengthen
from slice_nets import small_net
from tiny_nets import one_thread
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference import prepare
from compressai.inference.gated_blocks import NativeSparseAttention
from compressai.inference.graph import use_kernels
from compressai.inference.kernels import NativeDepthwise
from compressai.inference.window_kernels import NativeWindowBlock, native_window_block
from compressai.layers.attn import (
    WMSA,
    Block,
    ConvolutionalGLU,
    ConvTransBlock,
    DWConv,
    Scale,
    SWAtten,
    SwinBlock,
    SwinTransformerBlock,
    WindowAttention,
    WinNoShiftAttention,
)
from compressai.layers.attn.attention import (
    ShiftedWindows,
    attend_with_bias,
    join_heads,
    masked_bias,
    split_heads,
)
from compressai.models._helpers.dictionary_transforms import GatedBlock
from compressai.models.dcae import GatedWindowAttention
from compressai.models.saaf import CrossSparseWindowAttention

GOLDEN = Path(__file__).parent / "golden"
needs_kernels = pytest.mark.skipif(not _kernels.available(), reason="no kernels for the processor")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread(), torch.no_grad():
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ready(module: nn.Module) -> nn.Module:
    """With weights that all matter."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.LayerNorm) and part.weight is not None:
            nn.init.normal_(part.weight, 1, 0.3)
            if part.bias is not None:
                nn.init.normal_(part.bias)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.normal_(part.bias)
    return strengthen(module).eval()


def native(module: nn.Module) -> nn.Module:
    return use_kernels(nn.Sequential(copy.deepcopy(module)))


def natives(module: nn.Module) -> list[type[nn.Module]]:
    return [type(part) for part in module.modules() if isinstance(part, NativeWindowBlock)]


def assert_same(got: Tensor, expected: Tensor) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def assert_replaced(module: nn.Module, x: Tensor, kinds: list[type[nn.Module]]) -> None:
    replaced = native(module)
    assert natives(replaced) == kinds
    expected = module(x)
    assert_same(replaced(x), expected)


@needs_kernels
@settings(deadline=None, max_examples=60)
@given(
    window=st.sampled_from([1, 2, 4, 7, 8, (4, 8), (5, 3)]),
    heads=st.sampled_from([1, 2, 3]),
    head_dim=st.sampled_from([1, 3, 4, 8, 16, 24, 32]),
    height=st.integers(1, 19),
    width=st.integers(1, 19),
    batch=st.integers(1, 2),
    shifted=st.booleans(),
    bias=st.booleans(),
    scale=st.sampled_from([None, 0.3]),
    count=st.sampled_from([1, 2, 3]),
)
def test_transformer_blocks(
    window: int | tuple[int, int],
    heads: int,
    head_dim: int,
    height: int,
    width: int,
    batch: int,
    shifted: bool,
    bias: bool,
    scale: float | None,
    count: int,
) -> None:
    shift = min((window, window) if isinstance(window, int) else window) // 2 if shifted else 0
    dim = heads * head_dim
    block = ready(
        SwinTransformerBlock(dim, heads, window, shift, 3.0, qkv_bias=bias, qk_scale=scale)
    )
    x = torch.randn(batch, height, width, dim)
    with torch.no_grad():
        expected, replaced = block(x), native(block)
        assert natives(replaced) == [NativeWindowBlock]
        alone = replaced(x)
        with threads(count):
            assert torch.equal(replaced(x), alone)
    assert_same(alone, expected)


@needs_kernels
@pytest.mark.parametrize("kind", ["W", "SW"])
@pytest.mark.parametrize("size", [(16, 24), (13, 19), (3, 5)])
def test_blocks_of_tcm(kind: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, *size, 32)
    assert_replaced(ready(Block(32, 32, 8, 8, 0.1, kind)), x, [NativeWindowBlock])
    maps = torch.randn(2, 64, *size).contiguous(memory_format=torch.channels_last)
    both = ready(ConvTransBlock(32, 32, 8, 8, 0.1, kind))
    assert_replaced(both, maps, [NativeWindowBlock])
    # The halves of other widths are no multiples of a panel, or their convolutions none of ours.
    narrow = ready(ConvTransBlock(24, 8, 8, 8, 0.0, kind))
    assert_replaced(narrow, torch.randn(2, 32, *size), [NativeWindowBlock])


@needs_kernels
def test_pairs_of_blocks_keep_the_layout_of_their_input() -> None:
    for module in (SwinBlock(16, 16, 8, 4, 0.0), SWAtten(16, 16, 8, 4, 0.0, inter_dim=32)):
        ready(module)
        replaced = native(module)
        assert natives(replaced) == [NativeWindowBlock] * 2
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(2, 16, 9, 10).contiguous(memory_format=layout)
            assert_same(replaced(x), module(x))


@needs_kernels
@pytest.mark.parametrize("name", ["dcae", "saaf"])
@pytest.mark.parametrize("size", [(8, 16), (9, 13)])
def test_gated_blocks(name: str, size: tuple[int, int]) -> None:
    stage = small_net(name).g_a[5]
    strengthen(stage)
    x = torch.randn(2, 32, *size)
    want = stage(x)
    native = use_kernels(copy.deepcopy(stage))
    kinds = NativeWindowBlock if name == "dcae" else NativeSparseAttention
    kernels = [m for m in native.modules() if isinstance(m, kinds)]
    assert len(kernels) == 2
    assert sum(isinstance(m, NativeDepthwise) for m in native.modules()) == 2
    assert not any(isinstance(m, ConvolutionalGLU) for m in native.modules())
    torch.testing.assert_close(native(x), want, rtol=1e-4, atol=1e-4)


@needs_kernels
@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 16), (9, 7)])
def test_attention_to_global_tokens(tokens: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    attention = CrossSparseWindowAttention(48, 16, 4, num_global_tokens=tokens).eval()
    norm = nn.LayerNorm(48).requires_grad_(False)
    for parameter in attention.requires_grad_(False).parameters():
        parameter *= 2
    nn.init.normal_(norm.weight)
    x = torch.randn(2, *size, 48)
    assert NativeSparseAttention.fits(attention, norm)
    want = attention(norm(x))
    torch.testing.assert_close(NativeSparseAttention(attention, norm)(x), want, rtol=0, atol=2e-5)
    # What the tokens give is a part of it that shows.
    attention.global_kv.weight.zero_()
    assert float((attention(norm(x)) - want).abs().max()) > 0.05


@needs_kernels
@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("output_proj", [False, True])
def test_attention_of_wacnn(shift: int, output_proj: bool) -> None:
    module = WinNoShiftAttention(40, 5, 4, shift, drop_path=0.1, output_proj=output_proj)
    x = torch.randn(2, 40, 10, 9)
    assert_replaced(ready(module), x, [NativeWindowBlock])


@needs_kernels
@pytest.mark.parametrize("output_proj", [False, True])
def test_attention_alone(output_proj: bool) -> None:
    module = ready(WMSA(24, 24, 8, (4, 6), "SW", output_proj=output_proj))
    x = torch.randn(2, 7, 9, 24)
    assert_replaced(module, x, [NativeWindowBlock])
    turned = torch.randn(2, 24, 7, 9).permute(0, 2, 3, 1)
    assert_same(native(module)(turned), module(turned))


@needs_kernels
@pytest.mark.parametrize("gain", [1e-3, 1.0, 30.0, 1e4])
def test_logits_of_any_size(gain: float) -> None:
    module = ready(WMSA(16, 16, 8, 4, "SW"))
    x = gain * torch.randn(16, 8, 8, 16)
    expected = copy.deepcopy(module).double()(x.double())

    def error(y: Tensor) -> Tensor:
        return (y - expected).abs().mean() / expected.abs().mean()

    # The larger logits are the more is lost when they are rounded, whoever does it. The largest
    # error is that of the closest tie, which is won or lost by luck; the mean is not.
    assert error(native(module)(x)) <= 2 * error(module(x)) + 1e-7


@needs_kernels
def test_gelu_is_exact_far_out() -> None:
    block = ready(SwinTransformerBlock(16, 2, 4, 0, 1.0))
    nn.init.zeros_(block.mlp.fc1.weight)
    nn.init.eye_(block.mlp.fc2.weight)
    nn.init.zeros_(block.mlp.fc2.bias)
    x = torch.randn(1, 4, 4, 16)
    for start in torch.linspace(-30, 30, 61):
        block.mlp.fc1.bias.copy_(start + torch.arange(16) / 16)
        zero = copy.deepcopy(block)
        nn.init.zeros_(zero.mlp.fc2.weight)
        got = native(block)(x) - native(zero)(x)
        expected = nn.functional.gelu(block.mlp.fc1.bias.double()).float()
        assert (got - expected).abs().max() <= 3e-6 * max(1, expected.abs().max())


@needs_kernels
def test_result_may_replace_the_input_or_some_channels_of_a_wider_map() -> None:
    module = ready(Block(16, 16, 8, 4, 0.0, "SW"))
    x = torch.randn(2, 9, 10, 16)
    expected = native_window_block(module)(x)
    wide = torch.zeros(2, 9, 10, 40)
    wide[..., 5:21] = x
    native_window_block(module)(wide[..., 5:21], wide[..., 21:37])
    assert torch.equal(wide[..., 21:37], expected)
    assert torch.equal(wide[..., 5:21], x)
    assert not wide[..., 37:].any()
    native_window_block(module)(x, x)
    assert torch.equal(x, expected)


@needs_kernels
def test_empty_batches() -> None:
    module = ready(Block(16, 16, 8, 4, 0.0))
    assert native(module)(torch.zeros(0, 8, 8, 16)).shape == (0, 8, 8, 16)


@needs_kernels
def test_default_type_of_torch_makes_no_difference() -> None:
    module, x = ready(Block(16, 16, 8, 4, 0.0)), torch.rand(1, 8, 8, 16)
    block, expected = native(module), native(module)(x)
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(block(x), expected)
    finally:
        torch.set_default_dtype(torch.float32)


class _OtherNorm(nn.LayerNorm):
    pass


def _with_tanh(block: SwinTransformerBlock) -> SwinTransformerBlock:
    block.mlp.act = nn.GELU(approximate="tanh")
    return block


@needs_kernels
@pytest.mark.parametrize(
    "module",
    [
        Block(16, 24, 8, 4, 0.0),
        WMSA(16, 24, 8, 4),
        SwinTransformerBlock(16, 2, 4, norm_layer=_OtherNorm),
        SwinTransformerBlock(16, 2, 4, norm_layer=lambda d: nn.LayerNorm(d, bias=False)),
        _with_tanh(SwinTransformerBlock(16, 2, 4)),
    ],
    ids=["widths", "projection", "norm", "norm_bias", "tanh"],
)
def test_what_the_kernel_does_not_compute_stays(
    module: nn.Module, request: pytest.FixtureRequest
) -> None:
    inside = 1 if request.node.callspec.id in ("widths", "norm_bias") else 0
    replaced = native(ready(module))
    assert len(natives(replaced)) == inside
    x = torch.randn(1, 8, 8, 16)
    assert_same(replaced(x), module(x))


def test_modules_stay_where_there_are_no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kernels, "available", lambda: False)
    module = ready(ConvTransBlock(16, 16, 8, 4, 0.0))
    replaced = native(module)
    assert not natives(replaced)
    net = small_net("tcm")
    prepared = prepare(net, "fp32")
    assert not natives(prepared.g_s.network)
    y = torch.randn(1, net.M, 8, 8)
    assert_same(prepared.g_s(y), net.g_s(y))


@needs_kernels
@pytest.mark.parametrize(("name", "count"), [("tcm", 6), ("wacnn", 2), ("stf", 4)])
def test_prepared_models_run_on_the_kernel(
    name: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    run = _kernels.window_block
    monkeypatch.setattr(_kernels, "window_block", lambda *args: (calls.append(1), run(*args)))
    net = small_net(name)
    x = torch.rand(2, 3, net.downsampling_factor, 2 * net.downsampling_factor)
    y = net.g_a(x)
    fast = prepare(net, "fp32")
    calls.clear()
    assert_same(fast.g_a(x), y)
    assert len(calls) == count
    assert_same(fast.g_s(y), net.g_s(y))
    assert len(calls) == 2 * count


# What the kernel computes, in the sources of the modules that it stands for. Who changes one of
# these changes the kernel too, or sees to it that the module is no longer replaced.
FORMULAS = {
    Block.forward: "c6c62a3fc39ced7c",
    SwinTransformerBlock.forward: "7c6a8668ec39ff9c",
    WMSA.forward: "4219f23b53fd9554",
    ShiftedWindows.attend: "9fb364cfd1fe980c",
    ShiftedWindows._attend_shifted: "9d492aff3b1549f9",
    ShiftedWindows._attend_windows: "09a3fe16d8794f7e",
    GatedBlock.forward: "c04a946268fda965",
    ConvolutionalGLU.forward: "b39a0efb4261630e",
    DWConv.forward: "abc235d7e287c757",
    Scale.forward: "14432a3bace7789d",
    GatedWindowAttention.forward: "433848a7fdc9b73b",
    GatedWindowAttention._attend_inside: "0c0292f209fa4e99",
    GatedWindowAttention.relative_position_bias: "51bf025559bbac2c",
    CrossSparseWindowAttention.forward: "433848a7fdc9b73b",
    CrossSparseWindowAttention._attend_inside: "4891076c6fb98cbc",
    CrossSparseWindowAttention.relative_position_bias: "8c8dc721587ddde7",
    WindowAttention.forward: "c48dcc72fbc73b9d",
    WindowAttention._bias: "a9c1e61fef72e0fa",
    WindowAttention.relative_position_bias: "b0a0491049eaa1b0",
    attend_with_bias: "f24643047f62f114",
    join_heads: "021c8595216a3c29",
    masked_bias: "4723a36895aeaf21",
    split_heads: "4f5ffa2b0de812e3",
}


@pytest.mark.parametrize("formula", FORMULAS, ids=lambda formula: formula.__qualname__)
def test_kernel_is_written_after_the_formula_that_is_there(formula: Any) -> None:
    source = "".join(inspect.getsource(formula).split())
    assert hashlib.sha256(source.encode()).hexdigest()[:16] == FORMULAS[formula]


@needs_kernels
@pytest.mark.parametrize("where", ["class", "instance"])
def test_blocks_with_another_formula_are_not_replaced(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ready(SwinTransformerBlock(16, 2, 4))
    x = torch.randn(1, 8, 8, 16)

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return x + self.mlp(self.norm2(x))

    if where == "class":
        monkeypatch.setattr(SwinTransformerBlock, "forward", forward)
    else:
        module.forward = forward.__get__(module)
    replaced = native(module)
    assert not natives(replaced)
    assert_same(replaced(x), module(x))


def _golden() -> list[Any]:
    spec = importlib.util.spec_from_file_location("golden_cases", GOLDEN / "check_golden.py")
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)
    options = argparse.Namespace(golden=GOLDEN, project=GOLDEN.parent.parent)
    found = {
        function.__self__
        for _, _, function in checker.cases(options)
        if isinstance(getattr(function, "__self__", None), checker.ChannelSliceCase)
    }
    return sorted(found, key=lambda case: case.name)


@pytest.mark.parametrize("case", _golden(), ids=lambda case: case.name)
def test_prepared_synthesis_gives_the_golden_images(case: Any) -> None:
    _, seen = case.forward_result
    expected = torch.from_numpy(case.tensor("forward/x_hat"))
    stride = case.spec.get("stride", {}).get("forward/x_hat", 1)
    x_hat = prepare(case.net, "fp32").g_s(seen[-1]["y_hat"])[..., ::stride, ::stride]
    assert (x_hat - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


def _arguments() -> dict[str, Any]:
    block = native_window_block(ready(SwinTransformerBlock(16, 2, (2, 4), 1, 2.0)))
    return {
        "x": torch.zeros(1, 4, 4, 16),
        "out": torch.zeros(1, 4, 4, 16),
        **{name: getattr(block, name) for name in ("window", "shift", "heads", "scale", "bias")},
        **{name: getattr(block, name) for name in ("skip", "norm1", "qkv", "proj", "norm2", "mlp")},
        "threads": 1,
    }


@needs_kernels
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("out", torch.zeros(1, 4, 5, 16), "out must have the shape of x"),
        ("out", torch.zeros(1, 4, 16, 4).mT, "out must have its channels one behind another"),
        ("window", (0, 4), "window must be positive"),
        ("window", (4, 65), "window must be at most 64"),
        ("window", (4, 4), "bias must have 4096 values, got 2048"),
        ("shift", 2, "shift must be smaller than the window, got shift=2"),
        ("heads", 3, "heads must divide the channels of x, got heads=3 and 16 channels"),
        ("heads", 0, "heads must divide the channels of x, got heads=0 and 16 channels"),
        ("norm1", (torch.ones(15), torch.ones(16), 1e-5), "norm1 must have"),
        ("norm2", (torch.ones(16), torch.ones(17), 1e-5), "norm2 must have"),
        ("qkv", (torch.zeros(3, 15, 16), torch.zeros(48)), r"qkv must have weights \(3, 16, 16\)"),
        ("proj", (torch.zeros(1, 16, 16), torch.zeros(15)), "proj must have 16 biases"),
        ("mlp", (0, *2 * [(torch.zeros(1, 16, 16), torch.zeros(16))]), "mlp must have hidden"),
        (
            "mlp",
            (17, *2 * [(torch.zeros(1, 16, 16), torch.zeros(16))]),
            "fc1 of mlp must have",
        ),
        ("threads", 0, "threads must be positive, got 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, value: object, message: str) -> None:
    arguments = _arguments()
    _kernels.window_block(**arguments)
    with pytest.raises(ValueError, match=message):
        _kernels.window_block(**{**arguments, name: value})


@needs_kernels
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", torch.zeros(1, 4, 4, 16, dtype=torch.float64)),
        ("x", torch.zeros(4, 4, 16)),
        ("bias", torch.zeros(2, 1024)),
        ("shift", -1),
    ],
)
def test_arguments_of_other_types_are_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError):
        _kernels.window_block(**{**_arguments(), name: value})
