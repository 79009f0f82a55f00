# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Network blocks: normalisation, masked and spectral convolutions, residual blocks, containers.

Nothing here knows of entropy coding or of whole models. Window attention lives in
:mod:`compressai.layers.attn`, which this package does not import.
"""

from __future__ import annotations

from compressai.layers.basic import Gain, Interleave, Lambda, NamedLayer, Reshape, Transpose
from compressai.layers.channel_ramp import sequential_channel_ramp
from compressai.layers.gdn import GDN, GDN1
from compressai.layers.masked import CheckerboardMaskedConv2d, MaskedConv2d
from compressai.layers.naf import LayerNorm2d, NAFBlock, NAFTransform
from compressai.layers.qrelu import QReLU
from compressai.layers.residual import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
    ResidualUnit,
    conv1x1,
    conv3x3,
    subpel_conv3x3,
)
from compressai.layers.spectral import SpectralConv2d, SpectralConvTranspose2d

__all__ = [
    "Lambda",
    "NamedLayer",
    "Reshape",
    "Transpose",
    "Interleave",
    "Gain",
    "GDN",
    "GDN1",
    "AttentionBlock",
    "MaskedConv2d",
    "CheckerboardMaskedConv2d",
    "ResidualBlock",
    "ResidualBlockUpsample",
    "ResidualBlockWithStride",
    "ResidualBottleneckBlock",
    "ResidualUnit",
    "conv1x1",
    "conv3x3",
    "subpel_conv3x3",
    "SpectralConv2d",
    "SpectralConvTranspose2d",
    "QReLU",
    "LayerNorm2d",
    "NAFBlock",
    "NAFTransform",
    "sequential_channel_ramp",
]
