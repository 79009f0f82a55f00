# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Blocks of hierarchical progressive context models: partial and depthwise convolutions in residual
blocks, and attention of one map to another within windows."""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

__all__ = ["DWConvResBlock", "PConvResBlock", "PartialConv3x3", "WindowedCrossAttention"]


class PartialConv3x3(nn.Module):
    """Convolution of the first channels; the others pass.

    Args:
        channels: of input and output.
        ratio: the first ``channels // ratio`` channels are convolved.

    Shape: ``(N, channels, H, W)``, input and output alike.

    Raises:
        ValueError: ``ratio`` leaves no channel to convolve.

    Source: Chen et al. 2023, "Run, don't walk: chasing higher FLOPS for faster neural networks".
    """

    def __init__(self, channels: int, ratio: int = 4) -> None:
        super().__init__()
        if not 1 <= ratio <= channels:
            raise ValueError(f"ratio must be between 1 and channels={channels}, got {ratio}")
        self.convolved = channels // ratio
        self.pconv = nn.Conv2d(self.convolved, self.convolved, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        head, tail = x.tensor_split((self.convolved,), dim=1)
        return torch.cat((self.pconv(head), tail), dim=1)


class _ResBlock(nn.Module):
    """``x + branch(x)``: a spatial convolution, then a pointwise network of two layers."""

    def __init__(self, channels: int, spatial: nn.Module, mlp_ratio: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            spatial,
            nn.Conv2d(channels, mlp_ratio * channels, 1),
            # In place: it is the largest map of the block, and training would keep it twice.
            nn.LeakyReLU(inplace=True),
            nn.Conv2d(mlp_ratio * channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class PConvResBlock(_ResBlock):
    """Residual block with a partial convolution.

    Args:
        channels: of input and output.
        ratio: see :class:`PartialConv3x3`.
        mlp_ratio: hidden width of the pointwise network, in units of ``channels``.

    Shape: ``(N, channels, H, W)``, input and output alike.
    """

    def __init__(self, channels: int, ratio: int = 4, mlp_ratio: int = 4) -> None:
        super().__init__(channels, PartialConv3x3(channels, ratio), mlp_ratio)


class DWConvResBlock(_ResBlock):
    """Residual block with a depthwise convolution.

    Args:
        channels: of input and output.
        mlp_ratio: hidden width of the pointwise network, in units of ``channels``.

    Shape: ``(N, channels, H, W)``, input and output alike.
    """

    def __init__(self, channels: int, mlp_ratio: int = 2) -> None:
        spatial = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        super().__init__(channels, spatial, mlp_ratio)


class WindowedCrossAttention(nn.Module):
    """Attention of a map to another one, within windows that do not overlap.

    A pointwise layer of the first map is added to what attention gives.

    Args:
        channels: of all maps.
        window_size: side of the windows.
        num_heads: number of heads; each has a contiguous block of channels.

    Shape: ``x`` and ``context`` ``(N, channels, H, W)``, sides multiples of ``window_size``; output
    alike.

    Raises:
        ValueError: ``num_heads`` does not divide ``channels``; in :meth:`forward`, sides that are
            not multiples of ``window_size``.

    Source: Li et al. 2025, "Learned image compression with hierarchical progressive context
    modeling".
    """

    def __init__(self, channels: int, window_size: int, num_heads: int = 32) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide channels={channels}, got {num_heads}")
        self.window_size = window_size
        self.num_heads = num_heads
        self.conv_q = nn.Conv2d(channels, channels, 1)
        self.conv_k = nn.Conv2d(channels, channels, 1)
        self.conv_v = nn.Conv2d(channels, channels, 1)
        self.conv_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """See the class."""
        height, width = x.shape[-2:]
        if height % self.window_size or width % self.window_size:
            raise ValueError(
                f"height and width must be multiples of window_size={self.window_size}, got "
                f"{height} x {width}"
            )
        q, k, v = (
            self._windows(part)
            for part in (self.conv_q(x), self.conv_k(context), self.conv_v(context))
        )
        # The released models have this layer act on x, not on what attention gives.
        return self._map(F.scaled_dot_product_attention(q, k, v), x) + self.conv_out(x)

    def _windows(self, x: Tensor) -> Tensor:
        """``(N * windows, heads, positions of a window, channels of a head)``."""
        n, channels, height, width = x.shape
        side, heads = self.window_size, self.num_heads
        x = x.reshape(
            n, heads, channels // heads, height // side, side, width // side, side
        ).permute(0, 3, 5, 1, 4, 6, 2)
        return x.reshape(-1, heads, side * side, channels // heads)

    def _map(self, windows: Tensor, like: Tensor) -> Tensor:
        n, channels, height, width = like.shape
        side, heads = self.window_size, self.num_heads
        x = windows.reshape(
            n, height // side, width // side, heads, side, side, channels // heads
        ).permute(0, 3, 6, 1, 4, 2, 5)
        return x.reshape(like.shape)
