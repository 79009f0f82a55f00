# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec of the side information: hyper analysis, bottleneck and hyper synthesis in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs.base import LatentCodec, only_strings
from compressai.latent_codecs.entropy_bottleneck import bottleneck_forward, check_quantizer
from compressai.registry import register_module

__all__ = ["HyperLatentCodec"]


@register_module("HyperLatentCodec")
class HyperLatentCodec(LatentCodec):
    """Codes side information of a latent and gives the parameters predicted from it.

    Args:
        entropy_bottleneck: entropy model of ``z``.
        h_a: hyper analysis, from ``y`` to ``z``; ``None`` is the identity.
        h_s: hyper synthesis, from ``z_hat`` to parameters; ``None`` is the identity.
        quantizer: ``"noise"`` or ``"ste"``, as in
            :class:`~compressai.latent_codecs.EntropyBottleneckLatentCodec`.

    Raises:
        ValueError: unknown ``quantizer``.

    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior".
    """

    def __init__(
        self,
        entropy_bottleneck: EntropyBottleneck,
        h_a: nn.Module | None = None,
        h_s: nn.Module | None = None,
        quantizer: str = "noise",
    ) -> None:
        super().__init__()
        self.entropy_bottleneck = entropy_bottleneck
        self.h_a = nn.Identity() if h_a is None else h_a
        self.h_s = nn.Identity() if h_s is None else h_s
        self.quantizer = check_quantizer(quantizer)

    def forward(self, y: Tensor) -> dict[str, Any]:
        """``{"likelihoods": {"z"}, "params"}`` for ``y`` ``(N, C, H, W)``."""
        z_hat, likelihoods = bottleneck_forward(
            self.entropy_bottleneck, self.h_a(y), self.quantizer
        )
        return {"likelihoods": {"z": likelihoods}, "params": self.h_s(z_hat)}

    def compress(self, y: Tensor) -> dict[str, Any]:
        """``{"strings": [z], "shape": spatial size of z, "params"}``."""
        z = self.h_a(y)
        strings, z_hat = self.entropy_bottleneck.compress_and_quantize(z)
        return {"strings": [strings], "shape": z.size()[-2:], "params": self.h_s(z_hat)}

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]
    ) -> dict[str, Any]:
        """``{"params"}``."""
        z_strings = only_strings(strings, type(self).__name__)
        z_hat = self.entropy_bottleneck.decompress(z_strings, shape)
        return {"params": self.h_s(z_hat)}
