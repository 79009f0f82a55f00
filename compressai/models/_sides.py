# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How sizes of images, latents and side information go together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn as nn
from torch import Tensor

__all__ = ["Strings", "check_latent_size", "check_strings", "hyper_factor", "resampling_factor"]

# How much smaller side information is where no module tells.
_HYPER_FACTOR = 4

Strings = Sequence[Sequence[bytes]]


def check_latent_size(x: Tensor, y: Tensor, multiple: int, factor: int = 16) -> None:
    """Refuse images whose latent the hyper transforms cannot halve and double again.

    Args:
        x: image ``(N, 3, H, W)``.
        y: its latent.
        multiple: what the sides of ``y`` must be multiples of.
        factor: pixels of ``x`` per position of ``y``, along a side.

    Raises:
        ValueError: they are not.
    """
    if y.size(-2) % multiple or y.size(-1) % multiple:
        raise ValueError(
            f"height and width must be multiples of {multiple * factor}, got "
            f"{x.size(-2)} x {x.size(-1)}: pad with torch.nn.functional.pad and "
            f"compressai.ops.compute_padding(..., min_div={multiple * factor})"
        )


def check_strings(strings: Strings, count: int) -> None:
    """Refuse to decode anything but a list with ``count`` lists of strings.

    Raises:
        AssertionError: which is what code written for CompressAI catches.
    """
    if not isinstance(strings, list) or len(strings) != count:
        raise AssertionError(f"strings must be a list of {count} lists of bytes")


def resampling_factor(module: nn.Module) -> int:
    """How many times smaller a network makes the sides of what it sees.

    Args:
        module: an analysis. Layers in a :class:`torch.nn.Sequential` run one after the other; other
            modules hold layers that run side by side, or branches, of which the one that makes
            most of it counts.

    Returns:
        The product of strides.
    """
    if isinstance(module, nn.PixelUnshuffle):
        return module.downscale_factor
    if isinstance(module, (nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)):
        stride = module.stride
        return int(stride if isinstance(stride, int) else stride[0])
    factors = [resampling_factor(child) for child in module.children()]
    return math.prod(factors) if isinstance(module, nn.Sequential) else max(factors, default=1)


def hyper_factor(codec: nn.Module | None) -> int:
    """That of the hyper analysis, which a codec has itself or in one of its parts."""
    parts = [] if codec is None else [codec, *codec.children()]
    for part in parts:
        analysis = part._modules.get("h_a")
        if analysis is not None:
            return resampling_factor(analysis)
    return _HYPER_FACTOR
