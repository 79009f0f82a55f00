# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Hyper synthesis with separate networks for means and scales."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

__all__ = ["DualHyperSynthesis"]


class DualHyperSynthesis(nn.Module):
    """Two hyper syntheses side by side: ``[h_mean_s(z_hat) | h_scale_s(z_hat)]``.

    Args:
        h_mean_s: from ``z_hat`` to the means' half of the side information.
        h_scale_s: from ``z_hat`` to the scales' half.

    Shape: input ``(N, C, H, W)``; output ``(N, D, H', W')``, the means' channels first.

    Source: Minnen and Singh 2020, "Channel-wise autoregressive entropy models for learned image
    compression".
    """

    def __init__(self, h_mean_s: nn.Module, h_scale_s: nn.Module) -> None:
        super().__init__()
        self.h_mean_s = h_mean_s
        self.h_scale_s = h_scale_s

    def forward(self, z_hat: Tensor) -> Tensor:
        return torch.cat((self.h_mean_s(z_hat), self.h_scale_s(z_hat)), dim=1)
