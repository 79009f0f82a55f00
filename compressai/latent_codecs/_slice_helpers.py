# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Arithmetic of slices: widths of supports, the networks sized by them, and both read off weights.

Everything here is for slices of equal width; models with uneven slices sum their own. This module
imports nothing of :mod:`compressai.models`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import torch.nn as nn
from torch import Tensor

__all__ = [
    "infer_max_support_slices",
    "infer_num_slices",
    "lrp_support_channels",
    "make_entropy_transform",
    "slice_support_channels",
]

CONTEXT_PREFIX = "latent_codec.y.channel_context.y"
FIRST_WEIGHT = ".mean_cc.0.weight"


def slice_support_channels(
    latent_channels: int, slice_channels: int, index: int, max_support_slices: int
) -> int:
    """Width of what a slice is predicted from: the hyperprior's half and earlier slices.

    Args:
        latent_channels: width of the hyperprior's means (or scales).
        slice_channels: width of a slice.
        index: number of the slice, from 0.
        max_support_slices: how many earlier slices are seen at most; negative for all.

    Returns:
        Channels.
    """
    count = index if max_support_slices < 0 else min(index, max_support_slices)
    return latent_channels + slice_channels * count


def lrp_support_channels(
    latent_channels: int, slice_channels: int, index: int, max_support_slices: int
) -> int:
    """Width of what residual prediction sees: the support and the slice itself.

    Args and result as :func:`slice_support_channels`.
    """
    support = slice_support_channels(latent_channels, slice_channels, index, max_support_slices)
    return support + slice_channels


def make_entropy_transform(
    in_channels: int,
    out_channels: int,
    *,
    widths: Sequence[int] = (224, 128),
    first_kernel_size: int = 3,
    kernel_size: int = 3,
) -> nn.Sequential:
    """Convolutions with GELU between, the predictors of slice models.

    Args:
        in_channels: width of the input.
        out_channels: width of the output.
        widths: widths between.
        first_kernel_size: odd, of the first convolution.
        kernel_size: odd, of those behind it.

    Returns:
        Sequential of ``2 * len(widths) + 1`` modules, convolutions at even places; keeps the size.
    """
    layers: list[nn.Module] = []
    side = first_kernel_size
    for width_in, width_out in pairwise((in_channels, *widths, out_channels)):
        layers += [nn.Conv2d(width_in, width_out, kernel_size=side, padding=side // 2), nn.GELU()]
        side = kernel_size
    return nn.Sequential(*layers[:-1])


def infer_num_slices(
    state_dict: Mapping[str, Tensor], *, prefix: str = CONTEXT_PREFIX, suffix: str = FIRST_WEIGHT
) -> int:
    """Number of slices that a state dict is of.

    Args:
        state_dict: weights.
        prefix: what stands before the number of a slice.
        suffix: how the names that count end.

    Returns:
        The number; 0 if no name fits. Where slice 0 has no context (as in ELIC) it is counted all
        the same.
    """
    indexes = {index for index, _ in _matching(state_dict, prefix, suffix)}
    return len(indexes) + (1 if indexes and 0 not in indexes else 0)


def infer_max_support_slices(
    state_dict: Mapping[str, Tensor],
    latent_channels: int,
    num_slices: int,
    *,
    prefix: str = CONTEXT_PREFIX,
    suffix: str = FIRST_WEIGHT,
    extra_factor: int = 1,
) -> int:
    """Largest number of earlier slices that a slice of the state dict sees.

    A model whose limit never applied comes back as ``num_slices - 1``, which is the same model.

    Args:
        state_dict: weights.
        latent_channels: width of the latent.
        num_slices: number of its (equal) slices.
        prefix, suffix: as in :func:`infer_num_slices`.
        extra_factor: how many times ``latent_channels`` is in the input besides the slices.

    Returns:
        The number; 0 if no name fits.
    """
    widths = [weight.size(1) for _, weight in _matching(state_dict, prefix, suffix)]
    if not widths:
        return 0
    return max(0, (max(widths) - extra_factor * latent_channels) // (latent_channels // num_slices))


def _matching(
    state_dict: Mapping[str, Tensor], prefix: str, suffix: str
) -> Iterator[tuple[int, Tensor]]:
    for key, value in state_dict.items():
        if key.startswith(prefix) and key.endswith(suffix):
            index = key[len(prefix) :].partition(".")[0]
            if index.isdigit():
                yield int(index), value
