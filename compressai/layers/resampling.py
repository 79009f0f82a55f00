# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Strided convolutions, as most transforms have them."""

from __future__ import annotations

from torch import nn

__all__ = ["conv", "deconv"]


def conv(in_channels: int, out_channels: int, kernel_size: int = 5, stride: int = 2) -> nn.Conv2d:
    """Convolution that divides the size by ``stride``: padding ``kernel_size // 2``, with bias."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2
    )


def deconv(
    in_channels: int, out_channels: int, kernel_size: int = 5, stride: int = 2
) -> nn.ConvTranspose2d:
    """Transposed convolution that multiplies the size by ``stride``, with bias."""
    return nn.ConvTranspose2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        output_padding=stride - 1,
        padding=kernel_size // 2,
    )
