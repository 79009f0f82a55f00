# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec with one learned mean and scale a channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models.generalized import GeneralizedGaussianConditional
from compressai.latent_codecs.base import LatentCodec, only_strings
from compressai.ops import quantize_ste
from compressai.registry import register_module

__all__ = ["LearnedScaleLatentCodec"]


@register_module("LearnedScaleLatentCodec")
class LearnedScaleLatentCodec(LatentCodec):
    """Codes a latent whose channels have a generalised Gaussian distribution each.

    It is what an entropy bottleneck is for in other models, with two parameters a channel and no
    auxiliary loss. Values are rounded around the means, with the gradient of the identity;
    likelihoods are those of noisy values in training.

    Args:
        channels: of the latent.
        gaussian_conditional: the entropy model, whose tables have one row a channel; ``None``
            builds one.

    Shape: ``y`` ``(N, channels, H, W)``.
    """

    def __init__(
        self,
        channels: int,
        gaussian_conditional: GeneralizedGaussianConditional | None = None,
    ) -> None:
        super().__init__()
        self.means_hyper = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scales_hyper = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gaussian_conditional = gaussian_conditional or GeneralizedGaussianConditional(None)

    def update(self, force: bool = False) -> bool:
        """Build the tables for the present scales; whether they were built.

        Args:
            force: build them even if there are some.
        """
        scales = self.scales_hyper.detach().flatten().tolist()
        return self.gaussian_conditional.update_scale_table(scales, force)

    def forward(self, y: Tensor) -> dict[str, Any]:
        """``{"likelihoods": {"y"}, "y_hat"}`` for ``y`` ``(N, channels, H, W)``."""
        residual = y - self.means_hyper
        _, likelihoods = self.gaussian_conditional(residual, self.scales_hyper)
        y_hat = quantize_ste(residual) + self.means_hyper
        return {"likelihoods": {"y": likelihoods}, "y_hat": y_hat}

    def compress(self, y: Tensor) -> dict[str, Any]:
        """``{"strings": [y], "shape": (H, W), "y_hat"}``.

        Raises:
            ValueError: there are no tables, or ``y`` is not finite.
        """
        strings, y_hat = self.gaussian_conditional.compress_and_quantize(
            y, self._rows(len(y), y.shape[-2:]), self.means_hyper
        )
        return {"strings": [strings], "shape": y.shape[-2:], "y_hat": y_hat}

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]
    ) -> dict[str, Any]:
        """``{"y_hat"}``.

        Args:
            strings: one list of strings.
            shape: ``(H, W)`` or ``(C, H, W)``.

        Raises:
            ValueError: there are no tables, or a string is damaged.
        """
        y_strings = only_strings(strings, type(self).__name__)
        rows = self._rows(len(y_strings), tuple(shape)[-2:])
        means = self.means_hyper.expand(len(y_strings), -1, -1, -1)
        return {"y_hat": self.gaussian_conditional.decompress(y_strings, rows, means=means)}

    def _rows(self, batch: int, size: Sequence[int]) -> Tensor:
        channels = self.means_hyper.size(1)
        rows = torch.arange(channels, dtype=torch.int32, device=self.means_hyper.device)
        return rows[:, None, None].expand(batch, channels, *size)
