# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What some models add to the loss, besides rate and distortion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compressai.models.channel_slice import ORTHO_WEIGHT, ChannelSliceModel

__all__ = ["add_regularizers"]


def add_regularizers(
    losses: Mapping[str, Tensor], out: Mapping[str, Any], net: nn.Module
) -> dict[str, Tensor]:
    """The losses with what a model's training adds to them.

    That is what keeps the linear branches of AuxT and SAAF orthogonal, and SAAF's denoising loss
    with the weight ``net.diffusion_weight``, which may be 0.

    Args:
        losses: what a criterion gave, with ``"loss"``.
        out: what ``forward`` gave.
        net: the model.

    Returns:
        The same entries; ``"loss"`` has the additions, which are ``"ortho_loss"`` and
        ``"diffusion_loss"`` by themselves, without their weights.
    """
    found = dict(losses)
    if isinstance(net, ChannelSliceModel) and net.has_projections:
        found["ortho_loss"] = net.ortho_loss()
        found["loss"] = found["loss"] + ORTHO_WEIGHT * found["ortho_loss"]
    if weight := getattr(net, "diffusion_weight", 0.0):
        # Replicas of DataParallel give one each.
        found["diffusion_loss"] = out["diffusion_loss"].mean()
        found["loss"] = found["loss"] + weight * found["diffusion_loss"]
    return found
