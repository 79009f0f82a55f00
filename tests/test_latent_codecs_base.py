# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codecs that are not particular to channel slices: round trips, protocol and errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressai import ans
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    CheckerboardLatentCodec,
    EntropyBottleneckLatentCodec,
    GainHyperLatentCodec,
    GainHyperpriorLatentCodec,
    GaussianConditionalLatentCodec,
    HyperLatentCodec,
    HyperpriorLatentCodec,
    LatentCodec,
    RasterScanLatentCodec,
)
from compressai.latent_codecs.rasterscan import (
    raster_scan_compress_single_stream,
    raster_scan_decompress_single_stream,
)
from compressai.layers import CheckerboardMaskedConv2d, MaskedConv2d
from compressai.models import get_scale_table
from compressai.registry import MODULES

M = 4


def _ready(codec: LatentCodec) -> LatentCodec:
    for module in codec.modules():
        if isinstance(module, EntropyBottleneck):
            module.update()
        elif isinstance(module, GaussianConditional):
            module.update_scale_table(get_scale_table())
    return codec.eval()


def _checkerboard(**kwargs: Any) -> CheckerboardLatentCodec:
    return CheckerboardLatentCodec(
        {"y": GaussianConditionalLatentCodec(quantizer="ste")},
        entropy_parameters=nn.Sequential(
            nn.Conv2d(2 * M + 8, 16, 1), nn.ReLU(), nn.Conv2d(16, 2 * M, 1)
        ),
        context_prediction=CheckerboardMaskedConv2d(M, 2 * M, 5, padding=2),
        **kwargs,
    )


def _raster_scan() -> RasterScanLatentCodec:
    return RasterScanLatentCodec(
        GaussianConditional(None),
        nn.Sequential(
            nn.Conv2d(2 * M + 8, 16, 1), nn.LeakyReLU(inplace=True), nn.Conv2d(16, 2 * M, 1)
        ),
        MaskedConv2d(M, 2 * M, 5, padding=2),
    )


def _leaf() -> GaussianConditionalLatentCodec:
    return GaussianConditionalLatentCodec(
        quantizer="ste", entropy_parameters=nn.Conv2d(8, 2 * M, 1)
    )


def _groups() -> ChannelGroupsLatentCodec:
    def leaf(side: int) -> GaussianConditionalLatentCodec:
        return GaussianConditionalLatentCodec(
            quantizer="ste", entropy_parameters=nn.Conv2d(side, 4, 1)
        )

    return ChannelGroupsLatentCodec(
        {"y0": leaf(8), "y1": leaf(12)},
        {"y1": nn.Conv2d(2, 4, 3, padding=1)},
        groups=[2, 2],
    )


def _hyper() -> HyperLatentCodec:
    return HyperLatentCodec(
        EntropyBottleneck(6),
        h_a=nn.Conv2d(M, 6, 3, stride=2, padding=1),
        h_s=nn.Sequential(nn.Conv2d(6, 32, 3, padding=1), nn.PixelShuffle(2)),
        quantizer="ste",
    )


SIDE_CODECS = {
    "gaussian": _leaf,
    "groups": _groups,
    "checkerboard": _checkerboard,
    "checkerboard-odd": lambda: _checkerboard(anchor_parity="odd"),
    "raster-scan": _raster_scan,
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", SIDE_CODECS)
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_decoder_gives_what_the_encoder_promised(name: str, batch: int) -> None:
    codec = _ready(SIDE_CODECS[name]())
    y, side = 5 * torch.randn(batch, M, 6, 8), torch.randn(batch, 8, 6, 8)
    out = codec.compress(y, side)
    assert all(len(step) == batch for step in out["strings"])
    decoded = codec.decompress(out["strings"], out["shape"], side)
    assert torch.equal(decoded["y_hat"], out["y_hat"])
    assert (decoded["y_hat"] - y).abs().max() <= 0.5001


@pytest.mark.parametrize("name", [name for name in SIDE_CODECS if name != "raster-scan"])
@torch.no_grad()
def test_evaluation_sees_the_values_of_the_decoder(name: str) -> None:
    codec = _ready(SIDE_CODECS[name]())
    y, side = 5 * torch.randn(2, M, 6, 8), torch.randn(2, 8, 6, 8)
    assert torch.equal(codec(y, side)["y_hat"], codec.compress(y, side)["y_hat"])


@pytest.mark.parametrize("name", SIDE_CODECS)
@torch.no_grad()
def test_items_of_a_batch_do_not_influence_each_other(name: str) -> None:
    codec = _ready(SIDE_CODECS[name]())
    y, side = 5 * torch.randn(3, M, 4, 6), torch.randn(3, 8, 4, 6)
    together = codec.compress(y, side)["strings"]
    for i in range(3):
        alone = codec.compress(y[i : i + 1], side[i : i + 1])["strings"]
        assert [step[i] for step in together] == [step[0] for step in alone]


@pytest.mark.parametrize("name", SIDE_CODECS)
def test_every_parameter_learns(name: str) -> None:
    codec = SIDE_CODECS[name]().train()
    y, side = torch.randn(2, M, 6, 8, requires_grad=True), torch.randn(2, 8, 6, 8)
    out = codec(y, side)
    (out["y_hat"].square().mean() - out["likelihoods"]["y"].log().mean()).backward()
    assert all(p.grad is not None for p in codec.parameters())
    assert y.grad is not None


@pytest.mark.parametrize("name", SIDE_CODECS)
def test_state_dict_round_trip(name: str) -> None:
    codec, other = _ready(SIDE_CODECS[name]()), SIDE_CODECS[name]().eval()
    other.load_state_dict(codec.state_dict())
    y, side = torch.randn(1, M, 4, 4), torch.randn(1, 8, 4, 4)
    assert other.compress(y, side)["strings"] == codec.compress(y, side)["strings"]


def test_registered_under_their_names() -> None:
    for cls in (
        ChannelGroupsLatentCodec,
        CheckerboardLatentCodec,
        EntropyBottleneckLatentCodec,
        GainHyperLatentCodec,
        GainHyperpriorLatentCodec,
        GaussianConditionalLatentCodec,
        HyperLatentCodec,
        HyperpriorLatentCodec,
        RasterScanLatentCodec,
    ):
        assert MODULES[cls.__name__] is cls


# -- bottleneck and hyper -------------------------------------------------------------------------


@pytest.mark.parametrize("quantizer", ["noise", "ste"])
def test_bottleneck_codec_round_trip(quantizer: str) -> None:
    codec = _ready(EntropyBottleneckLatentCodec(channels=M, quantizer=quantizer))
    y = 5 * torch.randn(2, M, 4, 6)
    out = codec.compress(y)
    assert out["shape"] == (4, 6)
    assert torch.equal(codec.decompress(out["strings"], out["shape"])["y_hat"], out["y_hat"])
    assert torch.equal(codec(y)["y_hat"], out["y_hat"])
    with pytest.raises(ValueError, match="one step"):
        codec.decompress(out["strings"] * 2, out["shape"])


def test_ste_quantizer_rounds_in_training_too() -> None:
    codec = EntropyBottleneckLatentCodec(channels=M, quantizer="ste").train()
    y = 5 * torch.randn(1, M, 4, 4)
    assert torch.equal(codec(y)["y_hat"], torch.round(y))


@pytest.mark.parametrize("layout", ["hyper", "z"])
@torch.no_grad()
def test_hyperprior_layouts_agree(layout: str) -> None:
    hyper = _hyper()
    leaf = _leaf()
    if layout == "hyper":
        codec = HyperpriorLatentCodec({"y": leaf, "hyper": hyper})
        names = {"y", "hyper"}
    else:
        z = EntropyBottleneckLatentCodec(hyper.entropy_bottleneck, quantizer="ste")
        codec = HyperpriorLatentCodec({"y": leaf, "z": z}, h_a=hyper.h_a, h_s=hyper.h_s)
        names = {"y", "z", "h_a", "h_s"}
    assert {key.split(".")[0] for key in codec.state_dict()} == names
    _ready(codec)
    y = 5 * torch.randn(2, M, 8, 8)
    out = codec.compress(y)
    assert len(out["strings"]) == 2
    assert torch.equal(codec.decompress(out["strings"], out["shape"])["y_hat"], out["y_hat"])
    forward = codec(y)
    assert torch.equal(forward["y_hat"], out["y_hat"])
    assert set(forward["likelihoods"]) == {"y", "z"}


def test_hyperprior_uses_a_codec_that_was_replaced() -> None:
    codec = HyperpriorLatentCodec({"y": _leaf(), "hyper": _hyper()})
    codec.y = _leaf()
    assert codec.latent_codec["y"] is codec.y is codec["y"]


def test_module_dict_is_not_listed_twice() -> None:
    plain = HyperpriorLatentCodec({"y": _leaf(), "hyper": _hyper()})
    module_dict = HyperpriorLatentCodec(nn.ModuleDict({"y": _leaf(), "hyper": _hyper()}))
    assert plain.state_dict().keys() == module_dict.state_dict().keys()


def test_hyperprior_refuses_other_keys_and_strings() -> None:
    with pytest.raises(ValueError, match="keys"):
        HyperpriorLatentCodec({"y": _leaf()})
    codec = _ready(HyperpriorLatentCodec({"y": _leaf(), "hyper": _hyper()}))
    out = codec.compress(torch.randn(2, M, 8, 8))
    with pytest.raises(ValueError, match="length"):
        codec.decompress([out["strings"][0], out["strings"][1][:1]], out["shape"])
    with pytest.raises(ValueError, match="y and z"):
        codec.decompress(out["strings"][:1], out["shape"])


@torch.no_grad()
def test_gains_scale_around_the_codecs() -> None:
    hyper = GainHyperLatentCodec(
        EntropyBottleneck(6),
        h_a=nn.Conv2d(M, 6, 3, stride=2, padding=1),
        h_s=nn.Sequential(nn.Conv2d(6, 32, 3, padding=1), nn.PixelShuffle(2)),
    )
    codec = _ready(GainHyperpriorLatentCodec({"y": _leaf(), "hyper": hyper}))
    y = torch.randn(2, M, 8, 8)
    y_gain, z_gain = torch.full((1, M, 1, 1), 16.0), torch.full((1, 6, 1, 1), 3.0)
    out = codec.compress(y, y_gain, z_gain, 1 / y_gain, 1 / z_gain)
    decoded = codec.decompress(out["strings"], out["shape"], 1 / y_gain, 1 / z_gain)
    assert torch.equal(decoded["y_hat"], out["y_hat"])
    assert (decoded["y_hat"] - y).abs().max() <= 0.51 / 16
    assert torch.equal(codec(y, y_gain, z_gain, 1 / y_gain, 1 / z_gain)["y_hat"], out["y_hat"])


# -- gaussian leaf --------------------------------------------------------------------------------


def test_chunks_tell_the_order_of_the_parameters() -> None:
    y, scales, means = torch.randn(1, M, 2, 2), torch.rand(1, M, 2, 2) + 1, torch.randn(1, M, 2, 2)
    outs = []
    for chunks, params in (
        (("scales", "means"), (scales, means)),
        (("means", "scales"), (means, scales)),
    ):
        codec = _ready(GaussianConditionalLatentCodec(chunks=chunks))
        outs.append(codec(y, torch.cat(params, dim=1)))
    assert torch.equal(outs[0]["y_hat"], outs[1]["y_hat"])
    assert torch.equal(outs[0]["likelihoods"]["y"], outs[1]["likelihoods"]["y"])


def test_scales_alone_code_around_zero() -> None:
    codec = _ready(GaussianConditionalLatentCodec(chunks=("scales",)))
    y, scales = 3 * torch.randn(1, M, 2, 2), torch.rand(1, M, 2, 2) + 1
    out = codec.compress(y, scales)
    assert torch.equal(out["y_hat"], torch.round(y))
    assert torch.equal(codec.decompress(out["strings"], [2, 2], scales)["y_hat"], out["y_hat"])


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"quantizer": "hard"}, ValueError),
        ({"chunks": ("means",)}, ValueError),
        ({"chunks": ("scales",), "quantizer": "ste"}, ValueError),
        ({"unknown": 1}, TypeError),
        ({"gaussian_conditional": GaussianConditional(None), "tail_mass": 1e-3}, TypeError),
    ],
)
def test_leaf_refuses_options_it_does_not_know(kwargs: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        GaussianConditionalLatentCodec(**kwargs)


def test_leaf_checks_the_shape() -> None:
    codec = _ready(_leaf())
    side = torch.randn(1, 8, 4, 4)
    out = codec.compress(torch.randn(1, M, 4, 4), side)
    assert codec.decompress(out["strings"], (M, 4, 4), side)["y_hat"].shape == (1, M, 4, 4)
    with pytest.raises(ValueError, match="shape"):
        codec.decompress(out["strings"], (4, 5), side)


# -- checkerboard ---------------------------------------------------------------------------------


def test_checkerboard_takes_positions_apart_and_puts_them_back() -> None:
    for parity, first in (("even", 0), ("odd", 1)):
        codec = _checkerboard(anchor_parity=parity)
        y = torch.arange(2 * 3 * 5 * 6.0).reshape(2, 3, 5, 6)
        halves = codec.unembed(y)
        assert halves.shape == (2, 2, 3, 5, 3)
        assert torch.equal(codec.embed(halves), y)
        row, column = torch.meshgrid(torch.arange(5), torch.arange(6), indexing="ij")
        anchors = ((row + column) % 2 == first).float().expand(1, 1, 5, 6)
        assert codec.unembed(anchors)[0].all()
        assert not codec.unembed(anchors)[1].any()


@torch.no_grad()
def test_checkerboard_anchors_do_not_see_the_rest() -> None:
    codec = _ready(_checkerboard())
    y, side = torch.randn(1, M, 4, 6), torch.randn(1, 8, 4, 6)
    halves = codec.unembed(y)
    halves[1] += 3
    a, b = codec.compress(y, side), codec.compress(codec.embed(halves), side)
    assert a["strings"][0] == b["strings"][0]
    assert a["strings"][1] != b["strings"][1]


@torch.no_grad()
def test_checkerboard_forward_methods_agree_where_they_must() -> None:
    codec = _ready(_checkerboard())
    y, side = 4 * torch.randn(1, M, 4, 6), torch.randn(1, 8, 4, 6)
    outs = {}
    for method in ("twopass", "twopass_faster", "onepass"):
        codec.forward_method = method
        outs[method] = codec(y, side)
    for key in ("y_hat",):
        assert torch.equal(outs["twopass"][key], outs["twopass_faster"][key])
    assert torch.equal(
        outs["twopass"]["likelihoods"]["y"], outs["twopass_faster"]["likelihoods"]["y"]
    )
    assert torch.equal(outs["onepass"]["y_hat"], torch.round(y))


def test_checkerboard_errors() -> None:
    with pytest.raises(KeyError):
        _checkerboard(anchor_parity="none")
    with pytest.raises(ValueError, match="forward_method"):
        _checkerboard(forward_method="threepass")
    codec = _checkerboard()
    with pytest.raises(ValueError, match="even width"):
        codec(torch.randn(1, M, 4, 5), torch.randn(1, 8, 4, 5))
    codec.forward_method = "threepass"
    with pytest.raises(ValueError, match="forward_method"):
        codec(torch.randn(1, M, 4, 6), torch.randn(1, 8, 4, 6))
    with pytest.raises(ValueError, match="anchors"):
        codec.decompress([[b""]], (M, 4, 6), torch.randn(1, 8, 4, 6))


# -- raster scan ----------------------------------------------------------------------------------


def _plain_scan(codec: RasterScanLatentCodec, y: Tensor, params: Tensor) -> Tensor:
    """One position after another with the whole networks: slow, and clearly right."""
    y_hat = torch.zeros_like(y)
    for h in range(y.size(2)):
        for w in range(y.size(3)):
            context = codec.context_prediction(y_hat)
            merged = torch.cat((params, context), dim=1)
            _, means = codec.entropy_parameters(merged).chunk(2, 1)
            mean = means[:, :, h, w]
            y_hat[:, :, h, w] = torch.round(y[:, :, h, w] - mean) + mean
    return y_hat


@torch.no_grad()
def test_fast_scan_computes_what_the_plain_scan_computes() -> None:
    codec = _ready(_raster_scan())
    y, params = 4 * torch.randn(2, M, 4, 5), torch.randn(2, 8, 4, 5)
    got = codec.compress(y, params)["y_hat"]
    torch.testing.assert_close(got, _plain_scan(codec, y, params), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_streams_can_be_made_with_any_merge() -> None:
    codec = _ready(_raster_scan())
    y, params = 4 * torch.randn(1, M, 4, 5), torch.randn(1, 8, 4, 5)
    options = {
        "gaussian_conditional": codec.gaussian_conditional,
        "entropy_parameters": codec.entropy_parameters,
        "context_prediction": codec.context_prediction,
        "height": 4,
        "width": 5,
        "padding": 2,
        "kernel_size": 5,
    }
    strings = []
    for extra in ({}, {"merge": lambda *args: torch.cat(args, dim=1)}):
        encoder = ans.BufferedRansEncoder()
        y_hat = raster_scan_compress_single_stream(encoder, y, params, **options, **extra)
        strings.append(encoder.flush())
        decoder = ans.RansDecoder()
        decoder.set_stream(strings[-1])
        decoded = raster_scan_decompress_single_stream(decoder, params, **options, **extra)
        assert torch.equal(decoded, y_hat)
    assert strings[0] == strings[1] == codec.compress(y, params)["strings"][0][0]
    with pytest.raises(ValueError, match="padding"):
        raster_scan_decompress_single_stream(decoder, params, **{**options, "padding": 1})


def test_scan_refuses_kernels_that_look_ahead() -> None:
    codec = _ready(_raster_scan())
    y, params = torch.randn(1, M, 4, 4), torch.randn(1, 8, 4, 4)
    codec.context_prediction = MaskedConv2d(M, 2 * M, 5, padding=2, mask_type="B")
    with pytest.raises(ValueError, match="not decoded"):
        codec.compress(y, params)
    codec.context_prediction = MaskedConv2d(M, 2 * M, (3, 5), padding=(1, 2))
    with pytest.raises(ValueError, match="square"):
        codec.compress(y, params)


def test_scan_refuses_values_that_are_not_finite() -> None:
    codec = _ready(_raster_scan())
    y = torch.full((1, M, 4, 4), float("nan"))
    with pytest.raises(ValueError, match="finite"):
        codec.compress(y, torch.randn(1, 8, 4, 4))


@torch.no_grad()
def test_scan_notices_truncated_streams() -> None:
    codec = _ready(_raster_scan())
    y, params = 9 * torch.randn(1, M, 4, 4), torch.randn(1, 8, 4, 4)
    ((string,),) = codec.compress(y, params)["strings"]
    for length in range(0, len(string), 4):
        with pytest.raises(ValueError):
            codec.decompress([[string[:length]]], (4, 4), params)


# -- channel groups -------------------------------------------------------------------------------


def test_group_without_support_is_refused() -> None:
    codec = _groups()
    codec.max_support_slices = 0
    with pytest.raises(ValueError, match="support"):
        codec(torch.randn(1, 4, 4, 4), torch.randn(1, 8, 4, 4))


def test_groups_check_strings_and_shapes() -> None:
    codec = _ready(_groups())
    side = torch.randn(1, 8, 4, 4)
    out = codec.compress(torch.randn(1, 4, 4, 4), side)
    with pytest.raises(ValueError, match="groups"):
        codec.decompress(out["strings"][:1], out["shape"], side)
    with pytest.raises(ValueError, match="keys"):
        ChannelGroupsLatentCodec({"y0": _leaf()}, {}, groups=[2, 2])


def test_base_class_defines_the_protocol() -> None:
    codec = LatentCodec()
    for call in (codec.forward, codec.compress):
        with pytest.raises(NotImplementedError):
            call(torch.rand(1))
    with pytest.raises(NotImplementedError):
        codec.decompress([], ())


def test_leaves_need_tables() -> None:
    codec = _leaf()
    assert not any(m.has_tables for m in codec.modules() if isinstance(m, EntropyModel))
    with pytest.raises(ValueError, match="update"):
        codec.compress(torch.randn(1, M, 4, 4), torch.randn(1, 8, 4, 4))
