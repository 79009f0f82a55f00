# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Prepared models: the same strings and latents as before, whatever the transforms compute in."""

from __future__ import annotations

import copy
import sys
import threading
from functools import cache
from typing import Any

import pytest
import torch
from slice_nets import small_net
from tiny_nets import SIZES, tiny_net
from torch import Tensor, nn

from compressai import _kernels
from compressai.bitstream import fingerprint
from compressai.inference import choose_precision, graph, has_native_bfloat16, prepare
from compressai.inference.graph import is_native, use_kernels
from compressai.inference.kernels import NativeConv, NativeGDN
from compressai.layers import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBottleneckBlock,
)
from compressai.models import MeanScaleHyperprior, ScaleSpaceFlow
from compressai.models.lite import Lite

LITE = {"N": 8, "M": 24, "details": 8, "widths": (8, 16), "depths": (1, 1), "context_widths": (8,)}
NETS = (
    *("bmshj2018-factorized", "mbt2018-mean", "cheng2020-anchor", "elic2022-official"),
    *("stf", "wacnn", "tcm", "cca", "lite"),
)

needs_kernels = pytest.mark.skipif(not _kernels.available(), reason="needs a processor with AVX2")

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@cache
def net_of(name: str) -> nn.Module:
    if name == "lite":
        torch.manual_seed(0)
        return Lite(**LITE).eval()
    net = tiny_net(name) if name in SIZES else small_net(name)
    net.update()
    return net


def sample(net: nn.Module, seed: int = 1) -> Tensor:
    side = getattr(net, "downsampling_factor", 64)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, side, 2 * side, generator=generator)


def decoded_latent(net: nn.Module, coded: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The decoded latent, as the synthesis gets it, and the image."""
    latents = []
    synthesis = net.g_s

    def spy(y_hat: Tensor) -> Tensor:
        latents.append(y_hat.clone())
        return synthesis(y_hat)

    inner = net._modules.pop("g_s", None)
    before = vars(net).get("g_s")
    vars(net)["g_s"] = spy
    try:
        x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    finally:
        del vars(net)["g_s"]
        if before is not None:
            vars(net)["g_s"] = before
        if inner is not None:
            net._modules["g_s"] = inner
    return latents[0], x_hat


@pytest.mark.parametrize("name", NETS)
def test_latents_differ_in_the_last_digits_only_and_by_no_precision(name: str) -> None:
    net = net_of(name)
    fp32, bf16 = (prepare(net, kind) for kind in ("fp32", "bf16"))
    x = sample(net)
    with torch.no_grad():
        y = net.g_a(x)
    assert (fp32.g_a(x) - y).abs().max() < 1e-4 * y.abs().max()
    assert torch.equal(bf16.g_a(x), fp32.g_a(x))
    assert fp32.compress(x)["strings"] == bf16.compress(x)["strings"]


@pytest.mark.parametrize("name", NETS)
def test_any_precision_decodes_any_other_to_the_same_latent(name: str) -> None:
    net = net_of(name)
    fp32, bf16 = (prepare(net, kind) for kind in ("fp32", "bf16"))
    for encoder in (fp32, bf16):
        coded = encoder.compress(sample(net))
        latent, _ = decoded_latent(net, coded)
        with torch.no_grad():
            x_hat = net.g_s(latent)
        for decoder, tolerance in ((fp32, 1e-4), (bf16, 0.05)):
            other, _ = decoded_latent(decoder, coded)
            assert torch.equal(other, latent)
            theirs = decoder.g_s(latent)
            assert theirs.dtype == torch.float32
            assert theirs.is_contiguous()
            assert (theirs - x_hat).norm() < tolerance * x_hat.norm()


class Halved(ResidualBlock):
    """A block whose formula somebody has changed."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 * super().forward(x)


def test_changed_formulas_are_computed() -> None:
    """Speed follows ``forward``, whatever the class is called and whoever changed it."""
    for change in (lambda block: Halved, None):
        net = MeanScaleHyperprior(4, 16).eval()
        block = ResidualBlock(16, 16).eval()
        net.g_s = nn.Sequential(block, net.g_s).eval()
        if change is None:
            block.forward = lambda x, block=block: block.conv1(x) * 3 + x
        else:
            block.__class__ = change(block)
        y = torch.randn(1, 16, 4, 4, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            torch.testing.assert_close(prepare(net, "fp32").g_s(y), net.g_s(y), atol=1e-5, rtol=0)


def test_transform_that_kernels_compute_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from compressai.inference import prepare as prepare_module  # the function hides the module

    module = sys.modules[prepare_module.__module__]
    monkeypatch.setattr(module, "use_kernels", lambda network: nn.Sequential(network, nn.ReLU()))
    with pytest.raises(ValueError, match="g_a cannot be prepared"):
        prepare(MeanScaleHyperprior(4, 6).eval(), "fp32")


@needs_kernels
def test_layers_do_what_stands_behind_them() -> None:
    """Found in the graph of the blocks' own formulas: no activation and no sum is left over."""
    blocks = nn.Sequential(
        ResidualBlock(16, 16),
        ResidualBlockUpsample(16, 16),
        ResidualBlock(16, 32),
        ResidualBottleneckBlock(32, 32),
        AttentionBlock(32),
        nn.Sequential(nn.Conv2d(32, 48, 3, padding=1), nn.PixelShuffle(4)),
    ).eval()
    x = torch.rand(1, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = blocks(x)
        fused = use_kernels(copy.deepcopy(blocks))
        got = fused(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    kinds = {type(module) for module in fused.modules()}
    assert kinds & {NativeConv, NativeGDN} == {NativeConv, NativeGDN}
    assert not kinds & {nn.Conv2d, nn.LeakyReLU, nn.ReLU, nn.PixelShuffle}
    # What is left is the gate of the attention: sigmoid, product and sum.
    assert [node.op for node in fused.graph.nodes].count("call_function") == 3


def test_preparation_leaves_the_model_as_it_was() -> None:
    net = net_of("mbt2018-mean")
    before = {key: value.clone() for key, value in net.state_dict().items()}
    prepare(net, "bf16")
    assert {value.dtype for value in net.g_a.parameters()} == {torch.float32}
    assert all(value.requires_grad for value in net.g_a.parameters())
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", ["mbt2018-mean", "stf"])
def test_prepared_model_has_the_weights_tables_and_fingerprint_of_the_model(name: str) -> None:
    net = net_of(name)
    prepared = prepare(net, "bf16")
    assert type(prepared) is type(net)
    assert prepared.state_dict().keys() == net.state_dict().keys()
    assert fingerprint(prepared) == fingerprint(net)
    assert {id(p) for p in prepared.parameters()} == {id(p) for p in net.parameters()}


def test_prepared_model_can_be_prepared_again() -> None:
    net = net_of("mbt2018-mean")
    x = sample(net)
    bf16 = prepare(net, "bf16")
    again = prepare(prepare(bf16, "bf16"), "fp32")
    assert again.preparation.reference is net
    assert torch.equal(again.g_a(x), prepare(net, "fp32").g_a(x))
    assert bf16.preparation.dtype == torch.bfloat16


def test_model_in_training_mode_is_refused() -> None:
    net = MeanScaleHyperprior(4, 6)
    with pytest.raises(ValueError, match=r"net.eval\(\)"):
        prepare(net)
    prepared = prepare(net.eval())
    prepared.train()
    with pytest.raises(ValueError, match="cannot be trained"):
        prepared(torch.rand(1, 3, 64, 64))


def test_prepared_model_notices_that_weights_changed() -> None:
    net = MeanScaleHyperprior(4, 6).eval()
    prepared = prepare(net, "fp32")
    x = sample(net)
    prepared.compress(x)
    net.load_state_dict(MeanScaleHyperprior(4, 6).state_dict())
    with pytest.raises(ValueError, match="call prepare"):
        prepared.compress(x)
    prepare(net, "fp32").compress(x)


def test_models_without_transforms_are_refused() -> None:
    with pytest.raises(TypeError, match="CompressionModel"):
        prepare(nn.Conv2d(3, 3, 1).eval())
    with pytest.raises(ValueError, match="g_a and g_s"):
        prepare(ScaleSpaceFlow().eval())


def test_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="precision"):
        prepare(net_of("mbt2018-mean"), "fp16")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        # Instructions alone are no reason: without tiles, float32 is the faster one.
        ({"avx512_bf16": True, "amx_bf16": False}, torch.float32),
        ({"avx512_f": True, "amx_bf16": False, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_automatic_precision_is_bf16_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto") == expected
    assert choose_precision("fp32") == torch.float32
    assert choose_precision("bf16") == torch.bfloat16


@pytest.mark.parametrize("has_tiles", [False, True])
def test_tiles_are_seen_by_the_oldest_torch_too(
    monkeypatch: pytest.MonkeyPatch, has_tiles: bool
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_tiles)
    assert has_native_bfloat16("cpu") == has_tiles


def test_other_devices_have_no_bf16_that_is_known_of() -> None:
    assert not has_native_bfloat16("meta")


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
@pytest.mark.parametrize("name", NETS)
def test_coding_on_a_gpu(name: str) -> None:
    import copy

    net = copy.deepcopy(net_of(name)).cuda()
    prepared = prepare(net)
    coded = prepared.compress(sample(net).cuda())
    latent, x_hat = decoded_latent(net, coded)
    other, pixels = decoded_latent(prepared, coded)
    assert x_hat.is_cuda
    assert pixels.is_cuda
    assert torch.equal(latent, other)


def test_networks_of_other_threads_are_not_traced() -> None:
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    x = torch.rand(1, 3, 8, 8)
    expected = other(x)
    seen: list[Any] = []

    class Meeting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            def run() -> None:
                try:
                    seen.append(other(torch.clone(known)))
                except Exception as error:
                    seen.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            thread.join()
            return self.conv(x)

    known = x
    assert graph._trace(Meeting(), set()) is not None
    assert torch.equal(seen[0], expected)


@needs_kernels
@pytest.mark.parametrize("channels", [48, 144])
def test_bottlenecks_of_any_width_run_on_kernels(channels: int) -> None:
    torch.manual_seed(channels)
    block = ResidualBottleneckBlock(channels, channels).eval()
    x = torch.randn(2, channels, 9, 13).to(memory_format=torch.channels_last)
    with torch.no_grad():
        native = use_kernels(nn.Sequential(copy.deepcopy(block)))
        torch.testing.assert_close(native(x), block(x), rtol=1e-4, atol=1e-5)
    assert sum(is_native(layer) for layer in native.modules()) == 3
    assert not any(isinstance(layer, nn.Conv2d) for layer in native.modules())
    assert block.conv2.in_channels == channels // 2
