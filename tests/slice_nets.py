# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Channel-slice models that are small enough for tests, and whose symbols are not all zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compressai.models._helpers import MeanScaleContextHead
from compressai.models._helpers.dictionary_context import DictionaryMeanScaleContextHead
from compressai.models.cca import CCAModel
from compressai.models.dcae import DCAE
from compressai.models.saaf import SAAF
from compressai.models.stf import WACNN, SymmetricalTransFormer
from compressai.models.tcm import TCM

__all__ = ["SMALL", "small_net"]

_CCA = {
    "latent_channels": 32,
    "hyper_channels": 16,
    "slice_proportions": (2, 6, 10, 14),
    "encoder_dims": (8, 12, 16),
    "encoder_layers": (1, 1, 1),
    "em_hidden_channels": 12,
    "em_num_layers": 1,
}
_AUXILIARY = {"use_cca": True, "cca_hidden_channels": 8, "cca_num_layers": 2}
_WACNN = {"N": 16, "M": 32, "num_slices": 4, "max_support_slices": 2}
_STF = {
    "embed_dim": 8,
    "depths": (1, 1, 1, 1),
    "num_heads": (2, 2, 2, 2),
    "num_slices": 4,
    "max_support_slices": 2,
    "drop_path_rate": 0.0,
}
_TCM = {
    "N": 16,
    "M": 32,
    "head_dim": (4, 8, 16, 16, 8, 4),
    "hyper_head_dim": 16,
    "hyper_channels": 24,
    "num_slices": 4,
    "max_support_slices": 2,
}
_DCAE = {
    "head_dim": (8, 4, 8, 4, 8, 4),
    "N": 16,
    "M": 32,
    "hyper_channels": 24,
    "num_slices": 4,
    "max_support_slices": 2,
    "feature_dims": (16, 24, 32),
    "block_num": (1, 1, 2),
    "dict_num": 8,
    "dict_head_num": 2,
    "dictionary_dim": 24,
    "window_size": 4,
    "hyper_window_size": 2,
    "hyper_head_dim": 8,
}

SMALL: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "stf": (SymmetricalTransFormer, _STF),
    "wacnn": (WACNN, _WACNN),
    "tcm": (TCM, _TCM),
    "cca": (CCAModel, _CCA),
    "tcm+auxt": (TCM, {**_TCM, "config": (1, 1, 1, 1, 1, 1), "use_auxt": True}),
    "dcae": (DCAE, _DCAE),
    "saaf": (SAAF, _DCAE),
    "stf+cca": (SymmetricalTransFormer, {**_STF, **_AUXILIARY}),
    "wacnn+cca": (WACNN, {**_WACNN, **_AUXILIARY}),
    "tcm+cca": (TCM, {**_TCM, **_AUXILIARY}),
    "dcae+cca": (DCAE, {**_DCAE, **_AUXILIARY}),
    "cca+cca": (CCAModel, {**_CCA, "cca_training": True}),
}


def _picture(net: nn.Module) -> torch.Tensor:
    side = net.downsampling_factor
    channels = getattr(net, "in_chans", 3)
    return torch.rand(1, channels, side, side)


def small_net(name: str, **arguments: Any) -> nn.Module:
    """A model with lively random weights, in evaluation mode."""
    cls, defaults = SMALL[name]
    torch.manual_seed(0)
    net = cls(**{**defaults, **arguments})
    with torch.no_grad():
        for key, parameter in net.named_parameters():
            if key.endswith((".beta", ".gamma")) and parameter.dim() == 4:
                nn.init.normal_(parameter, std=0.2)  # NAF blocks start as identities
        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.weight *= 1.6
            if isinstance(module, (MeanScaleContextHead, DictionaryMeanScaleContextHead)):
                module.scale_cc[-1].bias.fill_(1)
        net.eval()
        net.latent_codec.h_a[-1].weight *= 3 / net.latent_codec.h_a(net.g_a(_picture(net))).std()
    return net
