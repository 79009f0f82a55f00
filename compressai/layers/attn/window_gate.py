# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The attention module of WACNN: residual units gated through window attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai.layers._timm import make_drop_path
from compressai.layers.attn.attention import WMSA
from compressai.layers.attn.blocks import apply_channels_last
from compressai.layers.residual import ResidualUnit, conv1x1

__all__ = ["WinNoShiftAttention", "WinResidualUnit"]


class WinResidualUnit(ResidualUnit):
    """Bottleneck unit with GELUs, ``gelu(conv(x) + x)``.

    Args:
        channels: channels C.

    State dict: ``conv.0``, ``conv.2``, ``conv.4``.
    Shape: ``(B, C, H, W)``, input and output alike.
    Source: Zou et al. 2022, as :class:`WinNoShiftAttention`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, activation=nn.GELU)


class _WindowResidual(nn.Module):
    """``x + drop_path(attn(x))`` on ``(B, C, H, W)``, without normalisation."""

    def __init__(self, attn: WMSA, drop_path: float) -> None:
        super().__init__()
        self.attn = attn
        self.drop_path = make_drop_path(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(apply_channels_last(self.attn, x))


class WinNoShiftAttention(nn.Module):
    """Attention module with window attention at the head of its mask branch.

    ``x + conv_a(x) * sigmoid(conv_b(x))``: ``conv_a`` holds three residual units, ``conv_b`` a
    window attention beside a skip, three residual units and a 1x1 convolution. The name is that of
    published checkpoints; whether windows are shifted is up to ``shift_size``.

    Args:
        dim: channels C.
        num_heads: heads; must divide ``dim``.
        window_size: side of a window.
        shift_size: above 0, windows are shifted by half their side. Published models use half the
            side; no other shift exists.
        drop_path: probability that the window attention is left out for a sample in training.
        output_proj: a second linear layer behind the attention's own; False in published models.

    State dict: ``conv_a.{0..2}.conv``, ``conv_b.0.attn.attn`` (:class:`WindowAttention`),
    ``conv_b.0.attn.output_proj`` if wanted, ``conv_b.{1..3}.conv``, ``conv_b.4``.
    Shape: ``(B, C, H, W)``, input and output alike, any H and W.
    Raises:
        ValueError: ``num_heads`` does not divide ``dim``.
        ImportError: ``drop_path`` above 0 and timm is not installed.
    Source: Zou et al. 2022, "The devil is in the details: Window-based attention for image
    compression", fig. 4.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        window_size: int = 8,
        shift_size: int = 0,
        drop_path: float = 0.0,
        output_proj: bool = True,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim}, num_heads={num_heads}")
        kind = "SW" if shift_size > 0 else "W"
        attn = WMSA(dim, dim, dim // num_heads, window_size, kind, output_proj=output_proj)
        self.conv_a = nn.Sequential(*(WinResidualUnit(dim) for _ in range(3)))
        self.conv_b = nn.Sequential(
            _WindowResidual(attn, drop_path),
            *(WinResidualUnit(dim) for _ in range(3)),
            conv1x1(dim, dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_a(x) * torch.sigmoid(self.conv_b(x))
