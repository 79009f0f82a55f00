# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What the authors' programs would have saved for a model of ours.

The rules of the specification read backwards, independent of the code under test.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from slice_nets import small_net
from torch import Tensor, nn

__all__ = ["authors_state_dict", "original"]

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
_BACK_COMMON = [
    (r"latent_codec\.y\.latent_codec\.y(\d+)\.lrp_transform\.", r"lrp_transforms.\1."),
    (r"latent_codec\.y\.latent_codec\.y0\.gaussian_conditional\.", "gaussian_conditional."),
    (r"latent_codec\.h_a\.", "h_a."),
    (r"latent_codec\.h_s\.", ""),
    (r"latent_codec\.z\.entropy_bottleneck\.", "entropy_bottleneck."),
]


def authors_state_dict(source: str, net: nn.Module) -> dict[str, Tensor]:
    weights = {}
    for key, value in net.state_dict().items():
        if re.search(r"y[1-9]\d*\.gaussian_conditional\.", key):
            continue
        if source == "tcm" and ("msa.attn.proj" in key or "relative_position_index" in key):
            continue
        if source == "tcm" and key.endswith("relative_position_bias_table"):
            side = int(len(value) ** 0.5)
            value = value.view(side, side, -1).permute(2, 0, 1)
        for pattern, replacement in (*_BACK[source], *_BACK_COMMON):
            key = re.sub(pattern, replacement, key)
        weights[key] = value
    return weights


def original(source: str, **arguments: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model and what the authors' program would have saved for it."""
    net = small_net(source, **arguments)
    if source == "tcm":
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                if key.endswith("msa.attn.proj.weight"):
                    parameter.copy_(torch.eye(len(parameter)))
                elif key.endswith("msa.attn.proj.bias"):
                    parameter.zero_()
    return net, authors_state_dict(source, net)
