# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Stages of the transforms of DCAE and SAAF: bottlenecks around a convolution, and gated blocks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

from compressai.layers import ResidualBottleneckBlock, conv3x3
from compressai.layers.attn import ConvolutionalGLU, Scale, pad_to_window_multiple
from compressai.layers.attn.blocks import apply_channels_last
from compressai.models.utils import conv, deconv

__all__ = ["GatedBlock", "GatedStage", "bottlenecks_with_stride", "bottlenecks_with_upsample"]


def bottlenecks_with_stride(in_channels: int, out_channels: int) -> nn.Sequential:
    """Strided convolution and three bottlenecks behind it: ``conv``, ``res1`` to ``res3``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, of half the size.
    """
    return nn.Sequential(
        OrderedDict(conv=conv(in_channels, out_channels), **_bottlenecks(out_channels))
    )


def bottlenecks_with_upsample(in_channels: int, out_channels: int) -> nn.Sequential:
    """Three bottlenecks and a transposed convolution behind them: ``res1`` to ``res3``, ``conv``.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, of twice the size.
    """
    return nn.Sequential(
        OrderedDict(**_bottlenecks(in_channels), conv=deconv(in_channels, out_channels))
    )


def _bottlenecks(channels: int) -> dict[str, nn.Module]:
    return {f"res{i}": ResidualBottleneckBlock(channels, channels) for i in (1, 2, 3)}


class GatedBlock(nn.Module):
    """Attention and convolutional gated network, each beside a skip with a factor per channel.

    ``x = res_scale_1(x) + msa(ln1(x))``; ``res_scale_2(x) + mlp(ln2(x))``.

    Args:
        dim: channels C.
        msa: attention from ``(B, H, W, C)`` to the same shape.

    State dict: ``ln1``, ``msa``, ``ln2``, ``mlp``
    (:class:`~compressai.layers.attn.ConvolutionalGLU`), ``res_scale_1.scale``,
    ``res_scale_2.scale``.
    Shape: ``(B, H, W, C)``, input and output alike.
    Source: Lu et al. 2025, "Learned image compression with dictionary-based entropy model".
    """

    def __init__(self, dim: int, msa: nn.Module) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(dim)
        self.msa = msa
        self.ln2 = nn.LayerNorm(dim)
        self.mlp = ConvolutionalGLU(dim, 4 * dim)
        self.res_scale_1 = Scale(dim)
        self.res_scale_2 = Scale(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = self.res_scale_1(x) + self.msa(self.ln1(x))
        return self.res_scale_2(x) + self.mlp(self.ln2(x))


class GatedStage(nn.Module):
    """Blocks and a 3x3 convolution beside a skip.

    A map whose sides are no multiples of the window is padded with zeros on the right and at the
    bottom before all of this, and cut behind it: the blocks and the convolution see the zeros.

    Args:
        dim: channels C.
        attentions: one for each block, see :class:`GatedBlock`.
        window_size: side of the attentions' windows.

    State dict: ``layers.{i}`` (:class:`GatedBlock`), ``conv``.
    Shape: ``(B, C, H, W)``, input and output alike.
    Source: Lu et al. 2025, as :class:`GatedBlock`.
    """

    def __init__(self, dim: int, attentions: Sequence[nn.Module], window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.layers = nn.Sequential(*(GatedBlock(dim, attention) for attention in attentions))
        self.conv = conv3x3(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded, pad_h, pad_w = pad_to_window_multiple(x, self.window_size)
        out = self.conv(apply_channels_last(self.layers, padded)) + padded
        return out[..., :height, :width] if pad_h or pad_w else out
