# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rewriting networks for inference: what depends on weights alone is computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai.layers import GDN, GDN1

__all__ = ["fold", "last_layer", "replace_module"]


class FoldedGDN(nn.Module):
    """GDN with its parameters in their final range, as weights of a 1x1 convolution."""

    def __init__(self, gdn: GDN) -> None:
        super().__init__()
        self.inverse = gdn.inverse
        self.rootless = isinstance(gdn, GDN1)
        gamma = gdn.gamma_reparam(gdn.gamma)[:, :, None, None]
        self.weight = nn.Parameter(gamma.contiguous(), requires_grad=False)
        self.bias = nn.Parameter(gdn.beta_reparam(gdn.beta), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.rootless:
            norm = F.conv2d(x.abs(), self.weight, self.bias)
            return x * norm if self.inverse else x / norm
        norm = F.conv2d(x**2, self.weight, self.bias)
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))


def fold(network: nn.Module) -> None:
    """Replace, in place, what computes weights from parameters at each call."""
    for name, child in network.named_children():
        if isinstance(child, GDN):
            setattr(network, name, FoldedGDN(child))
        else:
            fold(child)


def last_layer(
    network: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[nn.Module, Tensor]:
    """The layer with weights that runs last, and the result.

    Args:
        network: what has layers.
        call: how to run it, on ``x``.
    """
    ran: list[nn.Module] = []
    leaves = [m for m in network.modules() if m._parameters and not m._modules]
    hooks = [leaf.register_forward_hook(lambda module, *_: ran.append(module)) for leaf in leaves]
    try:
        result = call(x)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1], result


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` is in ``network``, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is old and parent is not new:
                setattr(parent, name, new)
