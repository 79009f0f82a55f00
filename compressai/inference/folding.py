# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What depends on weights alone is computed once. No digit of a result changes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai.layers import GDN, GDN1

__all__ = ["FoldedGDN", "fold"]


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
