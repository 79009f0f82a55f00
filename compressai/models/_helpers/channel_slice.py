# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Codecs of latents in slices, from a factory of leaves and a factory of contexts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn as nn

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    DualHyperSynthesis,
    EntropyBottleneckLatentCodec,
    HyperpriorLatentCodec,
    LRPGaussianLatentCodec,
)
from compressai.latent_codecs._slice_helpers import make_entropy_transform
from compressai.latent_codecs.channel_groups import SupportFilter
from compressai.models._helpers.channel_context import (
    SupportTransformFactory,
    build_mean_scale_head,
)

__all__ = [
    "build_channel_slice_codec",
    "build_lrp_slice_codec",
    "build_slice_hyperprior",
    "equal_slices",
    "proportional_slices",
]


def equal_slices(channels: int, count: int) -> list[int]:
    """Widths of equal slices.

    Args:
        channels: width of the latent, ``M``.
        count: number of slices.

    Raises:
        ValueError: ``channels`` is not divisible by ``count``.
    """
    if count < 1 or channels < 1 or channels % count:
        raise ValueError(f"M must be divisible by num_slices, got M={channels}, num_slices={count}")
    return [channels // count] * count


def proportional_slices(channels: int, proportions: Sequence[float]) -> list[int]:
    """Widths of slices in the given proportions, rounded down; the last one gets the rest.

    Args:
        channels: width of the latent.
        proportions: one number a slice.

    Raises:
        ValueError: no proportions, a sum that is not positive, or a slice without channels.
    """
    total = sum(proportions)
    if len(proportions) == 0 or total <= 0:
        raise ValueError(f"slice_proportions must have a positive sum, got {tuple(proportions)}")
    sizes = [int(channels * share / total) for share in proportions]
    sizes[-1] += channels - sum(sizes)
    if min(sizes) <= 0:
        raise ValueError(
            f"slice_proportions {tuple(proportions)} make slices of {sizes} out of "
            f"{channels} channels; every slice needs at least one"
        )
    return sizes


def build_channel_slice_codec(
    *,
    groups: Sequence[int],
    leaf_factory: Callable[[int, int], nn.Module],
    channel_context_factory: Callable[[int, int, int], nn.Module] | None = None,
    max_support_slices: int = -1,
    support_filter: SupportFilter | None = None,
    support_count_fn: Callable[[int], int] | None = None,
    side_in_context: bool = False,
    side_channels: int = 0,
) -> ChannelGroupsLatentCodec:
    """Make a codec of slices in one call.

    Args:
        groups: width of each slice, even or not.
        leaf_factory: ``(k, groups[k]) -> codec`` of slice ``k``.
        channel_context_factory: ``(k, groups[k], channels it sees) -> context`` of slice ``k``,
            called for ``k >= 1``, and for 0 too with ``side_in_context``; ``None`` makes
            identities.
        max_support_slices: as in :class:`~compressai.latent_codecs.ChannelGroupsLatentCodec`.
        support_filter: as there.
        support_count_fn: ``k -> number of leading slices that support_filter gives``; sizes the
            contexts.
        side_in_context: as there.
        side_channels: channels of the side information, which ``side_in_context`` adds to what a
            context sees.

    Returns:
        The codec.

    Raises:
        ValueError: ``side_in_context`` without ``side_channels``.
    """
    if side_in_context and side_channels <= 0:
        raise ValueError(
            f"side_in_context needs positive side_channels, got side_channels={side_channels}"
        )
    groups = list(groups)
    contexts: dict[str, nn.Module] = {}
    for k in range(0 if side_in_context else 1, len(groups)):
        channels = _support_channels(groups, k, max_support_slices, support_count_fn)
        channels += side_channels if side_in_context else 0
        contexts[f"y{k}"] = (
            nn.Identity()
            if channel_context_factory is None
            else channel_context_factory(k, groups[k], channels)
        )
    return ChannelGroupsLatentCodec(
        latent_codec={f"y{k}": leaf_factory(k, group) for k, group in enumerate(groups)},
        channel_context=contexts,
        groups=groups,
        max_support_slices=max_support_slices,
        support_filter=support_filter,
        support_count_fn=support_count_fn,
        side_in_context=side_in_context,
    )


def build_lrp_slice_codec(
    *,
    groups: Sequence[int],
    side_channels: int,
    widths: Sequence[int],
    emit_mean_support: bool | str = False,
    support_transform_factory: SupportTransformFactory | None = None,
    head_factory: Callable[[int, int], nn.Module] | None = None,
    extra_channels: int = 0,
    max_support_slices: int = -1,
    support_filter: SupportFilter | None = None,
    support_count_fn: Callable[[int], int] | None = None,
    pointwise: bool = False,
    dead_zones: Sequence[float] = (),
) -> ChannelGroupsLatentCodec:
    """Make the codec that STF, WACNN, TCM, CCA and the dictionary models share.

    Slice ``k`` has a :class:`MeanScaleContextHead` that sees the side information and its support,
    and a :class:`~compressai.latent_codecs.LRPGaussianLatentCodec` that corrects the quantised
    values from the mean's support.

    Args:
        groups: width of each slice.
        side_channels: width of the means' half of the side information, and of the scales' half.
        widths: hidden widths of all predictors.
        emit_mean_support: which support the correction sees: ``"pre"`` (or ``True``) that before
            the support transform, ``"post"`` that behind it.
        support_transform_factory: as in :func:`build_mean_scale_head`.
        head_factory: ``(width of the slice, channels it sees) -> head``, in place of
            :func:`build_mean_scale_head`; then ``support_transform_factory`` and
            ``emit_mean_support`` have no effect.
        extra_channels: channels that these heads emit besides the means' half of the side
            information and the earlier slices.
        max_support_slices: as in :func:`build_channel_slice_codec`.
        support_filter: as there.
        support_count_fn: as there.
        pointwise: of all convolutions of predictors and corrections, only the first of a predictor
            sees neighbours.
        dead_zones: one a slice, or none at all, see
            :class:`~compressai.latent_codecs.GaussianConditionalLatentCodec`.

    Returns:
        The codec; its side information is ``[means | scales]``.

    Source: Minnen and Singh 2020, "Channel-wise autoregressive entropy models for learned image
    compression".
    """
    kernel_size = 1 if pointwise else 3

    def leaf(k: int, channels: int) -> LRPGaussianLatentCodec:
        support = side_channels + _support_channels(groups, k, max_support_slices, support_count_fn)
        support += extra_channels
        return LRPGaussianLatentCodec(
            make_entropy_transform(
                support + channels,
                channels,
                widths=widths,
                first_kernel_size=kernel_size,
                kernel_size=kernel_size,
            ),
            mean_support_trail_channels=support,
            quantizer="ste",
            dead_zone=dead_zones[k] if dead_zones else 0.0,
        )

    def context(k: int, channels: int, support: int) -> nn.Module:
        if head_factory is not None:
            return head_factory(channels, support)
        return build_mean_scale_head(
            channels,
            support,
            widths=widths,
            support_transform_factory=support_transform_factory,
            side_split=side_channels,
            emit_mean_support=emit_mean_support,
            kernel_size=kernel_size,
        )

    return build_channel_slice_codec(
        groups=groups,
        leaf_factory=leaf,
        channel_context_factory=context,
        max_support_slices=max_support_slices,
        support_filter=support_filter,
        support_count_fn=support_count_fn,
        side_in_context=True,
        side_channels=2 * side_channels,
    )


def build_slice_hyperprior(
    *,
    z_channels: int,
    h_a: nn.Module,
    h_mean_s: nn.Module,
    h_scale_s: nn.Module,
    **slices: Any,
) -> HyperpriorLatentCodec:
    """Make the whole entropy stack of a channel-slice model: hyperprior and slices.

    Args:
        z_channels: width of ``z``, the output of ``h_a``.
        h_a: hyper analysis, from ``y`` to ``z``.
        h_mean_s: hyper synthesis of the means' half of the side information.
        h_scale_s: hyper synthesis of the scales' half.
        slices: arguments of :func:`build_lrp_slice_codec`.

    Returns:
        The codec; ``z`` is rounded with the gradient of the identity.
    """
    return HyperpriorLatentCodec(
        {
            "y": build_lrp_slice_codec(**slices),
            "z": EntropyBottleneckLatentCodec(EntropyBottleneck(z_channels), quantizer="ste"),
        },
        h_a=h_a,
        h_s=DualHyperSynthesis(h_mean_s, h_scale_s),
    )


def _support_channels(
    groups: Sequence[int],
    k: int,
    max_support_slices: int,
    support_count_fn: Callable[[int], int] | None,
) -> int:
    """Channels of the earlier slices that slice ``k`` sees, the leading ones."""
    if support_count_fn is not None:
        return sum(groups[: support_count_fn(k)])
    return sum(groups[: k if max_support_slices < 0 else min(k, max_support_slices)])
