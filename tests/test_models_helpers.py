# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Context heads and slice codecs from factories, and what is read off state dicts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from compressai.latent_codecs import ChannelGroupsLatentCodec, GaussianConditionalLatentCodec
from compressai.layers.naf import NAFBlock, NAFTransform
from compressai.layers.stochastic_depth import drop_path_rates
from compressai.models._helpers import (
    MeanScaleContextHead,
    build_channel_slice_codec,
    build_lrp_slice_codec,
    build_mean_scale_head,
    equal_slices,
    proportional_slices,
)
from compressai.models._helpers.sizes import (
    consecutive,
    hidden_widths,
    numbers_after,
    window_size,
)
from compressai.models._helpers.upstream import rename, replicate
from compressai.models.causal_context import CausalContextAdjustmentEntropyModel

# -- heads --------------------------------------------------------------------------------------


def _conv(a: int, b: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 1)


def test_head_predicts_scales_then_means() -> None:
    head = build_mean_scale_head(4, 12, widths=(8, 8))
    x = torch.randn(2, 12, 5, 5)
    out = head(x)
    assert torch.equal(out, torch.cat([head.scale_cc(x), head.mean_cc(x)], 1))
    assert {key.partition(".")[0] for key in head.state_dict()} == {"mean_cc", "scale_cc"}


def test_support_transforms_are_two() -> None:
    head = build_mean_scale_head(4, 12, widths=(8,), support_transform_factory=_conv)
    assert head.mean_support_transform is not head.scale_support_transform
    assert {key.partition(".")[0] for key in head.state_dict()} == {
        *("mean_cc", "scale_cc", "mean_support_transform", "scale_support_transform")
    }
    x = torch.randn(1, 12, 3, 3)
    means = head.mean_cc(head.mean_support_transform(x))
    scales = head.scale_cc(head.scale_support_transform(x))
    assert torch.equal(head(x), torch.cat([scales, means], 1))


def test_side_information_is_split() -> None:
    head = build_mean_scale_head(4, 20, widths=(8,), side_split=8)
    assert head.mean_cc[0].in_channels == head.scale_cc[0].in_channels == 12
    means, scales, earlier = (
        torch.randn(1, 8, 3, 3),
        torch.randn(1, 8, 3, 3),
        torch.randn(1, 4, 3, 3),
    )
    scale, mean = head(torch.cat([means, scales, earlier], 1)).chunk(2, 1)
    assert torch.equal(scale, head.scale_cc(torch.cat([scales, earlier], 1)))
    assert torch.equal(mean, head.mean_cc(torch.cat([means, earlier], 1)))


@pytest.mark.parametrize(("emit", "kept"), [(True, "pre"), ("pre", "pre"), ("post", "post")])
def test_support_of_the_mean_is_appended(emit: bool | str, kept: str) -> None:
    head = build_mean_scale_head(
        4,
        20,
        widths=(8,),
        side_split=8,
        support_transform_factory=_conv,
        emit_mean_support=emit,
    )
    assert head.emit_mean_support == kept
    x = torch.randn(1, 20, 3, 3)
    support = torch.cat([x[:, :8], x[:, 16:]], 1)
    wanted = support if kept == "pre" else head.mean_support_transform(support)
    out = head(x)
    assert out.shape[1] == 2 * 4 + 12
    assert torch.equal(out[:, 8:], wanted)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"emit_mean_support": "both"}, "emit_mean_support"),
        ({"emit_mean_support": None}, "emit_mean_support"),
        ({"emit_mean_support": "post"}, "side_split"),
        ({"emit_mean_support": True, "side_split": 0}, "side_split"),
    ],
)
def test_head_refuses_impossible_options(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MeanScaleContextHead(_conv(4, 4), _conv(4, 4), **options)


def test_head_refuses_input_narrower_than_its_side_information() -> None:
    with pytest.raises(ValueError, match="support_ch"):
        build_mean_scale_head(4, 12, side_split=8)


def test_head_reloads() -> None:
    head = MeanScaleContextHead(_conv(4, 2), _conv(4, 2))
    other = MeanScaleContextHead(_conv(4, 2), _conv(4, 2))
    other.load_state_dict(head.state_dict())
    x = torch.randn(1, 4, 2, 2)
    assert torch.equal(head(x), other(x))


# -- codecs -------------------------------------------------------------------------------------


def _leaf(k: int, channels: int) -> GaussianConditionalLatentCodec:
    return GaussianConditionalLatentCodec(quantizer="ste")


def _head(k: int, channels: int, support: int, **kwargs: Any) -> MeanScaleContextHead:
    return build_mean_scale_head(channels, support, widths=(8,), **kwargs)


def test_slice_codec_in_elic_mode() -> None:
    codec = build_channel_slice_codec(
        groups=[4, 4, 4], leaf_factory=_leaf, channel_context_factory=_head
    )
    assert type(codec) is ChannelGroupsLatentCodec
    assert list(codec.latent_codec) == ["y0", "y1", "y2"]
    assert list(codec.channel_context) == ["y1", "y2"]
    assert (codec.groups, codec.max_support_slices, codec.support_filter) == ([4, 4, 4], -1, None)
    keys = set(codec.state_dict())
    assert "channel_context.y1.mean_cc.0.weight" in keys
    assert any(key.startswith("latent_codec.y0.") for key in keys)


def test_limit_of_the_support_sizes_the_contexts() -> None:
    codec = build_channel_slice_codec(
        groups=[4, 4, 4, 4],
        leaf_factory=_leaf,
        channel_context_factory=_head,
        max_support_slices=2,
    )
    assert codec.max_support_slices == 2
    assert codec.channel_context["y3"].mean_cc[0].in_channels == 8


def _skip_latest(k, earlier):
    return earlier[: max(k - 1, 0)]


def _count(k: int) -> int:
    return max(k - 1, 0)


def test_count_function_sizes_the_contexts_of_a_filter() -> None:
    codec = build_channel_slice_codec(
        groups=[2, 4, 8],
        leaf_factory=_leaf,
        channel_context_factory=partial(_head, side_split=4),
        support_filter=_skip_latest,
        support_count_fn=_count,
        side_in_context=True,
        side_channels=8,
    )
    assert codec.support_filter is _skip_latest
    assert codec.support_count_fn is _count
    widths = [codec.channel_context[f"y{k}"].mean_cc[0].in_channels for k in range(3)]
    assert widths == [4, 4, 6]
    out = codec(torch.randn(1, 14, 4, 4), torch.randn(1, 8, 4, 4))
    assert out["y_hat"].shape == (1, 14, 4, 4)


def test_slice_codec_with_side_in_context() -> None:
    codec = build_channel_slice_codec(
        groups=[4, 4, 4],
        leaf_factory=_leaf,
        channel_context_factory=partial(_head, side_split=4),
        side_in_context=True,
        side_channels=8,
    )
    assert list(codec.channel_context) == ["y0", "y1", "y2"]
    assert codec.channel_context["y0"].mean_cc[0].in_channels == 4
    assert codec.channel_context["y2"].mean_cc[0].in_channels == 12
    out = codec(torch.randn(2, 12, 8, 8), torch.randn(2, 8, 8, 8))
    assert out["likelihoods"]["y"].shape == (2, 12, 8, 8)


def test_contexts_default_to_identities() -> None:
    codec = build_channel_slice_codec(groups=[4, 4], leaf_factory=_leaf)
    assert isinstance(codec.channel_context["y1"], nn.Identity)


@pytest.mark.parametrize("side_channels", [0, -1])
def test_side_in_context_needs_its_width(side_channels: int) -> None:
    with pytest.raises(ValueError, match="side_channels"):
        build_channel_slice_codec(
            groups=[4], leaf_factory=_leaf, side_in_context=True, side_channels=side_channels
        )


@pytest.mark.parametrize("emit", ["pre", "post"])
def test_corrections_see_the_support_and_their_slice(emit: str) -> None:
    codec = build_lrp_slice_codec(
        groups=[2, 4, 6],
        side_channels=5,
        widths=(8,),
        emit_mean_support=emit,
        support_transform_factory=_conv,
        max_support_slices=1,
    )
    widths = [codec.latent_codec[f"y{k}"].lrp_transform[0].in_channels for k in range(3)]
    assert widths == [5 + 2, 5 + 2 + 4, 5 + 2 + 6]
    out = codec(torch.randn(1, 12, 4, 4), torch.randn(1, 10, 4, 4))
    assert out["y_hat"].shape == (1, 12, 4, 4)


def test_slices_are_equal_or_in_proportion() -> None:
    assert equal_slices(320, 5) == [64] * 5
    assert proportional_slices(320, (8, 28, 56, 92, 136)) == [8, 28, 56, 92, 136]
    powers = [1, *(k**1.7 for k in (2, 3, 4, 5))]
    assert proportional_slices(320, powers) == [8, 28, 56, 92, 136]
    assert proportional_slices(64, (8, 28, 56, 92, 136)) == [1, 5, 11, 18, 29]
    assert proportional_slices(10, [1]) == [10]


@pytest.mark.parametrize("proportions", [(), (0, 0), (1, -1), (1, 0, 5), (1, 1000)])
def test_empty_slices_are_refused(proportions: tuple) -> None:
    with pytest.raises(ValueError, match="slice_proportions"):
        proportional_slices(64, proportions)


@pytest.mark.parametrize(("channels", "count"), [(64, 5), (64, 0), (64, -2), (0, 4)])
def test_slices_that_are_not_equal_are_refused(channels: int, count: int) -> None:
    with pytest.raises(ValueError, match="num_slices"):
        equal_slices(channels, count)


# -- NAF blocks and the auxiliary model ---------------------------------------------------------


def test_fresh_naf_block_is_the_identity() -> None:
    block = NAFBlock(8)
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(block(x), x)
    assert block.beta.shape == block.gamma.shape == (1, 8, 1, 1)


def test_naf_block_normalises_over_channels() -> None:
    norm = NAFBlock(8).norm1
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = 3 + 2 * torch.randn(2, 8, 5, 7)
    reference = nn.functional.layer_norm(
        x.permute(0, 2, 3, 1), (8,), norm.weight, norm.bias, eps=1e-6
    ).permute(0, 3, 1, 2)
    torch.testing.assert_close(norm(x), reference)


def test_naf_transform_needs_a_block() -> None:
    assert NAFTransform(3, 5, 4, 2)(torch.zeros(1, 3, 4, 4)).shape == (1, 5, 4, 4)
    with pytest.raises(ValueError, match="num_layers"):
        NAFTransform(3, 5, 4, 0)


def test_auxiliary_model_predicts_without_the_latest_slice() -> None:
    torch.manual_seed(0)
    aux = CausalContextAdjustmentEntropyModel(8, [2, 2, 4], hidden_channels=8, num_layers=1).eval()
    with torch.no_grad():
        for head in aux.inner_codec.channel_context.values():
            head.scale_cc[-1].bias.fill_(2)
    y, means, scales = (torch.randn(1, 8, 4, 4) for _ in range(3))
    out = aux(y, means, scales)
    assert set(out) == {"y_aux", "y_cca"}
    assert out["y_aux"].shape == out["y_cca"].shape == y.shape

    changed = y.clone()
    changed[:, 2:4] += 3  # slice 1
    again = aux(changed, means, scales)["y_cca"]
    assert torch.equal(again[:, :2], out["y_cca"][:, :2])
    assert torch.equal(again[:, 4:], out["y_cca"][:, 4:])  # slice 2 sees slice 0 only
    changed = y.clone()
    changed[:, :2] += 3  # slice 0
    assert not torch.equal(aux(changed, means, scales)["y_cca"][:, 4:], out["y_cca"][:, 4:])


# -- state dicts --------------------------------------------------------------------------------


def test_sizes_are_read_off_a_state_dict() -> None:
    net = nn.ModuleDict(
        {"cc": nn.Sequential(_conv(3, 8), nn.GELU(), _conv(8, 5), nn.GELU(), _conv(5, 2))}
    )
    state_dict = net.state_dict()
    assert hidden_widths(state_dict, "cc") == (8, 5)
    assert numbers_after(state_dict, "cc.") == [0, 2, 4]
    assert consecutive(state_dict, "cc.{}.weight") == 1
    for window in (1, 4, 7, 8):
        assert window_size(torch.zeros((2 * window - 1) ** 2, 3)) == window


def test_drop_path_rates_ascend_through_the_stages() -> None:
    assert drop_path_rates(0.3, [1, 2, 1]) == [[0.0], pytest.approx([0.1, 0.2]), [0.3]]
    assert drop_path_rates(0.3, [1]) == [[0.0]]
    assert drop_path_rates(0.0, [0, 2]) == [[], [0.0, 0.0]]


def test_renaming_does_not_lose_entries() -> None:
    zero = torch.zeros(1)
    assert rename({"a.1": zero}, [(r"^a\.", "b.")]) == {"b.1": zero}
    with pytest.raises(ValueError, match=r"b\.1"):
        rename({"a.1": zero, "b.1": zero}, [(r"^a\.", "b.")])


def test_shared_conditional_is_copied_for_every_slice() -> None:
    weights = {
        "t.0.x": torch.zeros(1),
        "t.3.x": torch.zeros(1),
        "gaussian_conditional.s": torch.ones(2),
    }
    copies = replicate(weights, "t", "stack")
    names = [f"stack.latent_codec.y{k}.gaussian_conditional.s" for k in (0, 3)]
    assert set(copies) == {"t.0.x", "t.3.x", *names}
    assert copies[names[0]].data_ptr() != copies[names[1]].data_ptr()


def test_auxiliary_model_of_cca_is_found_among_the_entropy_models() -> None:
    import compressai.entropy_models as entropy_models

    assert entropy_models.CausalContextAdjustmentEntropyModel is CausalContextAdjustmentEntropyModel
    assert "CausalContextAdjustmentEntropyModel" in dir(entropy_models)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = entropy_models.Nothing
