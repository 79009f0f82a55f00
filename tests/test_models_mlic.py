# SPDX-License-Identifier: BSD-3-Clause-Clear
"""MLIC, MLIC+ and MLIC++: networks, the codec of two passes, models, and weights of the authors.

That MLIC++ gives what the authors' program gives is checked by golden data.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
import torch
import torch.nn as nn
from operations import operations

from compressai.latent_codecs import (
    CheckerboardLatentCodec,
    GaussianConditionalLatentCodec,
    MultiContextCheckerboardLatentCodec,
)
from compressai.latent_codecs.checkerboard import unembed
from compressai.layers import CheckerboardMaskedConv2d
from compressai.models._helpers import mlic as layers
from compressai.models._helpers import mlicv2
from compressai.models._helpers.mlic import utils
from compressai.models.mlic import (
    MLIC,
    MLICPlus,
    MLICPlusPlus,
    MLICv2,
    _is_upstream_mlicpp_state_dict,
    convert_upstream_mlicpp_state_dict,
)
from compressai.registry import MODELS

pytestmark = pytest.mark.usefixtures("one_torch_thread")

KEYMAPS = json.loads(
    gzip.decompress((Path(__file__).parent / "tables/multi_reference_keymaps.json.gz").read_bytes())
)
TABLE = [0.11, 0.5, 1.0, 2.0, 4.0]
SMALL = {"N": 8, "M": 16, "slice_num": 4}
MODEL_ARGUMENTS = [
    (MLICPlusPlus, {"context_window": 3}),
    (MLICPlusPlus, {"legacy": True}),
    (MLICPlus, {"context_window": 3}),
    (MLIC, {"local_kernel": 3, "local_layers": 2}),
    (MLICv2, {"context_window": 3}),
]


def spread(net):
    """Fresh networks give latents near zero; make symbols worth coding."""
    with torch.no_grad():
        net.g_a.analysis_transform[-1].weight.mul_(40)
        for k in range(net.slice_num):
            for name in ("anchor", "nonanchor"):
                head = getattr(net.latent_codec.y[f"y{k}"], f"entropy_parameters_{name}")
                head.fusion[-1].bias[: net.slice_ch] += 1
    net.update()
    return net.eval()


@pytest.fixture(scope="module", params=MODEL_ARGUMENTS, ids=lambda p: p[0].__name__ + str(p[1]))
def net(request):
    cls, arguments = request.param
    torch.manual_seed(0)
    return spread(cls(**SMALL, **arguments))


# -- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "sizes", "result"),
    [
        (layers.LocalContext(dim=4, window_size=3, num_heads=2), [(2, 4, 4, 4)], (2, 8, 4, 4)),
        (layers.ChannelContext(8, 4), [(2, 8, 4, 4)], (2, 16, 4, 4)),
        (layers.LinearGlobalInterContext(4, 8, 2), [(2, 4, 4, 4)], (2, 8, 4, 4)),
        (layers.VanillaGlobalInterContext(4, 8, 2), [(2, 4, 4, 4)], (2, 8, 4, 4)),
        (layers.LinearGlobalIntraContext(4, 2), [(2, 4, 4, 4)] * 2, (2, 8, 4, 4)),
        (layers.VanillaGlobalIntraContext(4, 2), [(2, 4, 4, 4)] * 2, (2, 8, 4, 4)),
        (layers.StackedCheckerboardConv(4, 3, 2), [(2, 4, 4, 4)], (2, 8, 4, 4)),
        (layers.AnalysisTransform(N=8, M=16), [(1, 3, 64, 64)], (1, 16, 4, 4)),
        (mlicv2.ContextReweighting(8), [(2, 8, 4, 4)], (2, 8, 4, 4)),
        (mlicv2.RoPE2D(8), [(2, 8, 4, 6)], (2, 8, 4, 6)),
        (mlicv2.SimpleTokenMixing(8), [(2, 8, 4, 4)], (2, 8, 4, 4)),
        (mlicv2.STMAnalysis(N=8, M=16), [(1, 3, 64, 64)], (1, 16, 4, 4)),
        (mlicv2.STMSynthesis(N=8, M=16), [(1, 16, 4, 4)], (1, 3, 64, 64)),
        (layers.LatentResidualPrediction(10, 4), [(1, 10, 4, 4)], (1, 4, 4, 4)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_have_the_shapes_that_are_told(layer, sizes, result):
    assert layer(*map(torch.rand, sizes)).shape == result


@pytest.mark.parametrize(
    "build",
    [
        lambda: layers.LocalContext(5),
        lambda: layers.LinearGlobalInterContext(5, 8, 2),
        lambda: layers.VanillaGlobalInterContext(5, 8, 2),
        lambda: layers.LinearGlobalIntraContext(5, 2),
        lambda: layers.VanillaGlobalIntraContext(5, 2),
        lambda: layers.LocalContext(4, window_size=4),
        lambda: layers.StackedCheckerboardConv(4, kernel=4),
        lambda: layers.StackedCheckerboardConv(4, num_layers=0),
        lambda: mlicv2.RoPE2D(5),
        lambda: mlicv2.HGCPModule(16, 7, num_heads=2),
    ],
)
def test_sizes_that_do_not_fit_are_refused(build):
    with pytest.raises(ValueError, match=r"must (divide|be)"):
        build()


def test_windows_of_the_local_context_hide_all_but_pairs_of_anchors():
    local = layers.LocalContext(4, window_size=3)
    local.update_resolution(4, 4, "cpu")
    assert local.attn_mask.shape == (16, 9, 9)
    assert set(local.attn_mask.unique().tolist()) == {0, -100}
    assert "attn_mask" not in local.state_dict()
    seen = (local.attn_mask[5] == 0).any(0).view(3, 3)  # row 1, column 1: even, so all around
    assert seen.tolist() == [[False, True, False], [True, False, True], [False, True, False]]
    index = local.relative_position_index
    assert (index.shape, index[4, 4], index.min(), index.max()) == ((9, 9), 12, 0, 24)


def test_strips_of_the_local_context_are_the_whole(monkeypatch):
    torch.manual_seed(0)
    local = layers.LocalContext(4, window_size=3)
    x = torch.rand(2, 4, 6, 8)
    whole = local(x)
    monkeypatch.setattr("compressai.models._helpers.mlic.context._CHUNK", 8)
    torch.testing.assert_close(local(x), whole)


def test_local_context_sees_no_farther_than_its_window():
    torch.manual_seed(0)
    local = layers.LocalContext(4, window_size=3)
    x = torch.rand(1, 4, 8, 8)
    changed = x.clone()
    changed[..., 0, 1] += 1
    moved = (local(changed) - local(x)).abs().amax(1)[0] > 0
    assert moved[:2, :3].all()
    assert not moved[2:].any()
    assert not moved[:, 3:].any()


def test_quadratic_context_leaves_neighbours_out():
    masks = {
        radius: layers.VanillaGlobalIntraContext(4, 2, radius)._attention_mask(4, 4, "cpu")
        for radius in (-1, 0, 1)
    }
    assert all(mask.shape == (8, 8) for mask in masks.values())
    assert not masks[-1].any()
    assert not masks[0].any()  # no query is a key
    assert 0 < (masks[1] == -100).float().mean() < 1


def test_half_width_maps():
    halves = unembed(torch.arange(16.0).view(1, 1, 4, 4), "odd")[:, 0, 0]
    assert halves[0].tolist() == [[1, 3], [4, 6], [9, 11], [12, 14]]
    assert halves[1].tolist() == [[0, 2], [5, 7], [8, 10], [13, 15]]


def test_blocks_have_their_activation():
    first = layers.AnalysisTransform(8, 16).analysis_transform[0]
    assert isinstance(first.act, nn.GELU)
    assert not hasattr(first, "leaky_relu")


def test_half_width_maps_and_masks_of_the_checkerboard():
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    anchors, rest = utils.squeeze_anchor(x), utils.squeeze_nonanchor(x)
    assert anchors[0, 0].tolist() == [[1, 3], [4, 6], [9, 11], [12, 14]]
    assert rest[0, 0].tolist() == [[0, 2], [5, 7], [8, 10], [13, 15]]
    only_anchors, only_rest = utils.checkerboard_split(x)
    odd = (torch.arange(4)[:, None] + torch.arange(4)) % 2 == 1
    assert torch.equal(only_anchors, x * odd)
    assert torch.equal(only_rest, x * ~odd)
    assert torch.equal(only_anchors, utils.unsqueeze_anchor(anchors))
    assert torch.equal(only_rest, utils.unsqueeze_nonanchor(rest))
    assert torch.equal(utils.checkerboard_merge(only_anchors, only_rest), x)


def test_position_index_counts_from_the_corner_of_the_table():
    index = utils.build_position_index(3)
    assert index.shape == (9, 9)
    assert (index.min(), index[4, 4], index.max()) == (0, 12, 24)


def test_rotation_tells_offsets_only():
    torch.manual_seed(0)
    rope = mlicv2.RoPE2D(8)
    rope.theta_y.data.fill_(100)
    a, b = (torch.rand(1, 8, 1, 1).expand(1, 8, 6, 6) for _ in range(2))
    first, second = rope(a, b)
    products = torch.einsum("ncij,nckl->ijkl", first, second)
    for i, j, k, m in ((0, 0, 1, 2), (2, 1, 4, 3)):
        torch.testing.assert_close(products[i, j, k, m], products[i + 1, j + 2, k + 1, m + 2])
    assert products[0, 0, 0, 1] != products[0, 0, 1, 0]
    torch.testing.assert_close(first.square().sum(1), a.square().sum(1))
    assert not list(mlicv2.RoPE2D(4, learnable_thetas=False).parameters())


def test_weights_of_channels_sum_to_one():
    weights = mlicv2.ContextReweighting(8).channel_attention(torch.rand(2, 8, 4, 4))
    assert weights.shape == (2, 8, 8)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 8))


def test_first_anchors_see_the_scales_of_the_hyperprior_only():
    torch.manual_seed(0)
    module = mlicv2.HGCPModule(16, 4, num_heads=2)
    side = torch.rand(1, 32, 4, 4)
    out = module(torch.zeros(1, 4, 4, 4), side_params=side)
    assert out.shape == (1, 8, 4, 4)
    side[:, 16:] += 1
    assert torch.equal(module(torch.ones(1, 4, 4, 4), side_params=side), out)
    side[:, :16] += torch.rand(1, 16, 4, 4)
    assert not torch.equal(module(torch.zeros(1, 4, 4, 4), side_params=side), out)


def test_selection_follows_the_scales():
    torch.manual_seed(0)
    module = mlicv2.GSCModule(4, 8)
    scales = torch.rand(1, 4, 16, 16) * 0.6
    arguments = {"side_params": torch.rand(1, 8, 16, 16), "scales": scales, "means": 0 * scales}
    chosen = module(step="anchor", **arguments)["selective_map"] >= 0.5
    assert 0.1 < chosen.float().mean() < 0.9
    assert scales[chosen].mean() > scales[~chosen].mean()
    with pytest.raises(ValueError, match="step must be one of"):
        module(step="rest", **arguments)


# -- the codec ------------------------------------------------------------------------------------


class Intra(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(4, 6, 3, padding=1)

    def forward(self, side_params, anchors):
        return self.net(anchors)


class Select(nn.Module):
    """Selects anchors only."""

    def forward(self, *, side_params, scales, means, step):
        chosen = torch.full((1, 1, 1, 1), 1.0 if step == "anchor" else 0.4)
        return {"selective_map": chosen}


def codec(**options):
    torch.manual_seed(0)
    leaf = MultiContextCheckerboardLatentCodec(
        entropy_parameters_anchor=nn.Conv2d(8, 8, 1),
        entropy_parameters_nonanchor=nn.Conv2d(
            8
            + 8 * ("spatial_context_nonanchor" in options)
            + 6 * ("intra_channel_context_nonanchor" in options),
            8,
            1,
        ),
        scale_table=TABLE,
        **options,
    )
    leaf.y.gaussian_conditional.update()
    return leaf.eval()


def everything():
    return codec(
        spatial_context_nonanchor=CheckerboardMaskedConv2d(4, 8, 5, padding=2),
        intra_channel_context_nonanchor=Intra(),
        lrp_anchor=nn.Conv2d(12, 4, 3, padding=1),
        lrp_nonanchor=nn.Conv2d(12, 4, 3, padding=1),
        selective_predictor=Select(),
        anchor_parity="odd",
    )


@pytest.mark.parametrize("build", [codec, everything])
def test_codec_decodes_what_it_coded(build):
    leaf = build()
    y, side = 4 * torch.randn(2, 4, 4, 6), torch.randn(2, 8, 4, 6)
    with torch.no_grad():
        out = leaf.compress(y, side)
        decoded = leaf.decompress(out["strings"], out["shape"], side)
        forward = leaf(y, side)
    assert [len(strings) for strings in out["strings"]] == [2, 2]
    assert out["shape"] == (4, 4, 6)
    assert torch.equal(out["y_hat"], decoded["y_hat"])
    torch.testing.assert_close(forward["y_hat"], out["y_hat"])
    again = build()
    again.load_state_dict(leaf.state_dict())


def test_codec_is_the_plain_checkerboard_with_one_head():
    torch.manual_seed(0)
    context = CheckerboardMaskedConv2d(4, 8, 5, padding=2)
    head = nn.Conv2d(16, 8, 1)

    class Nothing(nn.Module):
        def forward(self, anchors):
            return anchors.new_zeros((len(anchors), 8, *anchors.shape[2:]))

    new = MultiContextCheckerboardLatentCodec(
        entropy_parameters_anchor=head,
        entropy_parameters_nonanchor=head,
        spatial_context_anchor=Nothing(),
        spatial_context_nonanchor=context,
        scale_table=TABLE,
    )
    old = CheckerboardLatentCodec({"y": GaussianConditionalLatentCodec(TABLE)}, head, context)
    y, side = torch.randn(1, 4, 4, 4), torch.randn(1, 8, 4, 4)
    for a, b in ((new.eval()(y, side), old.eval()(y, side)),):
        torch.testing.assert_close(a["y_hat"], b["y_hat"])
        torch.testing.assert_close(a["likelihoods"]["y"], b["likelihoods"]["y"])


def test_values_that_are_not_selected_cost_nothing():
    leaf = codec(selective_predictor=Select())
    for head in (leaf.entropy_parameters_anchor, leaf.entropy_parameters_nonanchor):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    y, side = 3 * torch.randn(1, 4, 4, 4), torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        out, forward = leaf.compress(y, side), leaf(y, side)
    assert out["strings"][1] == [b""]
    assert out["strings"][0] != [b""]
    _, rest = unembed(forward["likelihoods"]["y"], "even")
    assert torch.equal(rest, torch.ones_like(rest))
    assert not unembed(forward["y_hat"], "even")[1].any()
    with pytest.raises(ValueError, match="not coded"):
        leaf.decompress([out["strings"][0], [b"x"]], out["shape"], side)


class SelectBy(nn.Module):
    """Selects by one number for all values."""

    def __init__(self, share):
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, *, side_params, scales, means, step):
        return {"selective_map": self.share.expand(1, 1, 1, 1)}


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_choice_is_trained_and_changes_nothing(share):
    leaf = codec(selective_predictor=SelectBy(share))
    y, side = 3 * torch.randn(1, 4, 4, 4), torch.randn(1, 8, 4, 4)
    with torch.no_grad():
        expected = leaf(y, side)
    # Without the noise of training, values must be the same.
    leaf.train()
    leaf.y.eval()
    out = leaf(y, side)
    assert torch.equal(out["y_hat"], expected["y_hat"])
    assert torch.equal(out["likelihoods"]["y"], expected["likelihoods"]["y"])
    assert torch.equal(out["likelihoods"]["y"] == 1, torch.full(y.shape, share < 0.5))

    def slope(value):
        return torch.autograd.grad(value, leaf.selective_predictor.share, retain_graph=True)[0]

    # The bits of all values, had all been coded; and what coding them moves the values by.
    coded = codec(selective_predictor=SelectBy(1.0))(y, side)
    skipped = codec(selective_predictor=SelectBy(0.0))(y, side)
    bits = -out["likelihoods"]["y"].log2().sum()
    torch.testing.assert_close(slope(bits), -coded["likelihoods"]["y"].log2().sum().detach())
    moved = (coded["y_hat"] - skipped["y_hat"]).detach()
    anchors, _ = unembed(moved, "even")
    assert anchors.abs().max() > 1
    torch.testing.assert_close(slope(out["y_hat"].sum()), moved.sum())
    assert slope(out["y_hat"].square().sum()).isfinite()


def test_correction_without_activation_is_added_as_it_is():
    class Quarter(nn.Module):
        def forward(self, support):
            return torch.full_like(support[:, :4], 0.25)

    leaf = codec(lrp_anchor=Quarter(), lrp_nonanchor=Quarter(), lrp_activation=None, lrp_scale=1)
    for head in (leaf.entropy_parameters_anchor, leaf.entropy_parameters_nonanchor):
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    out = leaf(torch.zeros(1, 4, 4, 4), torch.randn(1, 8, 4, 4))
    assert torch.equal(out["y_hat"], torch.full((1, 4, 4, 4), 0.25))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchor_parity": "left"}, "anchor_parity"),
        ({"quantizer": "noise"}, "quantizer"),
        ({"latent_codec": {"z": nn.Identity()}}, "latent_codec"),
    ],
)
def test_codec_refuses_options_that_it_does_not_have(options, message):
    with pytest.raises(ValueError, match=message):
        codec(**options)


def test_codec_refuses_strings_that_do_not_fit():
    leaf = codec()
    with pytest.raises(ValueError, match="anchors and rest"):
        leaf.decompress([[b""]], (4, 4, 4), torch.zeros(1, 8, 4, 4))
    with pytest.raises(ValueError, match="does not fit"):
        leaf.decompress([[b""], [b""]], (4, 4, 6), torch.zeros(1, 8, 4, 4))


# -- models ---------------------------------------------------------------------------------------


def test_models_are_registered():
    assert [MODELS[name] for name in ("mlic", "mlicplus", "mlicpp", "mlicv2")] == [
        MLIC,
        MLICPlus,
        MLICPlusPlus,
        MLICv2,
    ]


@pytest.mark.parametrize("sync_safe", [False, True])
def test_models_decode_what_they_coded(net, sync_safe):
    x = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))
    coded = net.compress(x, sync_safe=sync_safe)
    assert len(coded["strings"]) == 2 * net.slice_num + 1
    assert coded["shape"]["y"] == [(4, 4, 8)] * 4
    decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=sync_safe)
    assert torch.equal(coded["y_hat"], decoded["y_hat"])
    assert len({*coded["y_hat"].round().unique().tolist()}) > 3
    if not sync_safe:
        with torch.no_grad():
            out = net(x)
        assert set(out["likelihoods"]) == {"y", "z"}
        torch.testing.assert_close(out["x_hat"].clamp(0, 1), decoded["x_hat"], atol=1e-4, rtol=0)


def test_models_are_built_from_their_weights(net):
    again = type(net).from_state_dict(net.state_dict()).eval()
    for name in ("N", "M", "slice_num", "context_window", "local_kernel", "local_layers", "legacy"):
        assert getattr(again, name) == getattr(net, name)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(x)["x_hat"], net(x)["x_hat"])


def test_auxiliary_model_of_cca_is_added_and_found():
    net = MLICPlusPlus(**SMALL, use_cca=True, cca_hidden_channels=8, cca_num_layers=1)
    out = net(torch.rand(1, 3, 64, 64))
    assert set(out["aux_likelihoods"]) == {"y_aux", "y_cca"}
    assert MLICPlusPlus.from_state_dict(net.state_dict()).cca_hidden_channels == 8


def test_index_buffers_may_be_absent_and_nothing_else():
    net = MLICPlusPlus(**SMALL)
    state = {k: v for k, v in net.state_dict().items() if "relative_position_index" not in k}
    assert MLICPlusPlus.from_state_dict(state).context_window == 5
    state.pop("latent_codec.y.latent_codec.y0.lrp_anchor.lrp_transform.0.weight")
    with pytest.raises(RuntimeError, match="lrp_anchor"):
        MLICPlusPlus.from_state_dict(state)


def test_weights_of_one_model_are_none_of_another():
    with pytest.raises(RuntimeError, match=r"not fit MLICPlusPlus: .*missing .*global_inter_part"):
        MLICPlusPlus.from_state_dict(MLIC(**SMALL).state_dict())


@pytest.mark.parametrize("cls", [MLIC, MLICPlus, MLICPlusPlus, MLICv2])
@pytest.mark.parametrize("wrong", [{"slice_num": 0}, {"slice_num": 3}])
def test_wrong_sizes_are_refused(cls, wrong):
    with pytest.raises(ValueError, match="slice_num"):
        cls(**{**SMALL, **wrong})


def test_even_windows_are_refused():
    with pytest.raises(ValueError, match="context_window"):
        MLICPlusPlus(**SMALL, context_window=4)


def test_every_parameter_is_trained(net):
    net.train()
    out = net(torch.rand(1, 3, 64, 64))
    loss = out["x_hat"].square().mean() - sum(p.log().sum() for p in out["likelihoods"].values())
    loss.backward()
    missing = [
        name
        for name, parameter in net.named_parameters()
        if not name.endswith("quantiles")
        and (parameter.grad is None or not parameter.grad.isfinite().all())
    ]
    unmoved = [
        name
        for name, parameter in net.named_parameters()
        if "selective_predictor" in name and not parameter.grad.any()
    ]
    net.zero_grad()
    net.eval()
    assert missing == []
    assert unmoved == []


@pytest.mark.parametrize(
    ("cls", "parameters"),
    [
        (MLIC, 41_885_452),
        (MLICPlus, 83_501_408),
        (MLICPlusPlus, 83_501_408),
        (MLICv2, 82_216_654),
    ],
)
def test_full_sizes_have_the_published_number_of_parameters(cls, parameters):
    with torch.device("meta"):
        net = cls()
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters


@pytest.mark.parametrize("name", ["mlicpp", "mlicpp_legacy"])
def test_full_sizes_have_the_published_names_and_shapes(name):
    with torch.device("meta"):
        net = MLICPlusPlus(legacy=name == "mlicpp_legacy")
    mine = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    rows = KEYMAPS[name]["rows"]
    assert mine == {key: tuple(shape) for _, keys, shape in rows for key in keys}
    theirs = {f"module.{key}": torch.empty(shape, device="meta") for key, _, shape in rows}
    converted = convert_upstream_mlicpp_state_dict(theirs)
    assert {key: tuple(value.shape) for key, value in converted.items()} == mine
    assert sum(p.numel() for p in net.parameters()) == KEYMAPS[name]["parameters"]


def test_older_generation_has_as_many_operations_more_as_the_tables_tell():
    with torch.device("meta"):
        new, old = MLICPlusPlus(), MLICPlusPlus(legacy=True)
    assert operations(old) - operations(new) == 1282751.28515625 - 1153037.28515625


# -- weights of the authors -----------------------------------------------------------------------


@pytest.mark.parametrize("part", ["g_s.", "latent_codec.y.latent_codec.y1.lrp_"])
@pytest.mark.parametrize("legacy", [False, True])
def test_mixtures_of_both_generations_are_refused(part, legacy):
    most, other = (MLICPlusPlus(**SMALL, legacy=kind).state_dict() for kind in (legacy, not legacy))
    mixture = {key: value for key, value in most.items() if not key.startswith(part)}
    mixture |= {key: value for key, value in other.items() if key.startswith(part)}
    with pytest.raises(ValueError, match=r"mixture of both generations.*of 2023.*of 2024"):
        MLICPlusPlus.from_state_dict(mixture)


def authors_layout(state_dict):
    """The names of the authors' program, from ours."""
    leaf, context = "latent_codec.y.latent_codec.y", "latent_codec.y.channel_context.y"
    parts = {
        "spatial_context_nonanchor": "local_context",
        "intra_channel_context_nonanchor": "global_intra_context",
        "channel_part": "channel_context",
        "global_inter_part": "global_inter_context",
    }
    found = {}
    for key, value in state_dict.items():
        for prefix in (leaf, context):
            if key.startswith(prefix):
                number, part, rest = key[len(prefix) :].split(".", 2)
                key = f"{parts.get(part, part)}.{number}.{rest}"
        key = key.removeprefix("latent_codec.z.").removeprefix("latent_codec.")
        if key.startswith("y."):
            key = key.split(".", 2)[2]  # the conditional that all slices share
        found[f"module.{key}"] = value
    return found


@pytest.mark.parametrize("legacy", [False, True])
def test_authors_weights_of_both_generations_load(legacy):
    torch.manual_seed(0)
    net = MLICPlusPlus(**SMALL, legacy=legacy)
    net.update()
    theirs = authors_layout(net.state_dict())
    assert _is_upstream_mlicpp_state_dict(theirs)
    assert not _is_upstream_mlicpp_state_dict(net.state_dict())
    converted = convert_upstream_mlicpp_state_dict(theirs)
    assert set(converted) == set(net.state_dict())
    loaded = MLICPlusPlus.from_state_dict(theirs)
    assert loaded.legacy is legacy
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    part = {"lrp_anchor.3.lrp_transform.0.bias": torch.zeros(1), "g_a.x": torch.zeros(1)}
    assert set(convert_upstream_mlicpp_state_dict(part)) == {
        "latent_codec.y.latent_codec.y3.lrp_anchor.lrp_transform.0.bias",
        "g_a.x",
    }
