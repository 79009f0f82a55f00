# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The parts of scale-space flow: networks for frames, flows and residuals, and their hyperprior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.entropy_models.session import coding_session
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE, Gain, SyncEncoder
from compressai.layers import QReLU
from compressai.models.base import CompressionModel, Strings, check_strings, coding
from compressai.models.utils import conv, deconv
from compressai.ops import quantize_ste

__all__ = ["Hyperprior", "decoder", "encoder"]

# Scales and means come straight from a network each, whose input is exact: nothing amplifies.
_GAIN = 1.0


def encoder(in_channels: int, N: int, M: int) -> nn.Sequential:
    return nn.Sequential(
        conv(in_channels, N), nn.ReLU(), conv(N, N), nn.ReLU(), conv(N, N), nn.ReLU(), conv(N, M)
    )


def decoder(in_channels: int, N: int) -> nn.Sequential:
    return nn.Sequential(
        deconv(in_channels, N),
        nn.ReLU(),
        deconv(N, N),
        nn.ReLU(),
        deconv(N, N),
        nn.ReLU(),
        deconv(N, 3),
    )


def _hyper_network(layer: Any, channels: int) -> nn.Sequential:
    return nn.Sequential(
        layer(channels, channels),
        nn.ReLU(),
        layer(channels, channels),
        nn.ReLU(),
        layer(channels, channels),
    )


class _HyperDecoderScale(nn.Module):
    """From ``z`` to the scales of ``y``, clipped to [0, 255] after each layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.deconv1 = deconv(channels, channels)
        self.deconv2 = deconv(channels, channels)
        self.deconv3 = deconv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.deconv1, self.deconv2, self.deconv3):
            x = QReLU.apply(layer(x), 8, 100)
        return x


class Hyperprior(CompressionModel):
    """Codes one latent ``y`` with scales and means from side information ``z``.

    Args:
        channels: channels of ``y`` and ``z``.

    Shape: ``y`` ``(N, channels, H, W)`` with sides that are multiples of 8.
    """

    def __init__(self, channels: int = 192) -> None:
        super().__init__()
        self.entropy_bottleneck = EntropyBottleneck(channels)
        self.hyper_encoder = _hyper_network(conv, channels)
        self.hyper_decoder_mean = _hyper_network(deconv, channels)
        self.hyper_decoder_scale = _HyperDecoderScale(channels)
        self.gaussian_conditional = GaussianConditional(None)
        self._channels = channels

    def forward(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """``(y_hat, {"y", "z"})``: rounded values, in training too, and likelihoods."""
        z_hat, z_likelihoods = self.entropy_bottleneck(self.hyper_encoder(y))
        scales, means = self.hyper_decoder_scale(z_hat), self.hyper_decoder_mean(z_hat)
        _, y_likelihoods = self.gaussian_conditional(y, scales, means)
        return quantize_ste(y - means) + means, {"y": y_likelihoods, "z": z_likelihoods}

    @coding
    def compress(
        self, y: Tensor, *, sync_safe: bool = False, tolerance: float = DEFAULT_TOLERANCE
    ) -> tuple[Tensor, dict[str, Any]]:
        """Code a latent.

        Args:
            y: ``(N, C, H, W)``.
            sync_safe, tolerance: as :meth:`ScaleSpaceFlow.encode_keyframe`.

        Returns:
            ``(y_hat, {"strings": [y, z], "shape": size of z, "y_hat"})``. The first ``y_hat`` is
            for the synthesis; the second one is the decoder's to the bit if ``sync_safe``.
        """
        z = self.hyper_encoder(y)
        z_strings, z_hat = self.entropy_bottleneck.compress_and_quantize(z)
        scales, means = self.hyper_decoder_scale(z_hat), self.hyper_decoder_mean(z_hat)
        with coding_session(self._encoder(tolerance) if sync_safe else None):
            y_strings, y_hat = self.gaussian_conditional.code(y, scales, means)
        # In synchrony, y_hat was rounded for networks that steer decoding, which there are none of.
        fine = torch.round(y - means) + means if sync_safe else y_hat
        coded = {"strings": [y_strings, z_strings], "shape": z.size()[-2:], "y_hat": y_hat}
        return fine, coded

    def _encoder(self, tolerance: float) -> SyncEncoder:
        gains = torch.full((self._channels,), _GAIN)
        return SyncEncoder([Gain(gains, gains)], tolerance)

    @coding
    def decompress(
        self,
        strings: Strings,
        shape: Sequence[int],
        *,
        sync_safe: bool = False,
        with_latent: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """``y_hat`` for the synthesis; ``with_latent``, also the one that ``compress`` gives.

        Raises:
            AssertionError: ``strings`` is not a list of two lists.
            ValueError: a string is damaged.
        """
        check_strings(strings, 2)
        z_hat = self.entropy_bottleneck.decompress(strings[1], shape)
        scales, means = self.hyper_decoder_scale(z_hat), self.hyper_decoder_mean(z_hat)
        out = self.gaussian_conditional.decode(strings[0], scales, means)
        fine = out.get("y_fine", out["y_hat"])
        return (fine, out["y_hat"]) if with_latent else fine
