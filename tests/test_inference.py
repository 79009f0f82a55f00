# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Prepared models: the same strings and latents as before, whatever the transforms compute in."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from slice_nets import small_net
from tiny_nets import SIZES, tiny_net
from torch import Tensor, nn

from compressai.bitstream import fingerprint
from compressai.inference import choose_precision, has_native_bfloat16, prepare
from compressai.inference.fusion import FusedConv, fuse
from compressai.layers import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
)
from compressai.models import MeanScaleHyperprior, ScaleSpaceFlow
from compressai.models.lite import Lite

LITE = {"N": 8, "M": 16, "widths": (8, 16), "depths": (1, 1), "context_widths": (8,)}
NETS = (
    *("bmshj2018-factorized", "mbt2018-mean", "cheng2020-anchor", "elic2022-official"),
    *("stf", "wacnn", "tcm", "cca", "lite"),
)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@cache
def net_of(name: str) -> nn.Module:
    if name == "lite":
        torch.manual_seed(0)
        return Lite(**LITE).eval()
    net = tiny_net(name) if name in SIZES else small_net(name)
    net.update()
    return net


def picture(net: nn.Module, seed: int = 1) -> Tensor:
    side = getattr(net, "downsampling_factor", 64)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, side, 2 * side, generator=generator)


def decoded_latent(net: nn.Module, coded: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The decoded latent, as the synthesis gets it, and the picture."""
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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NETS)
def test_strings_are_those_of_the_model(name: str, precision: str) -> None:
    net = net_of(name)
    prepared = prepare(net, precision)
    x = picture(net)
    with torch.no_grad():
        assert torch.equal(prepared.g_a(x), net.g_a(x))
    assert prepared.compress(x)["strings"] == net.compress(x)["strings"]


@pytest.mark.parametrize("name", NETS)
def test_any_precision_decodes_any_other_to_the_same_latent(name: str) -> None:
    net = net_of(name)
    fp32, bf16 = (prepare(net, kind, same_strings=False) for kind in ("fp32", "bf16"))
    for encoder in (fp32, bf16):
        coded = encoder.compress(picture(net))
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


def test_layout_of_feature_maps_is_a_choice() -> None:
    net = net_of("cheng2020-anchor")
    layouts = []
    for channels_last in (True, False):
        prepared = prepare(net, "fp32", channels_last, same_strings=False)
        hook = prepared.g_s._network[-1].register_forward_pre_hook(
            lambda module, args: layouts.append(args[0].stride(1) == 1)
        )
        prepared.g_s(torch.rand(1, 4, 8, 8))
        hook.remove()
    assert layouts == [True, False]


@pytest.mark.parametrize("name", ["cheng2020-anchor", "elic2022-official", "wacnn", "tcm", "cca"])
def test_fused_transforms_differ_in_the_last_digits_only(name: str) -> None:
    net = net_of(name)
    x = picture(net)
    with torch.no_grad():
        y = net.g_a(x)
    other = prepare(net, "fp32", same_strings=False).g_a(x)
    assert (other - y).abs().max() < 1e-4 * y.abs().max()


def test_convolutions_apply_activations_themselves() -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("needs oneDNN")
    blocks = nn.Sequential(
        ResidualBlockWithStride(3, 8),
        ResidualBlock(8, 8),
        ResidualBlockUpsample(8, 8),
        ResidualBottleneckBlock(8, 8),
        AttentionBlock(8),
        nn.Sequential(nn.Conv2d(8, 8, 1), nn.GELU(), nn.GELU(approximate="tanh")),
    )
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        expected = blocks(x)
        fuse(blocks, torch.float32, torch.device("cpu"))
        fused = sum(isinstance(module, FusedConv) for module in blocks.modules())
        assert fused == 1 + 2 + 1 + 2 + 6 * 2 + 1
        torch.testing.assert_close(blocks(x), expected)


@pytest.mark.parametrize("name", ["mbt2018-mean", "stf", "tcm", "lite"])
def test_latents_of_bf16_are_close_to_those_of_fp32(name: str) -> None:
    net = net_of(name)
    x = picture(net)
    with torch.no_grad():
        y = net.g_a(x)
    other = prepare(net, "bf16", same_strings=False).g_a(x)
    assert other.dtype == torch.float32
    assert other.is_contiguous()
    assert 0 < (other - y).norm() < 0.05 * y.norm()


@pytest.mark.parametrize("name", NETS)
def test_analysis_in_bf16_gets_samples_without_rounding(name: str) -> None:
    """As whole numbers: a sample of 8 bits in [0, 1] has no exact value in bfloat16."""
    net = net_of(name)
    prepared = prepare(net, "bf16", same_strings=False)
    seen: list[Tensor] = []
    network = getattr(prepared.g_a._network, "__self__", prepared.g_a._network)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = (picture(net) * 255).round() / 255
    y = prepared.g_a(x)
    assert torch.equal(seen[0].float().flatten().sort()[0], (x * 255).round().flatten().sort()[0])
    with torch.no_grad():
        assert (y - net.g_a(x)).norm() < 0.02 * y.norm()


class Darkened(nn.Module):
    """An analysis in which samples matter otherwise than as the input of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 5, stride=16, padding=2)
        self.last = nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x)) * (1 - x.mean()))


def test_analysis_that_is_no_multiple_of_its_input_stays_as_it_is() -> None:
    net = MeanScaleHyperprior(4, 6).eval()
    net.g_a = Darkened().eval()
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = net.g_a(x)
    other = prepare(net, "bf16", same_strings=False).g_a(x)
    assert 0 < (other - y).norm() < 0.02 * y.norm()


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
    x = picture(net)
    bf16 = prepare(net, "bf16")
    again = prepare(prepare(bf16, "bf16"), "fp32")
    assert again.preparation.reference is net
    assert torch.equal(again.g_a(x), net.g_a(x))
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
    x = picture(net)
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


def test_other_devices_have_no_bf16_that_is_known_of() -> None:
    assert not has_native_bfloat16("meta")


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
@pytest.mark.parametrize("name", NETS)
def test_coding_on_a_gpu(name: str) -> None:
    import copy

    net = copy.deepcopy(net_of(name)).cuda()
    prepared = prepare(net)
    coded = prepared.compress(picture(net).cuda())
    latent, x_hat = decoded_latent(net, coded)
    other, pixels = decoded_latent(prepared, coded)
    assert x_hat.is_cuda
    assert pixels.is_cuda
    assert torch.equal(latent, other)
