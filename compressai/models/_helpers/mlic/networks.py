# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The networks of MLIC, MLIC+ and MLIC++ that are made of convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn as nn
from torch import Tensor

from compressai.layers import (
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv3x3,
    subpel_conv3x3,
)

__all__ = [
    "AnalysisTransform",
    "ChannelContext",
    "EntropyParameters",
    "HyperAnalysis",
    "HyperSynthesis",
    "LatentResidualPrediction",
    "StackedCheckerboardConv",
    "SynthesisTransform",
]


def _layers(widths: Sequence[int], **how: int) -> nn.Sequential:
    """Convolutions with GELU between."""
    layers: list[nn.Module] = []
    for width_in, width_out in pairwise(widths):
        layers += [nn.Conv2d(width_in, width_out, **how), nn.GELU()]
    return nn.Sequential(*layers[:-1])


# -- transforms -----------------------------------------------------------------------------------


def _block(in_ch: int, out_ch: int) -> ResidualBlock:
    return ResidualBlock(in_ch, out_ch, activation=nn.GELU)


def _down(in_ch: int, out_ch: int) -> ResidualBlockWithStride:
    return ResidualBlockWithStride(in_ch, out_ch, activation=nn.GELU)


def _up(in_ch: int, out_ch: int) -> ResidualBlockUpsample:
    return ResidualBlockUpsample(in_ch, out_ch, activation=nn.GELU)


class AnalysisTransform(nn.Module):
    """From an image to ``y``.

    Args:
        N: width within.
        M: width of ``y``.

    Shape: ``(B, 3, H, W)`` to ``(B, M, H / 16, W / 16)``.
    """

    def __init__(self, N: int, M: int) -> None:
        super().__init__()
        self.analysis_transform = nn.Sequential(
            _down(3, N),
            _block(N, N),
            _down(N, N),
            _block(N, N),
            _down(N, N),
            _block(N, N),
            conv3x3(N, M, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.analysis_transform(x)


class SynthesisTransform(nn.Module):
    """From ``y`` to an image.

    Args:
        N: width within.
        M: width of ``y``.
        legacy: reduce the width in the first block, as the checkpoints of 2023 do.

    Shape: ``(B, M, H, W)`` to ``(B, 3, 16 H, 16 W)``.
    """

    def __init__(self, N: int, M: int, legacy: bool = False) -> None:
        super().__init__()
        width = N if legacy else M
        self.synthesis_transform = nn.Sequential(
            _block(M, width),
            _up(width, N),
            _block(N, N),
            _up(N, N),
            _block(N, N),
            _up(N, N),
            _block(N, N),
            subpel_conv3x3(N, 3, 2),
        )

    def forward(self, y: Tensor) -> Tensor:
        return self.synthesis_transform(y)


class HyperAnalysis(nn.Module):
    """From ``y`` to ``z``, a quarter of the size."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__()
        self.reduction = nn.Sequential(
            conv3x3(M, N),
            nn.GELU(),
            conv3x3(N, N),
            nn.GELU(),
            conv3x3(N, N, stride=2),
            nn.GELU(),
            conv3x3(N, N),
            nn.GELU(),
            conv3x3(N, N, stride=2),
        )

    def forward(self, y: Tensor) -> Tensor:
        return self.reduction(y)


class HyperSynthesis(nn.Module):
    """From ``z`` to side information ``[scales | means]`` of ``2 M`` channels."""

    def __init__(self, N: int, M: int) -> None:
        super().__init__()
        wide = M * 3 // 2
        self.increase = nn.Sequential(
            conv3x3(N, M),
            nn.GELU(),
            subpel_conv3x3(M, M, 2),
            nn.GELU(),
            conv3x3(M, wide),
            nn.GELU(),
            subpel_conv3x3(wide, wide, 2),
            nn.GELU(),
            conv3x3(wide, 2 * M),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.increase(z)


# -- pointwise and plain networks of the entropy model ---------------------------------------------


class EntropyParameters(nn.Module):
    """Pointwise network from contexts to ``[scales | means]``."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fusion = _layers((in_dim, 320, 256, 128, out_dim), kernel_size=1)

    def forward(self, params: Tensor) -> Tensor:
        return self.fusion(params)


class ChannelContext(nn.Module):
    """From earlier slices to ``4 out_dim`` channels of context."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        # The name is spelled so in released checkpoints.
        self.fushion = _layers((in_dim, 192, 128, 4 * out_dim), kernel_size=3, padding=1)

    def forward(self, support: Tensor) -> Tensor:
        return self.fushion(support)


class LatentResidualPrediction(nn.Module):
    """What is added to quantised values, from -0.5 to 0.5.

    Args:
        in_dim: width of the support and the slice.
        out_dim: width of the slice.
        legacy: four convolutions of widths that fall evenly, as in the checkpoints of 2023.
    """

    def __init__(self, in_dim: int, out_dim: int, legacy: bool = False) -> None:
        super().__init__()
        fall = in_dim - out_dim
        widths = [in_dim - fall * i // 4 for i in (1, 2, 3)] if legacy else [224, 128]
        self.lrp_transform = _layers((in_dim, *widths, out_dim), kernel_size=3, padding=1)

    def forward(self, support: Tensor) -> Tensor:
        return 0.5 * torch.tanh(self.lrp_transform(support))


class StackedCheckerboardConv(nn.Module):
    """Context of the rest from the anchors, by convolutions; of MLIC.

    Args:
        dim: width of the slice; the context has twice as much.
        kernel: side of the kernels.
        num_layers: number of convolutions.

    Raises:
        ValueError: an even or non-positive ``kernel``, or no layers.
    """

    def __init__(self, dim: int, kernel: int = 5, num_layers: int = 3) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and positive, got {kernel}")
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, got {num_layers}")
        widths = (*[dim] * num_layers, 2 * dim)
        self.context = _layers(widths, kernel_size=kernel, padding=kernel // 2)

    def forward(self, anchors: Tensor) -> Tensor:
        return self.context(anchors)
