# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codecs whose latents are multiplied by a gain vector before coding (variable rate)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs.base import LatentCodec, check_batch, only_strings
from compressai.latent_codecs.entropy_bottleneck import bottleneck_forward, check_quantizer
from compressai.registry import register_module

__all__ = ["GainHyperLatentCodec", "GainHyperpriorLatentCodec"]


@register_module("GainHyperLatentCodec")
class GainHyperLatentCodec(LatentCodec):
    """:class:`~compressai.latent_codecs.HyperLatentCodec` with gains around the bottleneck.

    ``z = h_a(y) * gain`` is coded, and ``params = h_s(z_hat * gain_inv)``.

    Args:
        entropy_bottleneck: entropy model of ``z``.
        h_a: hyper analysis; ``None`` is the identity.
        h_s: hyper synthesis; ``None`` is the identity.
        quantizer: ``"noise"`` or ``"ste"``, as in
            :class:`~compressai.latent_codecs.EntropyBottleneckLatentCodec`.

    Attributes:
        limit: ``z_hat`` is clamped to ``-limit ... limit`` before it is multiplied; ``None``, as it
            is at first, leaves it as it is.

    Raises:
        ValueError: unknown ``quantizer``.

    Source: Cui et al. 2021, "Asymmetric gained deep image compression with continuous rate
    adaptation".
    """

    limit: float | None = None

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

    def forward(self, y: Tensor, gain: Tensor, gain_inv: Tensor) -> dict[str, Any]:
        """``{"likelihoods": {"z"}, "params"}``; gains broadcast to ``z`` ``(N, C, H, W)``."""
        z_hat, likelihoods = bottleneck_forward(
            self.entropy_bottleneck, self.h_a(y) * gain, self.quantizer
        )
        return {"likelihoods": {"z": likelihoods}, "params": self.synthesis(z_hat, gain_inv)}

    def synthesis(self, z_hat: Tensor, gain_inv: Tensor) -> Tensor:
        """The side information: ``h_s(z_hat * gain_inv)``; shapes as in :meth:`forward`."""
        if self.limit is not None:
            z_hat = z_hat.clamp(-self.limit, self.limit)
        return self.h_s(z_hat * gain_inv)

    def compress(self, y: Tensor, gain: Tensor, gain_inv: Tensor) -> dict[str, Any]:
        """``{"strings": [z], "shape": spatial size of z, "params"}``."""
        z = self.h_a(y) * gain
        strings, z_hat = self.entropy_bottleneck.compress_and_quantize(z)
        params = self.synthesis(z_hat, gain_inv)
        return {"strings": [strings], "shape": z.size()[-2:], "params": params}

    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Sequence[int],
        gain_inv: Tensor,
    ) -> dict[str, Any]:
        """``{"params"}``."""
        z_strings = only_strings(strings, type(self).__name__)
        z_hat = self.entropy_bottleneck.decompress(z_strings, shape)
        return {"params": self.synthesis(z_hat, gain_inv)}


@register_module("GainHyperpriorLatentCodec")
class GainHyperpriorLatentCodec(LatentCodec):
    """:class:`~compressai.latent_codecs.HyperpriorLatentCodec` with gains around both codecs.

    Args:
        latent_codec: the codecs ``"y"`` and ``"hyper"``, the latter a
            :class:`GainHyperLatentCodec`.

    Raises:
        ValueError: the keys of ``latent_codec`` are others.

    Source: Cui et al. 2021, "Asymmetric gained deep image compression with continuous rate
    adaptation".
    """

    def __init__(self, latent_codec: Mapping[str, nn.Module]) -> None:
        super().__init__()
        if set(latent_codec) != {"y", "hyper"}:
            raise ValueError(
                f"latent_codec must have the keys 'y' and 'hyper', got {sorted(latent_codec)}"
            )
        self.y = latent_codec["y"]
        self.hyper = latent_codec["hyper"]

    @property
    def latent_codec(self) -> dict[str, nn.Module]:
        """The codecs by name."""
        return {"y": self.y, "hyper": self.hyper}

    def __getitem__(self, key: str) -> nn.Module:
        return self.latent_codec[key]

    def forward(
        self, y: Tensor, y_gain: Tensor, z_gain: Tensor, y_gain_inv: Tensor, z_gain_inv: Tensor
    ) -> dict[str, Any]:
        """``{"likelihoods": {"y", "z"}, "y_hat"}``; gains broadcast to ``y`` and ``z``."""
        side = self.hyper(y, z_gain, z_gain_inv)
        out = self.y(y * y_gain, side["params"])
        return {
            "likelihoods": {"y": out["likelihoods"]["y"], "z": side["likelihoods"]["z"]},
            "y_hat": out["y_hat"] * y_gain_inv,
        }

    def compress(
        self,
        y: Tensor,
        y_gain: Tensor,
        z_gain: Tensor,
        y_gain_inv: Tensor,
        z_gain_inv: Tensor,
    ) -> dict[str, Any]:
        """``{"strings": [*y, z], "shape": {"y", "hyper"}, "y_hat"}``."""
        side = self.hyper.compress(y, z_gain, z_gain_inv)
        out = self.y.compress(y * y_gain, side["params"])
        return {
            "strings": [*out["strings"], *side["strings"]],
            "shape": {"y": out["shape"], "hyper": side["shape"]},
            "y_hat": out["y_hat"] * y_gain_inv,
        }

    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Mapping[str, Any],
        y_gain_inv: Tensor,
        z_gain_inv: Tensor,
    ) -> dict[str, Any]:
        """What the codec of ``y`` gives, with the inverse gain."""
        check_batch(strings, type(self).__name__)
        *y_strings, z_strings = strings
        side = self.hyper.decompress([z_strings], shape["hyper"], z_gain_inv)
        out = self.y.decompress(y_strings, shape["y"], side["params"])
        return {name: values * y_gain_inv for name, values in out.items()}
