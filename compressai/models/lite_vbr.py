# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The second small model of the library: one set of weights for every rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE
from compressai.latent_codecs import (
    DualHyperSynthesis,
    GainHyperLatentCodec,
    GainHyperpriorLatentCodec,
)
from compressai.layers import conv1x1
from compressai.models._state_dict import entry_size
from compressai.models.base import Strings, coding
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_lrp_slice_codec,
    proportional_slices,
)
from compressai.models.lite import (
    check_stages,
    lite_analysis,
    lite_hyper_analysis,
    lite_hyper_synthesis,
    lite_sizes,
    lite_synthesis,
)
from compressai.registry import ModelEntry, register_entry, register_model

__all__ = ["LiteVbr", "RateGains", "lagrangian"]

_LOWEST_LMBDA, _HIGHEST_LMBDA = 0.0008, 0.64
_HIGHEST_QUALITY = 100


def lagrangian(quality: float) -> float:
    """The multiplier of the mean square error (of values up to 255) that a quality stands for.

    Args:
        quality: 0 to 100.

    Returns:
        0.0008 to 0.64, in geometric progression.
    """
    share = quality / _HIGHEST_QUALITY
    return _LOWEST_LMBDA * (_HIGHEST_LMBDA / _LOWEST_LMBDA) ** share


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))


class RateGains(nn.Module):
    """A gain for each channel and quality, which grows with quality by its structure.

    Gains are learned at some qualities and interpolated between them: their logarithm is linear.
    From one to the next, the logarithm of each channel grows by a softplus.

    Args:
        channels: number of gains at a quality.
        nodes: number of qualities at which they are learned, evenly spaced from 0 to 100.
        rise: natural logarithm of last gain over first gain to begin with.
        falls: gains that shrink with quality instead.

    Attributes:
        digits: binary digits of what :meth:`exact` gives.

    Raises:
        ValueError: fewer than two nodes.

    Source: interpolation, Cui et al. 2021, "Asymmetric gained deep image compression with
    continuous rate adaptation", eq. 7.
    """

    def __init__(self, channels: int, nodes: int, rise: float, *, falls: bool = False) -> None:
        super().__init__()
        if nodes < 2:
            raise ValueError(f"nodes must be at least 2, got {nodes}")
        self.sign = -1 if falls else 1
        self.digits = 16
        step = rise / (nodes - 1)
        self.middle = nn.Parameter(torch.zeros(channels))
        self.steps = nn.Parameter(torch.full((nodes - 1, channels), _inverse_softplus(step)))

    def forward(self, quality: Tensor) -> Tensor:
        """Gains.

        Args:
            quality: ``(N,)``, 0 to 100.

        Returns:
            ``(N, C, 1, 1)``, positive.
        """
        return self._gains(self.middle, self.steps, quality.to(self.steps))

    @torch.no_grad()
    def exact(self, quality: Tensor) -> Tensor:
        """The same without gradient, rounded so that all machines get the same bits.

        They are computed in double precision, where machines differ in the last bit, and rounded
        to ``digits`` bits, which takes that difference away but in one case out of some hundred
        million.

        Args and result as :meth:`forward`.
        """
        values = (self.middle, self.steps, quality)
        gains = self._gains(*(value.detach().cpu().double() for value in values))
        mantissa, exponent = torch.frexp(gains)
        unit = 2**self.digits
        return torch.ldexp((mantissa * unit).round() / unit, exponent).to(self.steps)

    def _gains(self, middle: Tensor, steps: Tensor, quality: Tensor) -> Tensor:
        steps = F.softplus(steps)
        count = steps.size(0)
        logs = torch.cat((torch.zeros_like(steps[:1]), steps.cumsum(0)))
        logs = logs - logs[count // 2]
        place = quality * (count / _HIGHEST_QUALITY)
        left = place.floor().clamp(0, count - 1)
        share = (place - left)[:, None]
        left = left.long()
        log = logs[left] + share * steps[left]
        return (middle + self.sign * log).exp()[:, :, None, None]


def _halve(in_channels: int, out_channels: int) -> nn.Conv2d:
    """2x2: neighbours are seen by the blocks before it."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=2, stride=2)


@register_model("lite-vbr")
class LiteVbr(ChannelSliceModel):
    """Small channel-slice model of variable rate, made for processors without accelerator.

    As :class:`Lite`, with transforms that are deeper at an eighth of the size, a wider latent, and
    gains: behind the analysis, each channel of the latent is multiplied by the gain that
    a quality has there, and before the synthesis by another one; so is the side information
    around its coder. The entropy path therefore works in units of the quantiser's step.

    The quality is any number from 0 to 100. :meth:`compress` and :meth:`decompress` need the same
    one: strings do not hold it, but ``.cai`` files do.

    Args:
        N: width of ``z`` and of each half of the side information.
        M: width of the latent.
        widths: widths of the transforms at a quarter and at an eighth of the size.
        depths: residual blocks there.
        slice_proportions: widths of the slices in relation to each other.
        context_widths: hidden widths of the predictors of a slice.
        nodes: qualities at which gains are learned, see :class:`RateGains`.
        kwargs: handed to :class:`ChannelSliceModel`.

    Attributes:
        quality_range: lowest and highest quality.
        default_quality: the one to use if none is given.
        lmbda: Lagrangian multipliers (mean square error) of the whole qualities.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: ``widths`` or ``depths`` are not two, a slice would be empty, ``nodes`` are
            fewer than two, or ``use_cca``.

    Source: as :class:`Lite`; gains, Cui et al. 2021, "Asymmetric gained deep image compression
    with continuous rate adaptation".
    """

    quality_range = (0.0, float(_HIGHEST_QUALITY))
    default_quality = 50.0
    lmbda = tuple(lagrangian(quality) for quality in range(_HIGHEST_QUALITY + 1))
    latent_codec: GainHyperpriorLatentCodec

    def __init__(
        self,
        N: int = 48,
        M: int = 288,
        widths: Sequence[int] = (48, 144),
        depths: Sequence[int] = (1, 4),
        slice_proportions: Sequence[float] = (4, 7, 10, 15),
        context_widths: Sequence[int] = (32,),
        nodes: int = 9,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_stages(widths, depths)
        if self.use_cca:
            raise ValueError("use_cca must be False: CCA knows no variable rate")
        self.N, self.M = N, M
        self.g_a = lite_analysis(widths, depths, M, _halve)
        self.g_s = lite_synthesis(widths, depths, M)
        self.latent_codec = GainHyperpriorLatentCodec(
            {
                "y": build_lrp_slice_codec(
                    groups=proportional_slices(M, slice_proportions),
                    side_channels=N,
                    widths=tuple(context_widths),
                    emit_mean_support=True,
                ),
                "hyper": GainHyperLatentCodec(
                    EntropyBottleneck(N),
                    h_a=lite_hyper_analysis(M, N, conv1x1),
                    h_s=DualHyperSynthesis(lite_hyper_synthesis(N), lite_hyper_synthesis(N)),
                    quantizer="ste",
                ),
            }
        )
        # Where distortion costs lmbda, the best step of a uniform quantiser goes with its root.
        rise = 0.5 * math.log(_HIGHEST_LMBDA / _LOWEST_LMBDA)
        self.y_gain = RateGains(M, nodes, rise)
        self.y_gain_inv = RateGains(M, nodes, rise, falls=True)
        # Side information grows more slowly with quality than what it describes.
        self.z_gain = RateGains(N, nodes, 0.3 * rise)
        self.z_gain_inv = RateGains(N, nodes, 0.7 * rise)

    # -- rates ----------------------------------------------------------------------------------

    def _quality(self, quality: float | Tensor | None) -> Tensor:
        """Checked qualities, ``(1,)`` or ``(N,)``."""
        if quality is None:
            quality = self.default_quality
        values = torch.as_tensor(quality, dtype=torch.float32).reshape(-1)
        if values.numel() == 0 or not bool(((values >= 0) & (values <= _HIGHEST_QUALITY)).all()):
            raise ValueError(f"quality must be in 0 ... {_HIGHEST_QUALITY}, got {quality}")
        return values.to(self.y_gain.middle.device)

    def encoder_gains(self, quality: Tensor) -> dict[str, Tensor]:
        """What ``latent_codec`` needs to code.

        Args:
            quality: ``(N,)``, 0 to 100.

        Returns:
            Gains by the names of its arguments; differentiable in training mode only.
        """
        return self._gains(quality, "y_gain", "z_gain", "y_gain_inv", "z_gain_inv")

    def decoder_gains(self, quality: Tensor) -> dict[str, Tensor]:
        """What ``latent_codec`` needs to decode; as :meth:`encoder_gains`."""
        return self._gains(quality, "y_gain_inv", "z_gain_inv")

    def _gains(self, quality: Tensor, *names: str) -> dict[str, Tensor]:
        modules = {name: getattr(self, name) for name in names}
        if self.training:
            return {name: module(quality) for name, module in modules.items()}
        return {name: module.exact(quality) for name, module in modules.items()}

    def lagrangian_multiplier(self, quality: float | None = None, **arguments: Any) -> float:
        """As :meth:`CompressionModel.lagrangian_multiplier`; ``quality`` as in :meth:`compress`."""
        return lagrangian(float(self._quality(quality)[0]))

    # -- training and coding --------------------------------------------------------------------

    def forward(self, x: Tensor, quality: float | Tensor | None = None) -> dict[str, Any]:
        """Reconstruction and likelihoods.

        Args:
            x: image ``(N, 3, H, W)`` in [0, 1].
            quality: 0 to 100, one for all or one a sample ``(N,)``; 50 by default.

        Returns:
            ``{"x_hat": (N, 3, H, W), not clamped, "likelihoods": {"y", "z"}}``.

        Raises:
            ValueError: height or width do not fit the transforms, or ``quality`` is outside.
        """
        y = self._latent(x)
        out = self.latent_codec(y, **self.encoder_gains(self._quality(quality)))
        return {"x_hat": self.g_s(out["y_hat"]), "likelihoods": out["likelihoods"]}

    @coding
    def compress(
        self,
        x: Tensor,
        quality: float | None = None,
        *,
        sync_safe: bool = False,
        tolerance: float = DEFAULT_TOLERANCE,
        verify: bool = False,
    ) -> dict[str, Any]:
        """As :meth:`TransformCodingModel.compress`; ``quality`` as :meth:`forward`, one for all."""
        qualities = self._quality(quality)
        code = partial(self.latent_codec.compress, **self.encoder_gains(qualities))
        return self._compress(x, code, sync_safe, tolerance, tuple(qualities.tolist()))

    @coding
    def decompress(
        self,
        strings: Strings,
        shape: Any,
        quality: float | None = None,
        *,
        sync_safe: bool = False,
        latent_hash: Sequence[bytes] | None = None,
    ) -> dict[str, Tensor]:
        """As :meth:`TransformCodingModel.decompress`; ``quality`` is what :meth:`compress` got."""
        gains = self.decoder_gains(self._quality(quality))
        return self._decompress(self.latent_codec.decompress(strings, shape, **gains))

    # -- loading --------------------------------------------------------------------------------

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments of the model that native weights are of."""
        steps = entry_size(state_dict, "y_gain.steps", 0, cls)
        return {**lite_sizes(state_dict, cls, "latent_codec.hyper.h_a"), "nodes": steps + 1}


# -- rows --------------------------------------------------------------------------------------

register_entry(
    ModelEntry(
        name="lite-vbr",
        model=LiteVbr,
        summary="The successor of lite, any rate from one set of weights; they are in training",
        paper="Cui et al. 2021, Asymmetric gained deep image compression with continuous rate "
        "adaptation",
        metrics=("mse",),
        # What the four qualities of lite weighed the distortion with, to the next whole number.
        points={1: 22, 2: 36, 3: 50, 4: 64},
        licence="BSD-3-Clause-Clear",
        small={
            "N": 8,
            "M": 16,
            "widths": (8, 16),
            "depths": (1, 1),
            "slice_proportions": (1, 1, 2),
            "context_widths": (8,),
        },
    )
)
