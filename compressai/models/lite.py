# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The library's own small model, which it ships trained: one set of weights for every rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
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
from compressai.layers import ResidualBottleneckBlock, conv1x1, conv3x3
from compressai.models._helpers.sizes import hidden_widths, numbers_after
from compressai.models._rate_gains import HIGHEST_QUALITY, RateGains
from compressai.models._state_dict import entry_size
from compressai.models.base import Strings, coding
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_lrp_slice_codec,
    proportional_slices,
)
from compressai.models.utils import conv, deconv
from compressai.registry import ModelEntry, register_entry, register_model

__all__ = ["Lite", "RateGains", "lagrangian"]

# Pixels per side that become channels before the first convolution: what a convolution costs
# falls with its square, and at full size they find little that is worth it.
_STEM = 4
_LOWEST_LMBDA, _HIGHEST_LMBDA = 0.0008, 1.6
# Blocks of the cosine transform that carries details, the least frequency of its chrominance in
# one direction, and its luminance and chrominances.
_BLOCK, _LOWEST_CHROMINANCE = 16, 4
_COLOURS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))


def lagrangian(quality: float) -> float:
    """The multiplier of the mean square error (of values up to 255) that a quality stands for.

    Args:
        quality: 0 to 100.

    Returns:
        0.0008 to 1.6, in geometric progression.
    """
    share = quality / HIGHEST_QUALITY
    return _LOWEST_LMBDA * (_HIGHEST_LMBDA / _LOWEST_LMBDA) ** share


def _blocks(channels: int, depth: int) -> list[nn.Module]:
    return [ResidualBottleneckBlock(channels, channels) for _ in range(depth)]


def _halve(in_channels: int, out_channels: int) -> nn.Conv2d:
    """2x2: neighbours are seen by the blocks before it."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=2, stride=2)


def _enlarge(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Sub-pixel convolution 1x1: the blocks behind it see the neighbours."""
    return [conv1x1(in_channels, 4 * out_channels), nn.PixelShuffle(2)]


class _BlockCosines(nn.Sequential):
    """A network beside which some coefficients of a cosine transform pass, whole and linear.

    What a narrow latent leaves out is lost at any rate. These are the coefficients of 16 x 16 that
    held most of it behind a trained network without them: luminance of high frequency in both
    directions, and chrominance above the lowest frequencies. They cost nothing while the quantiser
    makes zeros of them.

    Args:
        network: its modules.
        details: number of coefficients, a quarter of luminance, the rest of both chrominances.
    """

    basis: Tensor

    def __init__(self, network: Sequence[nn.Module], details: int) -> None:
        super().__init__(*network)
        self.details = details
        places = list(product(range(_BLOCK), repeat=2))
        luminance = sorted(places, key=lambda place: (-min(place), -sum(place), place))
        chrominance = sorted(
            (place for place in places if max(place) >= _LOWEST_CHROMINANCE),
            key=lambda place: (sum(place), place),
        )
        kept = [(0, *place) for place in luminance[: details // 4]]
        kept += [(c, *place) for c in (1, 2) for place in chrominance[: 3 * details // 8]]
        colour, row, column = torch.tensor(kept).unbind(1)
        frequency = torch.arange(_BLOCK, dtype=torch.float64)[:, None]
        cosines = torch.cos(math.pi / _BLOCK * frequency * (frequency.mT + 0.5))
        cosines = F.normalize(cosines, dim=1).float()
        colours = F.normalize(torch.tensor(_COLOURS), dim=1)
        plane = cosines[row][:, None, :, None] * cosines[column][:, None, None, :]
        # (details, 3, 16, 16), orthonormal. Not in state dicts: a formula has it.
        self.register_buffer("basis", colours[colour][:, :, None, None] * plane, persistent=False)


class _Analysis(_BlockCosines):
    """From an image to a latent at a sixteenth of its size, whose last channels are details.

    To the details the network adds what it knows of them, so that they are what it leaves out.
    """

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        rest = y.size(1) - self.details
        details = y[:, rest:] + F.conv2d(x, self.basis, stride=_BLOCK)
        return torch.cat((y[:, :rest], details), dim=1)


class _Synthesis(_BlockCosines):
    """The other way."""

    def forward(self, y: Tensor) -> Tensor:
        rest = y.size(1) - self.details
        details = F.conv2d(y[:, rest:], self.basis.flatten(1).mT[:, :, None, None])
        return super().forward(y[:, :rest]) + F.pixel_shuffle(details, _BLOCK)


def _analysis(widths: Sequence[int], depths: Sequence[int], M: int, details: int) -> _Analysis:
    """From an image to ``M`` channels at a sixteenth of the size."""
    fine, coarse = widths
    network = (
        nn.PixelUnshuffle(_STEM),
        conv3x3(3 * _STEM**2, fine),
        *_blocks(fine, depths[0]),
        _halve(fine, coarse),
        *_blocks(coarse, depths[1]),
        _halve(coarse, M),
    )
    return _Analysis(network, details)


def _synthesis(widths: Sequence[int], depths: Sequence[int], M: int, details: int) -> _Synthesis:
    """The other way."""
    fine, coarse = widths
    network = (
        *_enlarge(M - details, coarse),
        *_blocks(coarse, depths[1]),
        *_enlarge(coarse, fine),
        *_blocks(fine, depths[0]),
        conv3x3(fine, 3 * _STEM**2),
        nn.PixelShuffle(_STEM),
    )
    return _Synthesis(network, details)


def _hyper_analysis(M: int, N: int) -> nn.Sequential:
    """To ``N`` channels at a quarter of the latent's size."""
    return nn.Sequential(
        conv1x1(M, N),
        nn.LeakyReLU(),
        conv(N, N, kernel_size=3),
        nn.LeakyReLU(),
        conv(N, N, kernel_size=3),
    )


def _hyper_synthesis(N: int) -> nn.Sequential:
    """The hyper synthesis of means or scales, the other way."""
    return nn.Sequential(
        deconv(N, N, kernel_size=3),
        nn.LeakyReLU(),
        deconv(N, N, kernel_size=3),
        nn.LeakyReLU(),
        conv3x3(N, N),
    )


@register_model("lite")
class Lite(ChannelSliceModel):
    """Small channel-slice model of variable rate, made for processors without accelerator.

    The transforms work at a quarter of the size and below, on bottleneck blocks; a dual hyper
    synthesis and uneven slices with latent residual prediction model the latent. Its last slice
    carries coefficients of a fixed cosine transform, which high rates need. Behind the
    analysis, each channel of the latent is multiplied by the gain that a quality has there, and
    before the synthesis by another one; so is the side information around its coder. The entropy
    path therefore works in units of the quantiser's step.

    The quality is any number from 0 to 100. :meth:`compress` and :meth:`decompress` need the same
    one: strings do not hold it, but ``.cai`` files do.

    Args:
        N: width of ``z`` and of each half of the side information.
        M: width of the latent.
        widths: widths of the transforms at a quarter and at an eighth of the size.
        depths: residual blocks there.
        slice_proportions: widths of the slices but the last in relation to each other.
        details: width of the last slice, coefficients of the cosine transform; a multiple of 8, at
            most 640.
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

    Source: slices and residual prediction, Minnen and Singh 2020, "Channel-wise autoregressive
    entropy models for learned image compression"; uneven slices and blocks, He et al. 2022,
    "ELIC"; gains, Cui et al. 2021, "Asymmetric gained deep image compression with continuous rate
    adaptation".
    """

    quality_range = (0.0, float(HIGHEST_QUALITY))
    default_quality = 50.0
    lmbda = tuple(lagrangian(quality) for quality in range(HIGHEST_QUALITY + 1))
    latent_codec: GainHyperpriorLatentCodec

    def __init__(
        self,
        N: int = 48,
        M: int = 544,
        widths: Sequence[int] = (48, 144),
        depths: Sequence[int] = (1, 4),
        slice_proportions: Sequence[float] = (4, 7, 10, 15),
        details: int = 256,
        context_widths: Sequence[int] = (32,),
        nodes: int = 9,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(widths) != 2 or len(depths) != 2:
            raise ValueError(
                "widths and depths must have two entries each, got "
                f"widths={tuple(widths)}, depths={tuple(depths)}"
            )
        if self.use_cca:
            raise ValueError("use_cca must be False: CCA knows no variable rate")
        if details % 8 or not 0 < details <= 640 or details >= M:
            raise ValueError(
                f"details must be a multiple of 8 from 8 to 640 and below M={M}, got {details}"
            )
        self.N, self.M = N, M
        self.g_a = _analysis(widths, depths, M, details)
        self.g_s = _synthesis(widths, depths, M, details)
        self.latent_codec = GainHyperpriorLatentCodec(
            {
                "y": build_lrp_slice_codec(
                    groups=[*proportional_slices(M - details, slice_proportions), details],
                    side_channels=N,
                    widths=tuple(context_widths),
                    emit_mean_support=True,
                    pointwise=True,
                ),
                "hyper": GainHyperLatentCodec(
                    EntropyBottleneck(N),
                    h_a=_hyper_analysis(M, N),
                    h_s=DualHyperSynthesis(_hyper_synthesis(N), _hyper_synthesis(N)),
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
        if values.numel() == 0 or not bool(((values >= 0) & (values <= HIGHEST_QUALITY)).all()):
            raise ValueError(f"quality must be in 0 ... {HIGHEST_QUALITY}, got {quality}")
        return values.to(self.y_gain.middle.device)

    def rate_gains(self) -> dict[str, RateGains]:
        """As :meth:`CompressionModel.rate_gains`."""
        names = ("y_gain", "y_gain_inv", "z_gain", "z_gain_inv")
        return {name: getattr(self, name) for name in names}

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

    @torch.no_grad()
    def quantizer_steps(
        self, quality: float | None = None, **arguments: Any
    ) -> tuple[float | Tensor, float | Tensor]:
        """As :meth:`CompressionModel.quantizer_steps`; ``quality`` as in :meth:`compress`."""
        gains = self.encoder_gains(self._quality(quality))
        return 1 / gains["y_gain"], 1 / gains["z_gain"]

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
        """Constructor arguments of the model that native weights are of.

        Raises:
            ValueError: the weights are of another model.
        """
        context = "latent_codec.y.channel_context.y"
        hidden = hidden_widths(state_dict, f"{context}0.mean_cc")
        last = f".mean_cc.{2 * len(hidden)}.weight"
        convolutions = sorted(
            place
            for place in numbers_after(state_dict, "g_a.")
            if f"g_a.{place}.weight" in state_dict
        )
        if len(convolutions) != 3:
            raise ValueError(f"this state dict is not of {cls.__name__}")
        first, second, third = convolutions
        *slices, details = (
            entry_size(state_dict, f"{context}{k}{last}", 0, cls)
            for k in numbers_after(state_dict, context)
        )
        return {
            "N": entry_size(state_dict, "latent_codec.hyper.h_a.4.weight", 0, cls),
            "M": entry_size(state_dict, f"g_a.{third}.weight", 0, cls),
            "widths": [state_dict[f"g_a.{place}.weight"].size(0) for place in (first, second)],
            "depths": [second - first - 1, third - second - 1],
            "slice_proportions": slices,
            "details": details,
            "context_widths": hidden,
            "nodes": entry_size(state_dict, "y_gain.steps", 0, cls) + 1,
        }


# -- row ---------------------------------------------------------------------------------------

register_entry(
    ModelEntry(
        name="lite",
        model=Lite,
        summary="This library's own small model of any rate, whose weights come with it",
        paper="Cui et al. 2021, Asymmetric gained deep image compression with continuous rate "
        "adaptation",
        metrics=("mse",),
        # Multipliers of 0.0035, 0.009, 0.0225 and 0.056, to the next whole number.
        points={1: 19, 2: 32, 3: 44, 4: 56},
        shipped=True,
        advice="train others with examples/train_lite.py",
        licence="BSD-3-Clause-Clear",
        small={
            "N": 8,
            "M": 24,
            "details": 8,
            "widths": (8, 16),
            "depths": (1, 1),
            "slice_proportions": (1, 1, 2),
            "context_widths": (8,),
        },
    )
)
