# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convolutions and blocks under the one module path that existing code imports them from."""

from __future__ import annotations

from compressai.layers.masked import CheckerboardMaskedConv2d, MaskedConv2d
from compressai.layers.qrelu import QReLU
from compressai.layers.residual import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv1x1,
    conv3x3,
    subpel_conv3x3,
)
from compressai.layers.spectral import SpectralConv2d, SpectralConvTranspose2d

__all__ = [
    "AttentionBlock",
    "CheckerboardMaskedConv2d",
    "MaskedConv2d",
    "QReLU",
    "ResidualBlock",
    "ResidualBlockUpsample",
    "ResidualBlockWithStride",
    "SpectralConv2d",
    "SpectralConvTranspose2d",
    "conv1x1",
    "conv3x3",
    "subpel_conv3x3",
]
