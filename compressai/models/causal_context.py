# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The auxiliary entropy model of CCA, which any channel-slice model can be trained with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck
from compressai.layers.naf import NAFTransform
from compressai.models._helpers.channel_slice import build_lrp_slice_codec

__all__ = ["CausalContextAdjustmentEntropyModel"]


def _count_all_but_latest(k: int) -> int:
    return max(k - 1, 0)


def _all_but_latest(k: int, earlier: Sequence[Tensor]) -> Sequence[Tensor]:
    return earlier[: _count_all_but_latest(k)]


class CausalContextAdjustmentEntropyModel(nn.Module):
    """Likelihoods of a latent under two poorer models, for the causal context adjustment loss.

    ``y_cca`` predicts every slice as the main model does, but without the slice just before it;
    where that costs no bits, the slice was not informative, and
    :class:`~compressai.losses.cca.CCARateDistortionLoss` rewards information in early slices.
    ``y_aux`` is a factorized prior. It depends on nothing but the width and slices of a latent and
    is used in training only; ``compress`` and ``decompress`` of a model never touch it.

    The residual predictions of the last two slices have no influence on the outputs and get no
    gradient; they exist because published checkpoints hold them.

    Args:
        latent_channels: width ``M`` of the latent.
        slice_sizes: width of each slice.
        hidden_channels: width of the support transforms.
        num_layers: NAF blocks in each support transform.
        context_widths: hidden widths of the predictors; ``None`` takes
            ``(hidden_channels, 128)``.
        side_channels: width ``D`` of the means' (or scales') half of the side information;
            ``None`` takes ``latent_channels``.

    Shape: ``y`` ``(N, M, H, W)``; both halves of the side information ``(N, D, H, W)``.

    Source: Han et al. 2024, "Causal context adjustment loss for learned image compression".
    """

    def __init__(
        self,
        latent_channels: int,
        slice_sizes: Sequence[int],
        hidden_channels: int = 224,
        num_layers: int = 4,
        context_widths: Sequence[int] | None = None,
        side_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.y_entropy_bottleneck = EntropyBottleneck(latent_channels)
        self.inner_codec = build_lrp_slice_codec(
            groups=slice_sizes,
            side_channels=latent_channels if side_channels is None else side_channels,
            widths=context_widths or (hidden_channels, 128),
            emit_mean_support="post",
            support_transform_factory=partial(
                NAFTransform, hidden_channels=hidden_channels, num_layers=num_layers
            ),
            support_filter=_all_but_latest,
            support_count_fn=_count_all_but_latest,
        )

    def forward(self, y: Tensor, latent_means: Tensor, latent_scales: Tensor) -> dict[str, Tensor]:
        """Likelihoods, differentiable with respect to all arguments.

        Args:
            y: latent.
            latent_means, latent_scales: the halves of the side information that the main model
                codes ``y`` with.

        Returns:
            ``{"y_aux", "y_cca"}``, both of the shape of ``y``.
        """
        _, y_aux = self.y_entropy_bottleneck(y)
        coded = self.inner_codec(y, torch.cat((latent_means, latent_scales), dim=1))
        return {"y_aux": y_aux, "y_cca": coded["likelihoods"]["y"]}
