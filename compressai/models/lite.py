# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The library's own small model, which it ships trained: plain convolutions, four slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.layers import ResidualBottleneckBlock, conv1x1, conv3x3
from compressai.models._helpers.sizes import hidden_widths, numbers_after
from compressai.models._state_dict import entry_size
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_slice_hyperprior,
    proportional_slices,
)
from compressai.models.utils import conv, deconv
from compressai.registry import ModelEntry, at_qualities, register_entry, register_model

__all__ = ["Lite"]

# Pixels per side that become channels before the first convolution: what a convolution costs
# falls with its square, and at full size they find little that is worth it.
_STEM = 4


def _blocks(channels: int, depth: int) -> list[nn.Module]:
    return [ResidualBottleneckBlock(channels, channels) for _ in range(depth)]


def check_stages(widths: Sequence[int], depths: Sequence[int]) -> None:
    """Refuse transforms of other than two stages.

    Raises:
        ValueError: ``widths`` or ``depths`` are not two.
    """
    if len(widths) != 2 or len(depths) != 2:
        raise ValueError(
            "widths and depths must have two entries each, got "
            f"widths={tuple(widths)}, depths={tuple(depths)}"
        )


def lite_analysis(
    widths: Sequence[int],
    depths: Sequence[int],
    M: int,
    halve: Callable[[int, int], nn.Module] | None = None,
) -> nn.Sequential:
    """The analysis transform, from an image to ``M`` channels at a sixteenth of the size.

    Args:
        widths, depths, M: as of :class:`Lite`.
        halve: makes a layer that halves the sides, from its numbers of channels; default: a
            convolution 3x3.
    """
    fine, coarse = widths
    halve = halve or partial(conv3x3, stride=2)
    return nn.Sequential(
        nn.PixelUnshuffle(_STEM),
        conv3x3(3 * _STEM**2, fine),
        *_blocks(fine, depths[0]),
        halve(fine, coarse),
        *_blocks(coarse, depths[1]),
        halve(coarse, M),
    )


def _enlarge(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Sub-pixel convolution 1x1: the blocks behind it see the neighbours."""
    return [conv1x1(in_channels, 4 * out_channels), nn.PixelShuffle(2)]


def lite_synthesis(widths: Sequence[int], depths: Sequence[int], M: int) -> nn.Sequential:
    """The synthesis transform, the other way."""
    fine, coarse = widths
    return nn.Sequential(
        *_enlarge(M, coarse),
        *_blocks(coarse, depths[1]),
        *_enlarge(coarse, fine),
        *_blocks(fine, depths[0]),
        conv3x3(fine, 3 * _STEM**2),
        nn.PixelShuffle(_STEM),
    )


def lite_hyper_analysis(
    M: int, N: int, first: Callable[[int, int], nn.Module] = conv3x3
) -> nn.Sequential:
    """The hyper analysis, to ``N`` channels at a quarter of the latent's size.

    Args:
        M, N: as of :class:`Lite`.
        first: makes its first layer, from its numbers of channels.
    """
    return nn.Sequential(
        first(M, N),
        nn.LeakyReLU(),
        conv(N, N, kernel_size=3),
        nn.LeakyReLU(),
        conv(N, N, kernel_size=3),
    )


def lite_hyper_synthesis(N: int) -> nn.Sequential:
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
    """Small channel-slice model, made for processors without accelerator.

    The transforms work at a quarter of the size and below, on bottleneck blocks; a dual hyper
    synthesis and uneven slices with latent residual prediction model the latent.

    Args:
        N: width of ``z`` and of each half of the side information.
        M: width of the latent.
        widths: widths of the transforms at a quarter and at an eighth of the size.
        depths: residual blocks there.
        slice_proportions: widths of the slices in relation to each other.
        context_widths: hidden widths of the predictors of a slice.
        kwargs: handed to :class:`ChannelSliceModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: ``widths`` or ``depths`` are not two, or a slice would be empty.

    Source: slices and residual prediction, Minnen and Singh 2020, "Channel-wise autoregressive
    entropy models for learned image compression"; uneven slices and blocks, He et al. 2022,
    "ELIC".
    """

    def __init__(
        self,
        N: int = 48,
        M: int = 128,
        widths: Sequence[int] = (64, 128),
        depths: Sequence[int] = (2, 3),
        slice_proportions: Sequence[float] = (2, 3, 4, 7),
        context_widths: Sequence[int] = (32,),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_stages(widths, depths)
        self.N, self.M = N, M
        self.g_a = lite_analysis(widths, depths, M)
        self.g_s = lite_synthesis(widths, depths, M)
        self.latent_codec = build_slice_hyperprior(
            z_channels=N,
            h_a=lite_hyper_analysis(M, N),
            h_mean_s=lite_hyper_synthesis(N),
            h_scale_s=lite_hyper_synthesis(N),
            groups=proportional_slices(M, slice_proportions),
            side_channels=N,
            widths=tuple(context_widths),
            emit_mean_support=True,
        )
        self.add_auxiliary()

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments of the model that native weights are of."""
        return {
            **lite_sizes(state_dict, cls, "latent_codec.h_a"),
            **cls.infer_auxiliary(state_dict),
        }


def lite_sizes(state_dict: Mapping[str, Tensor], cls: type, hyper: str) -> dict[str, Any]:
    """Sizes that the small models have in common, read off weights.

    Args:
        state_dict: native weights.
        cls: the model, for messages.
        hyper: name of the hyper analysis.

    Raises:
        ValueError: the weights are of another model.
    """
    context = "latent_codec.y.channel_context.y"
    hidden = hidden_widths(state_dict, f"{context}0.mean_cc")
    last = f".mean_cc.{2 * len(hidden)}.weight"
    convolutions = sorted(
        place for place in numbers_after(state_dict, "g_a.") if f"g_a.{place}.weight" in state_dict
    )
    if len(convolutions) != 3:
        raise ValueError(f"this state dict is not of {cls.__name__}")
    first, second, third = convolutions
    return {
        "N": entry_size(state_dict, f"{hyper}.4.weight", 0, cls),
        "M": entry_size(state_dict, f"g_a.{third}.weight", 0, cls),
        "widths": [state_dict[f"g_a.{place}.weight"].size(0) for place in (first, second)],
        "depths": [second - first - 1, third - second - 1],
        "slice_proportions": [
            entry_size(state_dict, f"{context}{k}{last}", 0, cls)
            for k in numbers_after(state_dict, context)
        ],
        "context_widths": hidden,
    }


# -- rows --------------------------------------------------------------------------------------

LITE_LAMBDAS = (0.0035, 0.009, 0.0225, 0.056)

register_entry(
    ModelEntry(
        name="lite",
        model=Lite,
        summary="This library's own small model of slices, whose weights come with it",
        paper="Minnen and Singh 2020, Channel-wise autoregressive entropy models for learned image "
        "compression",
        sizes=at_qualities((len(LITE_LAMBDAS), {})),
        needs_quality=True,
        losses={
            "mse": {q: {"lmbda": value} for q, value in enumerate(LITE_LAMBDAS, start=1)},
        },
        shipped=True,
        advice="train others with examples/train_lite.py",
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
