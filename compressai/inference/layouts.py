# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Feature maps from one layout to the other.

torch copies them value by value, which takes several times as long as its transposition of
matrices. So maps in float32 on the CPU are turned as matrices of positions and channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["in_channels_last", "in_default_layout"]

# A matrix of fewer columns is not turned faster.
_FEWEST_CHANNELS = 16


def in_channels_last(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` in channels-last layout; itself if it is so."""
    if not (_worth_it(x) and x.is_contiguous()) or _is_channels_last(x):
        return x.contiguous(memory_format=torch.channels_last)
    return _turned(x, torch.channels_last)


def in_default_layout(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` in the default layout; itself if it is so."""
    if not (_worth_it(x) and _is_channels_last(x)) or x.is_contiguous():
        return x.contiguous()
    return _turned(x, torch.contiguous_format)


def _worth_it(x: Tensor) -> bool:
    return (
        x.dim() == 4
        and x.size(1) >= _FEWEST_CHANNELS
        and x.dtype == torch.float32
        and x.device.type == "cpu"
    )


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


def _turned(x: Tensor, layout: torch.memory_format) -> Tensor:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=layout)
    for to, image in zip(out, x):
        # Of the two, torch takes the target for the contiguous one.
        columns = layout is torch.channels_last
        a, b = (m.permute(1, 2, 0).flatten(0, 1) if columns else m.flatten(1) for m in (to, image))
        a.copy_(b)
    return out
