# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Attention in windows for graphs that take images of any size.

Models attend in windows of one kind after the other, and leave kinds out that a map has none of:
a graph has no such choice. Here all windows are attended in at once, each with the mask of its
kind, and sizes are never divided by numbers that may be zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai.layers.attn.attention import ShiftedWindows

__all__ = ["attend_in_any_number"]


def attend_in_any_number(net: nn.Module) -> None:
    """Let the windows of a network be as many as there are, also none of a kind, in a graph.

    Args:
        net: is changed; it computes what it did before.
    """
    for module in net.modules():
        if isinstance(module, ShiftedWindows):
            # Found before the method of that name.
            vars(module)["attend"] = partial(_attend, module)


def _attend(
    windows: ShiftedWindows, attention: Callable[[Tensor, Tensor | None], Tensor], x: Tensor
) -> Tensor:
    """As :meth:`ShiftedWindows.attend`."""
    h, w = windows.window_size
    batch, height, width, channels = x.shape
    rows, columns = (height + h - 1) // h, (width + w - 1) // w
    x = F.pad(x, (0, 0, 0, columns * w - width, 0, rows * h - height))
    shift, masks = windows.shift_size, windows.shift_masks
    mask = None
    if masks is not None:
        x = torch.roll(x, (-shift, -shift), (1, 2))
        last_row, last_column = _last(x[0, h::h, 0, 0]), _last(x[0, 0, w::w, 0])
        # Inner, right, bottom, corner.
        mask = masks[(2 * last_row[:, None] + last_column).reshape(-1)]
    grid = x.reshape(batch, rows, h, columns, w, channels).transpose(2, 3)
    attended = attention(grid.reshape(batch * rows * columns, h * w, channels), mask)
    grid = attended.reshape(batch, rows, columns, h, w, channels).transpose(2, 3)
    x = grid.reshape(batch, rows * h, columns * w, channels)
    if masks is not None:
        x = torch.roll(x, (shift, shift), (1, 2))
    return x[:, :height, :width]


def _last(others: Tensor) -> Tensor:
    """1 behind as many zeros as there are others: a number of zeros would become a constant."""
    return torch.cat((torch.zeros_like(others), others.new_ones(1))).long()
