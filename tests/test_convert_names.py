# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Names in authors' checkpoints: told apart, understood, and given ours."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from authors_layouts import authors_state_dict, net_of, original
from slice_nets import small_net
from test_convert import SOURCES, _equal, _script

from compressai.convert import (
    smoke_image,
)
from compressai.models import cca, stf, tcm
from compressai.zoo.image import model_architectures

pytestmark = pytest.mark.usefixtures("one_torch_thread")

T = torch.zeros(2)


def _converters(name: str) -> list[Callable[[dict], dict]]:
    function = f"convert_upstream_{name}_state_dict"
    module = {"stf": stf, "tcm": tcm, "cca": cca}[name]
    return [getattr(module, function), getattr(_script(f"convert_{name}_checkpoint"), function)]


@pytest.mark.parametrize("place", [0, 1])
def test_names_of_stf(place: int) -> None:
    theirs = (
        *("module.cc_mean_transforms.0.0.weight", "module.cc_mean_transforms.1.0.weight"),
        *("module.cc_scale_transforms.1.2.bias", "module.lrp_transforms.0.4.weight"),
        *("module.g_a.4.conv_b.0.attn.qkv.weight", "module.h_mean_s.2.0.weight"),
        *("module.h_a.0.bias", "module.entropy_bottleneck._bias0", "module.h_s.0.weight"),
        "module.gaussian_conditional.scale_table",
    )
    assert set(_converters("stf")[place](dict.fromkeys(theirs, T))) == {
        "latent_codec.y.channel_context.y0.mean_cc.0.weight",
        "latent_codec.y.channel_context.y1.mean_cc.0.weight",
        "latent_codec.y.channel_context.y1.scale_cc.2.bias",
        "latent_codec.y.latent_codec.y0.lrp_transform.4.weight",
        "g_a.4.conv_b.0.attn.attn.qkv.weight",
        "latent_codec.h_s.h_mean_s.2.0.weight",
        "latent_codec.h_a.0.bias",
        "latent_codec.z.entropy_bottleneck._bias0",
        "latent_codec.y.latent_codec.y0.gaussian_conditional.scale_table",
        "latent_codec.y.latent_codec.y1.gaussian_conditional.scale_table",
    }


@pytest.mark.parametrize("place", [0, 1])
def test_names_of_tcm(place: int) -> None:
    table = torch.arange(4 * 15 * 15.0).view(4, 15, 15)
    block = "g_a.1.trans_block"
    theirs = {
        f"{block}.msa.relative_position_params": table,
        f"{block}.msa.embedding_layer.weight": T,
        f"{block}.msa.linear.weight": torch.ones(3, 3),
        f"{block}.msa.linear.bias": torch.ones(3),
        f"{block}.ln1.weight": T,
        f"{block}.mlp.0.weight": T,
        f"{block}.mlp.2.bias": T,
        "atten_mean.0.0.in_conv.weight": T,
        "scale_support_transforms.1.non_local_block.block_1.ln2.bias": T,
        "mean_support_transforms.1.0.out_conv.bias": T,
        "cc_mean_transforms.0.0.weight": T,
    }
    converted = _converters("tcm")[place](theirs)
    context = "latent_codec.y.channel_context"
    assert set(converted) == {
        f"{block}.msa.attn.relative_position_bias_table",
        f"{block}.msa.attn.qkv.weight",
        f"{block}.msa.output_proj.weight",
        f"{block}.msa.output_proj.bias",
        f"{block}.msa.attn.proj.weight",
        f"{block}.msa.attn.proj.bias",
        f"{block}.norm1.weight",
        f"{block}.mlp.fc1.weight",
        f"{block}.mlp.fc2.bias",
        f"{context}.y0.mean_support_transform.in_conv.weight",
        f"{context}.y1.scale_support_transform.non_local_block.block_1.norm2.bias",
        f"{context}.y1.mean_support_transform.out_conv.bias",
        f"{context}.y0.mean_cc.0.weight",
    }
    flat = converted[f"{block}.msa.attn.relative_position_bias_table"]
    assert flat.shape == (225, 4)
    assert flat[2 * 15 + 7, 3] == table[3, 2, 7]
    assert torch.equal(converted[f"{block}.msa.attn.proj.weight"], torch.eye(3))
    assert torch.equal(converted[f"{block}.msa.attn.proj.bias"], torch.zeros(3))


@pytest.mark.parametrize("place", [0, 1])
def test_names_of_cca(place: int) -> None:
    block, transform = "g_a.blocks.0.3", "mean_NAF_transforms.0"
    theirs = (
        *(f"{block}.{part}" for part in ("beta", "gamma", "dwconv.0.weight", "FFN.0.weight")),
        *(f"{block}.{part}" for part in ("sca.1.bias", "conv1.weight", "norm1.weight")),
        "g_a.blocks.0.0.conv1.weight",
        *(f"{transform}.{part}" for part in ("in_conv.weight", "out_conv.weight")),
        *(f"{transform}.blocks.0.beta", "scale_cc_transforms.0.2.bias"),
        *("mean_cc_transforms.0.0.weight", "lrp_transforms.0.0.weight"),
        *("z_entropy_bottleneck.quantiles", "gaussian_conditional.scale_table"),
        *("aux_entropymodel.y_entropy_bottleneck.quantiles", "module.h_scale_s.0.weight"),
        "aux_entropymodel.mean_cc_transforms.0.0.weight",
        "aux_entropymodel.gaussian_conditional.scale_table",
    )
    aux, context = "aux_entropy_model.inner_codec", "latent_codec.y.channel_context.y0"
    leaf = "latent_codec.y.latent_codec.y0"
    assert set(_converters("cca")[place](dict.fromkeys(theirs, T))) == {
        *(f"{block}.{part}" for part in ("beta", "gamma", "pointwise_depthwise.0.weight")),
        *(f"{block}.{part}" for part in ("feed_forward.0.weight", "channel_attention.1.bias")),
        *(f"{block}.project.weight", f"{block}.norm1.weight", "g_a.blocks.0.0.conv1.weight"),
        f"{context}.mean_support_transform.input_projection.weight",
        f"{context}.mean_support_transform.output_projection.weight",
        f"{context}.mean_support_transform.blocks.0.beta",
        *(f"{context}.scale_cc.2.bias", f"{context}.mean_cc.0.weight"),
        *(f"{leaf}.lrp_transform.0.weight", f"{leaf}.gaussian_conditional.scale_table"),
        "latent_codec.z.entropy_bottleneck.quantiles",
        "latent_codec.h_s.h_scale_s.0.weight",
        "aux_entropy_model.y_entropy_bottleneck.quantiles",
        f"{aux}.channel_context.y0.mean_cc.0.weight",
        f"{aux}.latent_codec.y0.gaussian_conditional.scale_table",
    }


@pytest.mark.parametrize(
    ("detect", "theirs", "ours"),
    [
        (stf._is_upstream_stf_state_dict, "module.lrp_transforms.0.0.bias", "g_a.0.weight"),
        (tcm._is_upstream_tcm_state_dict, "g_a.1.trans_block.msa.linear.bias", "g_a.0.skip.bias"),
        (cca._is_upstream_cca_state_dict, "aux_entropymodel.x", "aux_entropy_model.x"),
    ],
)
def test_layouts_are_told_apart(detect: Callable, theirs: str, ours: str) -> None:
    assert detect({theirs: T, ours: T})
    assert not detect({ours: T, "latent_codec.h_a.0.weight": T})
    assert _script("convert_cca_checkpoint")._is_upstream_cca_state_dict({"lrp_transforms.0": T})


@pytest.mark.parametrize("source", SOURCES)
def test_native_weights_pass_through_converters(source: str) -> None:
    weights = net_of(source).state_dict()
    converted = model_architectures[SOURCES[source]].convert(weights)
    assert converted.keys() == weights.keys()
    assert all(converted[key] is value for key, value in weights.items())


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_authors_weights_rebuild_the_model(source: str, prefix: str) -> None:
    net, weights = original(source)
    assert weights.keys() != net.state_dict().keys()
    wrapped = {prefix + key: value for key, value in weights.items()}
    assert _equal(type(net).from_state_dict(wrapped), net)
    other = net_of(source)
    other.load_state_dict({"state_dict": wrapped})
    assert _equal(other, net)


@pytest.mark.parametrize("source", [name for name in SOURCES if not name.startswith("hpcm")])
@pytest.mark.parametrize("style", ["_{}{}", "_{}.{}"])
def test_old_names_of_bottlenecks_are_understood(source: str, style: str) -> None:
    net, weights = original(source)
    singular = {"matrices": "matrix", "biases": "bias", "factors": "factor"}

    def old(match: re.Match) -> str:
        name = match[2] if "." in style else singular[match[2]]
        return match[1] + style.format(name, match[3])

    pattern = r"(entropy_bottleneck\.)(matrices|biases|factors)\.(\d)"
    renamed = {re.sub(pattern, old, key): value for key, value in weights.items()}
    assert renamed.keys() != weights.keys()
    assert _equal(type(net).from_state_dict(renamed), net)


def test_auxiliary_branch_is_converted_with_or_without_its_last_corrections() -> None:
    net, weights = small_net("cca+cca"), None
    weights = authors_state_dict("cca", net)
    assert any(key.startswith("aux_entropymodel.mean_NAF_transforms.") for key in weights)
    assert _equal(cca.CCAModel.from_state_dict(weights), net)

    unused = re.compile(r"aux_entropymodel\.lrp_transforms\.[23]\.")
    fewer = {key: value for key, value in weights.items() if not unused.match(key)}
    assert len(fewer) == len(weights) - 12
    other = cca.CCAModel.from_state_dict(fewer).eval()
    x = smoke_image(64)
    out, again = net(x), other(x)
    for name in ("y_aux", "y_cca"):
        assert torch.equal(out["aux_likelihoods"][name], again["aux_likelihoods"][name])
    filled = other.aux_entropy_model.inner_codec.latent_codec["y3"].lrp_transform
    assert not any(bool(parameter.any()) for parameter in filled.parameters())
