# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models by Cheng, Sun, Takeuchi and Katto (Waseda University)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.layers import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    conv3x3,
    subpel_conv3x3,
)
from compressai.models._state_dict import entry_size
from compressai.models.google import JointAutoregressiveHierarchicalPriors
from compressai.registry import (
    ModelEntry,
    at_qualities,
    known_lambdas,
    numbered,
    register_entry,
    register_model,
)

__all__ = ["Cheng2020Anchor", "Cheng2020Attention"]


def cheng_analysis(N: int) -> nn.Sequential:
    """Analysis transform without attention, from 3 to ``N`` channels."""
    return nn.Sequential(
        ResidualBlockWithStride(3, N, stride=2),
        ResidualBlock(N, N),
        ResidualBlockWithStride(N, N, stride=2),
        ResidualBlock(N, N),
        ResidualBlockWithStride(N, N, stride=2),
        ResidualBlock(N, N),
        conv3x3(N, N, stride=2),
    )


def cheng_synthesis(N: int) -> nn.Sequential:
    """Synthesis transform without attention, from ``N`` to 3 channels."""
    return nn.Sequential(
        ResidualBlock(N, N),
        ResidualBlockUpsample(N, N, 2),
        ResidualBlock(N, N),
        ResidualBlockUpsample(N, N, 2),
        ResidualBlock(N, N),
        ResidualBlockUpsample(N, N, 2),
        ResidualBlock(N, N),
        subpel_conv3x3(N, 3, 2),
    )


def cheng_hyper_analysis(N: int) -> nn.Sequential:
    """Hyper analysis, ``N`` to ``N`` channels at a quarter of the size."""
    return nn.Sequential(
        conv3x3(N, N),
        nn.LeakyReLU(),
        conv3x3(N, N),
        nn.LeakyReLU(),
        conv3x3(N, N, stride=2),
        nn.LeakyReLU(),
        conv3x3(N, N),
        nn.LeakyReLU(),
        conv3x3(N, N, stride=2),
    )


def cheng_hyper_synthesis(N: int) -> nn.Sequential:
    """Hyper synthesis, ``N`` to ``2 * N`` channels at four times the size."""
    return nn.Sequential(
        conv3x3(N, N),
        nn.LeakyReLU(),
        subpel_conv3x3(N, N, 2),
        nn.LeakyReLU(),
        conv3x3(N, N * 3 // 2),
        nn.LeakyReLU(),
        subpel_conv3x3(N * 3 // 2, N * 3 // 2, 2),
        nn.LeakyReLU(),
        conv3x3(N * 3 // 2, N * 2),
    )


@register_model("cheng2020-anchor")
class Cheng2020Anchor(JointAutoregressiveHierarchicalPriors):
    """Residual and sub-pixel transforms with the joint autoregressive entropy model.

    Args:
        N: channels of everything.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Source: Cheng et al. 2020, "Learned image compression with discretized Gaussian mixture
    likelihoods and attention modules", the anchor of its ablation (single Gaussians).
    """

    def __init__(self, N: int = 192, **kwargs: Any) -> None:
        super().__init__(N=N, M=N, **kwargs)
        self.g_a = cheng_analysis(N)
        self.h_a = cheng_hyper_analysis(N)
        self.h_s = cheng_hyper_synthesis(N)
        self.g_s = cheng_synthesis(N)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        return {"N": entry_size(state_dict, "g_a.0.conv1.weight", 0, cls)}


@register_model("cheng2020-attn")
class Cheng2020Attention(Cheng2020Anchor):
    """:class:`Cheng2020Anchor` with attention blocks in the transforms.

    Args:
        N: channels of everything.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.

    Source: Cheng et al. 2020, figure 5 (single Gaussians in place of the mixture).
    """

    def __init__(self, N: int = 192, **kwargs: Any) -> None:
        super().__init__(N=N, **kwargs)
        self.g_a = nn.Sequential(
            ResidualBlockWithStride(3, N, stride=2),
            ResidualBlock(N, N),
            ResidualBlockWithStride(N, N, stride=2),
            AttentionBlock(N),
            ResidualBlock(N, N),
            ResidualBlockWithStride(N, N, stride=2),
            ResidualBlock(N, N),
            conv3x3(N, N, stride=2),
            AttentionBlock(N),
        )
        self.g_s = nn.Sequential(
            AttentionBlock(N),
            ResidualBlock(N, N),
            ResidualBlockUpsample(N, N, 2),
            ResidualBlock(N, N),
            ResidualBlockUpsample(N, N, 2),
            AttentionBlock(N),
            ResidualBlock(N, N),
            ResidualBlockUpsample(N, N, 2),
            ResidualBlock(N, N),
            subpel_conv3x3(N, 3, 2),
        )


# -- rows --------------------------------------------------------------------------------------

_PAPER = (
    "Cheng et al. 2020, Learned image compression with discretized Gaussian mixture likelihoods "
    "and attention modules"
)
_SIZES = at_qualities((3, {"N": 128}), (6, {"N": 192}))

register_entry(
    ModelEntry(
        name="cheng2020-anchor",
        model=Cheng2020Anchor,
        summary="Residual transforms with autoregressive context",
        paper=_PAPER,
        sizes=_SIZES,
        needs_quality=True,
        losses=known_lambdas(*_SIZES),
        weights={
            "mse": numbered(
                "cheng2020-anchor-{}-{}.pth.tar",
                "dad2ebff a29008eb e49be189 98b0b468 23852949 4c052b1a",
            ),
            "ms-ssim": numbered(
                "cheng2020_anchor-ms-ssim-{}-{}.pth.tar",
                "20f521db c7ff5812 c23e22d5 0e658304 c0a95e77 f2dc1913",
            ),
        },
        licence="BSD-3-Clause-Clear",
        small={"N": 4},
    )
)
register_entry(
    ModelEntry(
        name="cheng2020-attn",
        model=Cheng2020Attention,
        summary="Residual and attention transforms with autoregressive context",
        paper=_PAPER,
        sizes=_SIZES,
        needs_quality=True,
        losses=known_lambdas(*_SIZES),
        weights={
            "mse": numbered(
                "cheng2020_attn-mse-{}-{}.pth.tar",
                "465f2b64 e0805385 2d07bbdf f7b0ccf2 26c8920e 730501f2",
            ),
            "ms-ssim": numbered(
                "cheng2020_attn-ms-ssim-{}-{}.pth.tar",
                "c5381d91 5dad201d 5c9be841 8b2f647e 5ca1f34c 216423ec",
            ),
        },
        licence="BSD-3-Clause-Clear",
        small={"N": 4},
    )
)
