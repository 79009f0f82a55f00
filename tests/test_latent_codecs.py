# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codecs of channel slices: dual synthesis, residual prediction, support, helpers."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    DualHyperSynthesis,
    EntropyBottleneckLatentCodec,
    GaussianConditionalLatentCodec,
    HyperpriorLatentCodec,
    LRPGaussianLatentCodec,
)
from compressai.latent_codecs._slice_helpers import (
    infer_max_support_slices,
    infer_num_slices,
    lrp_support_channels,
    make_entropy_transform,
    slice_support_channels,
)
from compressai.models import Elic2022Official, get_scale_table
from compressai.ops import relaxed_rounding
from compressai.registry import MODULES

# -- DualHyperSynthesis -------------------------------------------------------------------------


def test_dual_synthesis_puts_means_first() -> None:
    dual = DualHyperSynthesis(nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 1))
    z_hat = torch.randn(2, 4, 8, 8)
    out = dual(z_hat)
    assert out.shape == (2, 12, 8, 8)
    assert torch.equal(out, torch.cat([dual.h_mean_s(z_hat), dual.h_scale_s(z_hat)], 1))
    assert {key.partition(".")[0] for key in dual.state_dict()} == {"h_mean_s", "h_scale_s"}


# -- LRPGaussianLatentCodec ---------------------------------------------------------------------


def _lrp_codec(**kwargs: Any) -> LRPGaussianLatentCodec:
    transform = nn.Sequential(
        nn.Conv2d(12, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 4, 3, padding=1)
    )
    return LRPGaussianLatentCodec(
        transform, entropy_parameters=nn.Conv2d(8, 8, 1), quantizer="ste", **kwargs
    ).eval()


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return 4 * torch.randn(2, 4, 8, 8), torch.randn(2, 8, 8, 8)


def test_residual_prediction_changes_values_and_not_likelihoods(pair) -> None:
    codec = _lrp_codec()
    plain = GaussianConditionalLatentCodec(
        gaussian_conditional=codec.gaussian_conditional,
        entropy_parameters=codec.entropy_parameters,
        quantizer="ste",
    ).eval()
    out, reference = codec(*pair), plain(*pair)
    assert torch.equal(out["likelihoods"]["y"], reference["likelihoods"]["y"])
    correction = out["y_hat"] - reference["y_hat"]
    assert not torch.equal(out["y_hat"], reference["y_hat"])
    assert correction.abs().max() <= 0.5 + 1e-5

    expected = 0.5 * torch.tanh(codec.lrp_transform(torch.cat([pair[1], reference["y_hat"]], 1)))
    torch.testing.assert_close(correction, expected)


def test_scale_of_the_correction_may_be_reassigned(pair) -> None:
    codec = _lrp_codec(lrp_scale=0.25)
    quarter = codec(*pair)["y_hat"]
    codec.lrp_scale = 0.0
    rounded = codec(*pair)["y_hat"]
    codec.lrp_scale = 0.5
    half = codec(*pair)["y_hat"]
    torch.testing.assert_close(half - rounded, 2 * (quarter - rounded))


def test_trailing_support_is_kept_from_the_parameters(pair) -> None:
    y, params = pair
    codec = LRPGaussianLatentCodec(
        nn.Conv2d(3 + 4, 4, 1),
        entropy_parameters=nn.Conv2d(8, 8, 1),
        mean_support_trail_channels=3,
        quantizer="ste",
    ).eval()
    support = torch.randn(2, 3, 8, 8)
    out = codec(y, torch.cat([params, support], 1))
    codec.mean_support_trail_channels = 0
    rounded = GaussianConditionalLatentCodec.forward(codec, y, params)["y_hat"]
    correction = codec.lrp_transform(torch.cat([support, rounded], 1))
    torch.testing.assert_close(out["y_hat"], rounded + 0.5 * torch.tanh(correction))


@pytest.mark.parametrize("trail", [8, 9])
def test_support_that_leaves_no_parameters_is_refused(pair, trail: int) -> None:
    codec = _lrp_codec(mean_support_trail_channels=trail)
    with pytest.raises(ValueError, match="mean_support_trail_channels"):
        codec(*pair)


@pytest.mark.parametrize("with_channels", [False, True])
def test_corrected_values_survive_coding(pair, with_channels: bool) -> None:
    codec = _lrp_codec()
    codec.gaussian_conditional.update_scale_table(get_scale_table())
    with torch.no_grad():
        coded = codec.compress(*pair)
        assert tuple(coded["shape"]) == (8, 8)
        shape = (4, 8, 8) if with_channels else coded["shape"]
        decoded = codec.decompress(coded["strings"], shape, pair[1])
        assert torch.equal(decoded["y_hat"], coded["y_hat"])
        assert torch.equal(decoded["y_hat"], codec(*pair)["y_hat"])


def test_dead_zone_takes_lower_symbols_where_they_are_nearly_as_near(pair) -> None:
    codec, rounding = _lrp_codec(dead_zone=0.02), _lrp_codec()
    rounding.load_state_dict(codec.state_dict())
    for each in (codec, rounding):
        each.gaussian_conditional.update_scale_table(get_scale_table())
    y, ctx = pair
    with torch.no_grad():
        scales, means = codec._predict(ctx)
        size = (y - means).abs()
        low, spread = size.floor(), scales.clamp_min(0)
        width = 0.02 * (2 * low + 1) / (spread**2 + 1 / 12)
        symbols = (y - means).sign() * (low + (size - low > 0.5 + width))
        coded = codec.compress(y, ctx)
        torch.testing.assert_close(codec(y, ctx)["y_hat"], coded["y_hat"], rtol=0, atol=0)
        decoded = rounding.decompress(coded["strings"], coded["shape"], ctx)
        expected = rounding._correct(symbols + means, ctx)
        torch.testing.assert_close(decoded["y_hat"], expected, rtol=0, atol=1e-5)
        plain = rounding.compress(y, ctx)
    assert not torch.equal(plain["y_hat"], coded["y_hat"])
    assert sum(map(len, coded["strings"][0])) < sum(map(len, plain["strings"][0]))


def test_dead_zone_lets_gradients_pass_and_leaves_training_and_relaxed_rounding(pair) -> None:
    codec, rounding = _lrp_codec(dead_zone=1.0), _lrp_codec()
    rounding.load_state_dict(codec.state_dict())
    y, ctx = pair[0].requires_grad_(), pair[1]
    gradients = [torch.autograd.grad(c(y, ctx)["y_hat"].sum(), y)[0] for c in (codec, rounding)]
    assert gradients[0].isfinite().all()
    assert gradients[0].abs().mean() > 0.1
    with relaxed_rounding(lambda x: x + 0.25):
        assert torch.equal(codec(y, ctx)["y_hat"], rounding(y, ctx)["y_hat"])
    assert torch.equal(codec.train()(y, ctx)["y_hat"], rounding.train()(y, ctx)["y_hat"])


@pytest.mark.parametrize("dead_zone", [-0.1, float("nan"), float("inf")])
def test_dead_zones_are_checked(dead_zone: float) -> None:
    with pytest.raises(ValueError, match="dead_zone must be finite and not negative"):
        GaussianConditionalLatentCodec(dead_zone=dead_zone)


def test_latents_that_cannot_be_coded_are_named_with_a_dead_zone_too(pair) -> None:
    codec = _lrp_codec(dead_zone=0.02)
    codec.gaussian_conditional.update_scale_table(get_scale_table())
    pair[0][1, 2, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="channel 2"), torch.no_grad():
        codec.compress(*pair)


def test_residual_codec_is_registered_and_reloads(pair) -> None:
    codec = _lrp_codec()
    assert MODULES["LRPGaussianLatentCodec"] is LRPGaussianLatentCodec
    assert {key.partition(".")[0] for key in codec.state_dict()} == {
        *("lrp_transform", "entropy_parameters", "gaussian_conditional")
    }
    other = _lrp_codec()
    other.load_state_dict(codec.state_dict())
    assert torch.equal(other(*pair)["y_hat"], codec(*pair)["y_hat"])


# -- ChannelGroupsLatentCodec -------------------------------------------------------------------


def _skip_latest(k: int, earlier: Sequence[Tensor]) -> Sequence[Tensor]:
    return earlier[: max(k - 1, 0)]


def _elic_codec(groups: Sequence[int] = (4, 4, 4), seen=lambda k: k, **kwargs: Any):
    side = 8
    return ChannelGroupsLatentCodec(
        latent_codec={
            f"y{k}": GaussianConditionalLatentCodec(
                entropy_parameters=nn.Conv2d(side + sum(groups[: seen(k)]), 2 * group, 1),
                quantizer="ste",
            )
            for k, group in enumerate(groups)
        },
        channel_context={f"y{k}": nn.Identity() for k in range(1, len(groups))},
        groups=groups,
        **kwargs,
    ).eval()


def _slices_codec(groups: Sequence[int] = (4, 4), **kwargs: Any) -> ChannelGroupsLatentCodec:
    side = 8
    return ChannelGroupsLatentCodec(
        latent_codec={
            f"y{k}": GaussianConditionalLatentCodec(quantizer="ste") for k in range(len(groups))
        },
        channel_context={
            f"y{k}": nn.Conv2d(side + sum(groups[:k]), 2 * group, 1)
            for k, group in enumerate(groups)
        },
        groups=groups,
        side_in_context=True,
        **kwargs,
    ).eval()


EARLIER = [torch.full((1, 4, 2, 2), float(k)) for k in range(3)]


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize(
    ("options", "k", "wanted"),
    [
        ({}, 0, []),
        ({}, 1, [0]),
        ({}, 3, [0, 1, 2]),
        ({"max_support_slices": 0}, 3, []),
        ({"max_support_slices": 2}, 1, [0]),
        ({"max_support_slices": 2}, 3, [0, 1]),
        ({"max_support_slices": 10, "support_filter": _skip_latest}, 0, []),
        ({"max_support_slices": 10, "support_filter": _skip_latest}, 1, []),
        ({"max_support_slices": 10, "support_filter": _skip_latest}, 3, [0, 1]),
    ],
)
def test_support_is_the_first_slices_or_what_the_filter_says(
    options: dict, k: int, wanted: list[int], kind: type
) -> None:
    support = _elic_codec(**options)._select_support(k, kind(EARLIER))
    assert type(support) is list
    assert [id(tensor) for tensor in support] == [id(EARLIER[i]) for i in wanted]


def test_options_default_to_elic_and_are_kept() -> None:
    codec = _elic_codec()
    assert codec.groups == [4, 4, 4]
    assert (codec.max_support_slices, codec.support_filter) == (-1, None)
    assert (codec.support_count_fn, codec.side_in_context) == (None, False)
    codec = _elic_codec(support_filter=_skip_latest, support_count_fn=len)
    assert codec.support_filter is _skip_latest
    assert codec.support_count_fn is len


@pytest.mark.parametrize("options", [{}, {"max_support_slices": 1}])
def test_shapes_in_elic_mode(options: dict) -> None:
    limit = options.get("max_support_slices", 9)
    codec = _elic_codec((4, 4, 4, 4), seen=lambda k: min(k, limit), **options)
    out = codec(torch.randn(2, 16, 8, 8), torch.randn(2, 8, 8, 8))
    assert out["y_hat"].shape == out["likelihoods"]["y"].shape == (2, 16, 8, 8)


def test_modes_join_context_and_side_in_opposite_orders() -> None:
    side, y0 = torch.randn(1, 8, 2, 2), torch.randn(1, 4, 2, 2)
    elic = _elic_codec((4, 4))
    assert elic._get_ctx_params(0, side, []) is side
    assert torch.equal(elic._get_ctx_params(1, side, [y0]), torch.cat([y0, side], 1))

    slices = _slices_codec()
    context = slices.channel_context
    assert torch.equal(slices._get_ctx_params(0, side, []), context["y0"](side))
    joined = context["y1"](torch.cat([side, y0], 1))
    assert torch.equal(slices._get_ctx_params(1, side, [y0]), joined)
    assert joined.shape[1] == 8


def test_slice_without_support_sees_the_side_only() -> None:
    codec = ChannelGroupsLatentCodec(
        latent_codec={f"y{k}": GaussianConditionalLatentCodec() for k in range(2)},
        channel_context={f"y{k}": nn.Identity() for k in range(2)},
        groups=[4, 4],
        max_support_slices=0,
        side_in_context=True,
    )
    side = torch.randn(1, 8, 2, 2)
    assert codec._get_ctx_params(1, side, [torch.randn(1, 4, 2, 2)]) is side


def test_side_in_context_needs_a_context_for_slice_0() -> None:
    with pytest.raises(ValueError, match="y0"):
        ChannelGroupsLatentCodec(
            latent_codec={"y0": GaussianConditionalLatentCodec()},
            channel_context={},
            groups=[4],
            side_in_context=True,
        )


def test_merging_may_be_replaced_on_an_instance() -> None:
    codec = _elic_codec()
    calls = []
    codec.merge_y = lambda *support: calls.append(len(support)) or torch.cat(support, 1)
    codec(torch.randn(1, 12, 4, 4), torch.randn(1, 8, 4, 4))
    assert calls == [1, 2]


class _MockLeaf(nn.Module):
    """Codes nothing, and reports shapes as one kind of leaf or the other."""

    def __init__(self, channels: int, with_channels: bool) -> None:
        super().__init__()
        self.channels, self.with_channels = channels, with_channels

    def compress(self, y: Tensor, params: Tensor) -> dict[str, Any]:
        shape = tuple(y.shape[1:]) if self.with_channels else tuple(y.shape[2:])
        return {"strings": [[b""]], "shape": shape, "y_hat": y}

    def decompress(self, strings, shape, params: Tensor) -> dict[str, Any]:
        return {"y_hat": torch.full((1, self.channels, *shape[-2:]), float(self.channels))}


@pytest.mark.parametrize("with_channels", [False, True])
def test_shapes_of_leaves_may_have_two_or_three_entries(with_channels: bool) -> None:
    groups = (4, 4, 4)
    codec = ChannelGroupsLatentCodec(
        latent_codec={f"y{k}": _MockLeaf(4, with_channels) for k in range(3)},
        channel_context={f"y{k}": nn.Identity() for k in (1, 2)},
        groups=groups,
    )
    side = torch.randn(1, 8, 6, 5)
    coded = codec.compress(torch.randn(1, 12, 6, 5), side)
    assert coded["strings"] == [[b""]] * 3
    assert codec.decompress(coded["strings"], coded["shape"], side)["y_hat"].shape == (1, 12, 6, 5)


@pytest.mark.parametrize("make", [_elic_codec, _slices_codec])
@pytest.mark.parametrize("batch", [1, 3])
def test_slices_decode_to_what_was_coded(make, batch: int) -> None:
    torch.manual_seed(0)
    codec = make()
    for leaf in codec.latent_codec.values():
        leaf.gaussian_conditional.update_scale_table(get_scale_table())
    y = 5 * torch.randn(batch, sum(codec.groups), 5, 7)
    side = torch.randn(batch, 8, 5, 7)
    coded = codec.compress(y, side)
    # Works with gradients on, too.
    decoded = codec.decompress(coded["strings"], coded["shape"], side)["y_hat"]
    assert torch.equal(decoded, coded["y_hat"])
    assert torch.equal(decoded, codec(y, side)["y_hat"])
    assert [len(step) for step in coded["strings"]] == [batch] * len(codec.groups)


def test_codec_with_functions_of_a_module_can_be_pickled() -> None:
    codec = pickle.loads(pickle.dumps(_elic_codec(support_filter=_skip_latest)))
    assert codec.support_filter is _skip_latest


def test_elic_keeps_its_names_and_values() -> None:
    torch.manual_seed(0)
    net = Elic2022Official(N=8, M=16, groups=[2, 2, 4, 8]).eval()
    groups = net.latent_codec["y"]
    assert list(groups.channel_context) == ["y1", "y2", "y3"]
    y, side = torch.randn(1, 16, 4, 4), torch.randn(1, 16, 4, 4)
    params = groups._get_ctx_params(2, side, [y[:, :2], y[:, 2:4]])
    assert torch.equal(params, torch.cat([groups.channel_context["y2"](y[:, :4]), side], 1))


# -- HyperpriorLatentCodec, EntropyBottleneckLatentCodec ----------------------------------------


def test_hyperprior_shows_the_side_information_that_it_used() -> None:
    h_a, h_s = nn.Conv2d(4, 3, 1), nn.Conv2d(3, 8, 1)
    codec = HyperpriorLatentCodec(
        {
            "y": GaussianConditionalLatentCodec(quantizer="ste"),
            "z": EntropyBottleneckLatentCodec(EntropyBottleneck(3), quantizer="ste"),
        },
        h_a=h_a,
        h_s=h_s,
    ).eval()
    y = torch.randn(1, 4, 4, 4)
    out = codec(y)
    assert torch.equal(out["params"], h_s(codec.z(h_a(y))["y_hat"]))


# -- helpers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("index", "limit", "support", "correction"),
    [(0, -1, 64, 72), (5, -1, 104, 112), (5, 3, 88, 96), (1, 3, 72, 80)],
)
def test_support_widths(index: int, limit: int, support: int, correction: int) -> None:
    assert slice_support_channels(64, 8, index, limit) == support
    assert lrp_support_channels(64, 8, index, limit) == correction


@given(
    index=st.integers(0, 12),
    limit=st.integers(-1, 12),
    channels=st.integers(1, 64),
    latent=st.integers(1, 640),
)
def test_correction_sees_support_and_slice(
    index: int, limit: int, channels: int, latent: int
) -> None:
    support = slice_support_channels(latent, channels, index, limit)
    assert lrp_support_channels(latent, channels, index, limit) == support + channels


def test_entropy_transform_alternates_convolutions_and_gelu() -> None:
    net = make_entropy_transform(40, 8)
    assert [layer.out_channels for layer in net[::2]] == [224, 128, 8]
    assert all(isinstance(layer, nn.GELU) and layer.approximate == "none" for layer in net[1::2])
    assert net[0].in_channels == 40
    assert len(make_entropy_transform(40, 8, widths=(64, 32))) == 5
    assert len(make_entropy_transform(40, 8, widths=())) == 1
    assert net(torch.zeros(1, 40, 5, 3)).shape == (1, 8, 5, 3)


def _context_weights(indexes: Sequence[int], width: int = 64) -> dict[str, Tensor]:
    prefix = "latent_codec.y.channel_context.y"
    return {f"{prefix}{k}.mean_cc.0.weight": torch.zeros(64, width) for k in indexes}


def test_number_of_slices_is_read_off_the_names() -> None:
    assert infer_num_slices(_context_weights([1, 2, 3])) == 4  # slice 0 has no context
    assert infer_num_slices(_context_weights([0, 1, 2, 3])) == 4
    assert infer_num_slices(_context_weights([2, 10, 1, 0])) == 4
    assert infer_num_slices({}) == 0
    assert infer_num_slices({"a.3.b": torch.zeros(1), "a.0.b": torch.zeros(1)}, prefix="a.") == 0
    state_dict = {"a.3.b": torch.zeros(1), "a.0.b": torch.zeros(1)}
    assert infer_num_slices(state_dict, prefix="a.", suffix=".b") == 2


def test_support_is_read_off_the_widths() -> None:
    weights = {
        f"latent_codec.y.channel_context.y{k}.mean_cc.0.weight": torch.zeros(64, width, 3, 3)
        for k, width in ((0, 64), (1, 72), (2, 80), (3, 80))
    }
    assert infer_max_support_slices(weights, 64, 8) == 2
    assert infer_max_support_slices({}, 64, 8) == 0
    assert infer_max_support_slices(_context_weights([0], 144), 64, 8, extra_factor=2) == 2
    assert infer_max_support_slices(_context_weights([0], 32), 64, 8) == 0
    renamed = {key: torch.zeros(4, 96) for key in ("a.3.c", "d.3.b")}
    renamed["a.3.b"] = torch.zeros(4, 88)
    assert infer_max_support_slices(renamed, 64, 8, prefix="a.", suffix=".b") == 3


def test_helpers_and_codecs_do_not_load_timm() -> None:
    program = (
        "import sys\nimport compressai.latent_codecs._slice_helpers\nprint('timm' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["False"]
