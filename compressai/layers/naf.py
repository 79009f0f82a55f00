# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Blocks without activation functions (NAF)."""

from __future__ import annotations

import torch
import torch.nn as nn
from torch import Tensor

from compressai.layers.residual import conv1x1

__all__ = ["LayerNorm2d", "NAFBlock", "NAFTransform"]


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of each position of ``(N, C, H, W)``."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # Not F.layer_norm, which takes channels last: both transpositions cost more than this.
        centred = x - x.mean(dim=1, keepdim=True)
        variance = centred.square().mean(dim=1, keepdim=True)
        normed = centred * torch.rsqrt(variance + self.eps)
        return normed * self.weight[:, None, None] + self.bias[:, None, None]


class _Gate(nn.Module):
    """Product of the two halves of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=1)
        return a * b


class NAFBlock(nn.Module):
    """Gated convolutions and a gated feed-forward network, each beside a skip.

    A fresh block is the identity: ``beta`` and ``gamma``, the weights of the two branches, start
    at zero.

    Args:
        channels: width ``C``.

    Shape: ``(N, C, H, W)``, input and output alike.
    Source: Chen et al. 2022, "Simple baselines for image restoration", figure 3.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.norm1 = LayerNorm2d(channels)
        self.pointwise_depthwise = nn.Sequential(
            conv1x1(channels, 2 * channels),
            nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=2 * channels),
        )
        self.gate = _Gate()
        self.channel_attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv1x1(channels, channels))
        self.project = conv1x1(channels, channels)
        self.norm2 = LayerNorm2d(channels)
        self.feed_forward = nn.Sequential(
            conv1x1(channels, 2 * channels), _Gate(), conv1x1(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        gated = self.gate(self.pointwise_depthwise(self.norm1(x)))
        x = x + self.beta * self.project(gated * self.channel_attention(gated))
        return x + self.gamma * self.feed_forward(self.norm2(x))


class NAFTransform(nn.Module):
    """NAF blocks beside a skip, between two projections.

    ``output_projection(v + blocks(v))`` with ``v = input_projection(x)``.

    Args:
        input_channels: width of the input.
        output_channels: width of the output.
        hidden_channels: width between.
        num_layers: number of blocks, at least 1.

    Shape: ``(N, input_channels, H, W)`` to ``(N, output_channels, H, W)``.
    Raises:
        ValueError: ``num_layers`` below 1.
    """

    def __init__(
        self, input_channels: int, output_channels: int, hidden_channels: int, num_layers: int
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got num_layers={num_layers}")
        self.input_projection = conv1x1(input_channels, hidden_channels)
        self.blocks = nn.Sequential(*(NAFBlock(hidden_channels) for _ in range(num_layers)))
        self.output_projection = conv1x1(hidden_channels, output_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.input_projection(x)
        return self.output_projection(x + self.blocks(x))
