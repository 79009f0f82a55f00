# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What the authors' programs would have saved for a model of ours.

The rules of the specification read backwards, independent of the code under test.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from slice_nets import SMALL, small_net
from torch import Tensor, nn

from compressai.convert import sources

__all__ = ["ATTENTION_OF_TCM", "authors_state_dict", "net_of", "original"]

C = r"latent_codec\.y\.channel_context\.y(\d+)\."
_BACK: dict[str, list[tuple[str, str]]] = {
    "stf": [
        (C + r"mean_cc\.", r"cc_mean_transforms.\1."),
        (C + r"scale_cc\.", r"cc_scale_transforms.\1."),
        (r"(conv_b\.\d+\.attn\.)attn\.", r"\1"),
    ],
    "tcm": [
        (C + r"mean_cc\.", r"cc_mean_transforms.\1."),
        (C + r"scale_cc\.", r"cc_scale_transforms.\1."),
        (C + r"mean_support_transform\.", r"atten_mean.\1.0."),
        (C + r"scale_support_transform\.", r"atten_scale.\1.0."),
        (r"msa\.attn\.qkv\.", "msa.embedding_layer."),
        (r"msa\.output_proj\.", "msa.linear."),
        (r"msa\.attn\.relative_position_bias_table$", "msa.relative_position_params"),
        (r"(block[_\w]*\.)norm([12])\.", r"\1ln\2."),
        (r"mlp\.fc1\.", "mlp.0."),
        (r"mlp\.fc2\.", "mlp.2."),
    ],
    "cca": [
        (r"aux_entropy_model\.inner_codec\.", "aux_entropymodel.latent_codec.y."),
        (r"aux_entropy_model\.", "aux_entropymodel."),
        (C + r"mean_cc\.", r"mean_cc_transforms.\1."),
        (C + r"scale_cc\.", r"scale_cc_transforms.\1."),
        (C + r"mean_support_transform\.", r"mean_NAF_transforms.\1."),
        (C + r"scale_support_transform\.", r"scale_NAF_transforms.\1."),
        (r"pointwise_depthwise\.", "dwconv."),
        (r"channel_attention\.", "sca."),
        (r"feed_forward\.", "FFN."),
        (r"\.project\.", ".conv1."),
        (r"input_projection\.", "in_conv."),
        (r"output_projection\.", "out_conv."),
        (r"latent_codec\.z\.entropy_bottleneck\.", "z_entropy_bottleneck."),
    ],
}  # fmt: skip
_BACK["wacnn"] = _BACK["stf"]
_BACK["tcm-auxt"] = [
    (r"^g_a\.auxiliary_layers\.(\d+)\.olp\.", r"AuxT_enc.\1.OLP."),
    (r"^g_s\.auxiliary_layers\.(\d+)\.olp\.", r"AuxT_dec.\1.OLP."),
    (r"^g_a\.auxiliary_layers\.", "AuxT_enc."),
    (r"^g_s\.auxiliary_layers\.", "AuxT_dec."),
    (r"^(g_[as])\.transform\.", r"\1."),
    *_BACK["tcm"],
]
_BACK["dcae"] = _BACK["saaf"] = [
    (r"^shared_dictionary\.dt$", "dt"),
    (C + r"cross_attention\.", r"dt_cross_attention.\1."),
    (C + r"mean_cc\.", r"cc_mean_transforms.\1."),
    (C + r"scale_cc\.", r"cc_scale_transforms.\1."),
    (r"latent_codec\.h_s\.h_scale_s\.", "h_z_s1."),
    (r"latent_codec\.h_s\.h_mean_s\.", "h_z_s2."),
]
# The authors' networks see scales before means here.
_SCALES_FIRST = (
    r"(x_trans|(cc_mean_transforms|cc_scale_transforms|lrp_transforms)\.\d+\.0)\.weight$"
)
_PART = r"latent_codec\.y\.(latent_codec|channel_context)\.y(\d+)\."
_BACK["mlicpp"] = [
    (r"^latent_codec\.h_s\.", "h_s."),
    (_PART + r"spatial_context_nonanchor\.", r"local_context.\2."),
    (_PART + r"intra_channel_context_nonanchor\.", r"global_intra_context.\2."),
    (_PART + r"channel_part\.", r"channel_context.\2."),
    (_PART + r"global_inter_part\.", r"global_inter_context.\2."),
    (_PART + r"y\.", ""),
    (_PART + r"(\w+)\.", r"\3.\2."),
]
_HPCM = [
    (r"^(g_[as])\.", r"\1.branch."),
    (r"^latent_codec\.(h_[as])\.", r"\1.branch."),
    (r"^latent_codec\.z\.", ""),
    (r"^latent_codec\.y\.adaptor_", "y_spatial_prior_adaptor_list_"),
    (r"^latent_codec\.y\.prior_", "y_spatial_prior_"),
    (r"^latent_codec\.y\.adaptive_params\.", "adaptive_params_list."),
    (r"^latent_codec\.y\.", ""),
]
_BACK |= dict.fromkeys(("hpcm-base", "hpcm-large", "hpcm-phi", "hpcm-1b"), _HPCM)
# Their attention has one linear layer in place of two.
ATTENTION_OF_TCM = ("tcm", "tcm-auxt", "mambavc", "mambaic")
_BACK["mambavc"] = _BACK["tcm"]
_Y = r"^latent_codec\.y\."
_BACK["mambaic"] = [
    (_Y + r"(mean|scale)_support_transforms\.(\d+)\.", r"atten_\1.\2.0."),
    (_Y + r"context_(mean|scale)_transforms\.(\d+)\.", r"anchor_atten_\1.\2.0."),
    (_Y, ""),
    *_BACK["tcm"],
]
# Of these the authors' program has no entries, or tables that are built again.
_LEFT_OUT = {
    "hpcm": r"(bound|scale_table|_quantized_cdf|_cdf_length|_offset)$",
    "mlicpp": r"y[1-9]\d*\.y\.gaussian_conditional\.",
}
_BACK_COMMON = [
    (r"latent_codec\.y\.latent_codec\.y(\d+)\.lrp_transform\.", r"lrp_transforms.\1."),
    (r"latent_codec\.y\.latent_codec\.y0\.gaussian_conditional\.", "gaussian_conditional."),
    (r"latent_codec\.h_a\.", "h_a."),
    (r"latent_codec\.h_s\.", ""),
    (r"latent_codec\.z\.entropy_bottleneck\.", "entropy_bottleneck."),
]


def net_of(source: str, **arguments: Any) -> nn.Module:
    """A small model of a program's, with random weights."""
    entry = sources()[source]
    name = {"stf-wacnn": "wacnn", "tcm-auxt": "tcm+auxt"}.get(entry.name, entry.name)
    if name in SMALL:
        return small_net(name, **arguments)
    torch.manual_seed(0)
    net = entry.model(**{**entry.arguments, **entry.small, **arguments}).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.5)
    return net


def authors_state_dict(source: str, net: nn.Module) -> dict[str, Tensor]:
    weights = {}
    for key, value in net.state_dict().items():
        if re.search(r"y[1-9]\d*\.gaussian_conditional\.", key):
            continue
        if re.search(_LEFT_OUT.get(source.partition("-")[0], "^$"), key):
            continue
        is_tcm = source in ATTENTION_OF_TCM
        if is_tcm and ("msa.attn.proj" in key or "relative_position_index" in key):
            continue
        if is_tcm and key.endswith("relative_position_bias_table"):
            side = int(len(value) ** 0.5)
            value = value.view(side, side, -1).permute(2, 0, 1)
        for pattern, replacement in (*_BACK[source], *_BACK_COMMON):
            key = re.sub(pattern, replacement, key)
        if source in ("dcae", "saaf") and re.search(_SCALES_FIRST, key):
            means, scales, rest = value.split((net.M, net.M, value.size(1) - 2 * net.M), dim=1)
            value = torch.cat((scales, means, rest), dim=1)
        weights[key] = value
    return weights


def original(source: str, **arguments: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model and what the authors' program would have saved for it."""
    net = net_of(source, **arguments)
    if source in ATTENTION_OF_TCM:
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                if key.endswith("msa.attn.proj.weight"):
                    parameter.copy_(torch.eye(len(parameter)))
                elif key.endswith("msa.attn.proj.bias"):
                    parameter.zero_()
    return net, authors_state_dict(source, net)
