# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Channel-slice models that are small enough for tests, and whose symbols are not all zero."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compressai.models._helpers import MeanScaleContextHead
from compressai.models._helpers.dictionary_context import DictionaryMeanScaleContextHead
from compressai.registry import ENTRIES

__all__ = ["SMALL", "small_net"]

_AUXILIARY = {"use_cca": True, "cca_hidden_channels": 8, "cca_num_layers": 2}


def _row(name: str, **arguments: Any) -> tuple[type[nn.Module], dict[str, Any]]:
    entry = ENTRIES[name]
    return entry.model, {**entry.arguments, **entry.small, **arguments}


SMALL: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "stf": _row("stf"),
    "wacnn": _row("stf-wacnn"),
    "tcm": _row("tcm"),
    "cca": _row("cca"),
    "tcm+auxt": _row("tcm-auxt"),
    "dcae": _row("dcae"),
    "saaf": _row("saaf"),
    "stf+cca": _row("stf", **_AUXILIARY),
    "wacnn+cca": _row("stf-wacnn", **_AUXILIARY),
    "tcm+cca": _row("tcm", **_AUXILIARY),
    "dcae+cca": _row("dcae", **_AUXILIARY),
    "cca+cca": _row("cca", cca_training=True),
}


def _image(net: nn.Module) -> torch.Tensor:
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
        net.latent_codec.h_a[-1].weight *= 3 / net.latent_codec.h_a(net.g_a(_image(net))).std()
    return net
