# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Stacks of layers whose width changes gradually."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["sequential_channel_ramp"]


def sequential_channel_ramp(
    in_ch: int,
    out_ch: int,
    *,
    min_ch: int = 0,
    num_layers: int = 3,
    interp: str = "linear",
    make_layer: Callable[..., nn.Module],
    make_act: Callable[[], nn.Module],
    skip_last_act: bool = True,
    **layer_kwargs: Any,
) -> nn.Sequential:
    """Return layers and activations in turn, whose widths lead from ``in_ch`` to ``out_ch``.

    Args:
        in_ch: width of the input.
        out_ch: width of the output.
        min_ch: smallest width between the layers.
        num_layers: number of layers, at least 1.
        interp: ``"linear"`` or ``"log"`` spacing of the widths, rounded down.
        make_layer: called as ``make_layer(in_ch, out_ch, **layer_kwargs)`` for every layer.
        make_act: called without arguments for every activation.
        skip_last_act: leave out the activation behind the last layer.
        layer_kwargs: handed to ``make_layer``.

    Raises:
        ValueError: unknown ``interp``, or ``num_layers`` below 1.

    Example:
        >>> net = sequential_channel_ramp(
        ...     3, 12, make_layer=nn.Conv2d, make_act=nn.ReLU, kernel_size=1
        ... )
        >>> [layer.out_channels for layer in net[::2]]
        [6, 9, 12]
    """
    if num_layers < 1:
        raise ValueError(f"num_layers must be at least 1, got num_layers={num_layers}")
    if interp == "linear":
        widths = torch.linspace(in_ch, out_ch, num_layers + 1, device="cpu")
    elif interp == "log":
        widths = torch.logspace(math.log10(in_ch), math.log10(out_ch), num_layers + 1, device="cpu")
    else:
        raise ValueError(f"interp must be 'linear' or 'log', got interp={interp!r}")
    # The ends are what the caller asked for; a power of a logarithm misses them by a rounding error
    # (10 ** log10(192) is 191.99995 in float32), which floor would turn into a whole channel.
    inner = [max(int(width), min_ch) for width in widths.floor()[1:-1]]
    channels = [in_ch, *inner, out_ch]

    layers: list[nn.Module] = []
    for width_in, width_out in itertools.pairwise(channels):
        layers += [make_layer(width_in, width_out, **layer_kwargs), make_act()]
    return nn.Sequential(*(layers[:-1] if skip_last_act else layers))
