# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Geometry of window attention: cutting maps into windows, padding, masks, relative positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "build_window_attention_mask",
    "pad_to_window_multiple",
    "relative_position_index",
    "window_pair",
    "window_partition",
    "window_reverse",
]

_MASKED = -100.0
"""Added to the logits of forbidden pairs: exp(-100) is 0 beside any allowed logit in float32."""


def window_pair(window_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return the window size as (height, width).

    Raises:
        ValueError: a side below 1, or not two sides.
    """
    pair = (window_size, window_size) if isinstance(window_size, int) else tuple(window_size)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(
            f"window_size must be one or two positive integers, got window_size={window_size}"
        )
    return pair


def window_partition(x: Tensor, window_size: int | tuple[int, int]) -> Tensor:
    """Cut a map into windows.

    Args:
        x: ``(B, H, W, C)``, H and W multiples of the window.
        window_size: side of a window, or (height, width).

    Returns:
        ``(B * H/h * W/w, h, w, C)``; windows count along the batch, then rows, then columns.

    Raises:
        ValueError: H or W is no multiple of the window.
    """
    h, w = window_pair(window_size)
    batch, height, width, channels = x.shape
    if height % h or width % w:
        raise ValueError(
            f"H and W must be multiples of window_size={window_size}, got H={height}, W={width}"
        )
    x = x.reshape(batch, height // h, h, width // w, w, channels)
    return x.transpose(2, 3).reshape(-1, h, w, channels)


def window_reverse(windows: Tensor, window_size: int | tuple[int, int], H: int, W: int) -> Tensor:
    """Put windows together again: the inverse of :func:`window_partition`.

    Args:
        windows: ``(B * H/h * W/w, h, w, C)``.
        window_size: side of a window, or (height, width).
        H: height of the map.
        W: width of the map.

    Returns:
        ``(B, H, W, C)``.

    Raises:
        ValueError: H or W is no multiple of the window.
    """
    h, w = window_pair(window_size)
    if H % h or W % w:
        raise ValueError(
            f"H and W must be multiples of window_size={window_size}, got H={H}, W={W}"
        )
    grid = windows.reshape(-1, H // h, W // w, h, w, windows.shape[-1])
    return grid.transpose(2, 3).reshape(-1, H, W, windows.shape[-1])


def pad_to_window_multiple(
    x: Tensor, window_size: int | tuple[int, int], *, layout: str = "BCHW"
) -> tuple[Tensor, int, int]:
    """Pad with zeros on the right and at the bottom up to the next multiple of the window.

    Args:
        x: ``(B, C, H, W)`` or ``(B, H, W, C)``.
        window_size: side of a window, or (height, width).
        layout: ``"BCHW"`` or ``"BHWC"``.

    Returns:
        ``(padded, pad_h, pad_w)``: the map (``x`` itself if nothing is missing) and how many rows
        and columns were added.

    Raises:
        ValueError: unknown ``layout``.
    """
    if layout not in ("BCHW", "BHWC"):
        raise ValueError(f"layout must be 'BCHW' or 'BHWC', got layout={layout!r}")
    h, w = window_pair(window_size)
    height, width = x.shape[-2:] if layout == "BCHW" else x.shape[1:3]
    pad_h, pad_w = -height % h, -width % w
    if pad_h or pad_w:
        sides = (0, pad_w, 0, pad_h)
        x = F.pad(x, sides if layout == "BCHW" else (0, 0, *sides))
    return x, pad_h, pad_w


def build_window_attention_mask(
    height: int,
    width: int,
    window_size: int | tuple[int, int],
    shift_size: int,
    device: torch.device | str | None = None,
) -> Tensor | None:
    """Return which pairs of positions may see each other after a cyclic shift of the map.

    A window of the shifted map may hold pieces that are far apart in the image. Sizes that are
    no multiple of the window are rounded up, as :func:`pad_to_window_multiple` pads the map.

    Args:
        height: height of the map.
        width: width of the map.
        window_size: side of a window, or (height, width).
        shift_size: by how much the map was rolled up and to the left.
        device: where to put the mask.

    Returns:
        ``(windows, L, L)`` float32 with L positions per window: 0 where a query (second axis) may
        see a key (last axis), else -100, to be added to the logits. None if nothing was shifted.

    Raises:
        ValueError: ``shift_size`` negative or not smaller than the window.

    Source: Liu et al. 2021, "Swin transformer", sec. 3.2.
    """
    h, w = window_pair(window_size)
    if not 0 <= shift_size < min(h, w):
        raise ValueError(
            f"shift_size must be in [0, window_size), got shift_size={shift_size},"
            f" window_size={window_size}"
        )
    if shift_size == 0:
        return None

    def wrapped(size: int, window: int) -> Tensor:
        """Tell which positions of one axis came around the edge of the padded map."""
        padded = size + -size % window
        return torch.arange(padded, device=device) >= padded - shift_size

    labels = 2 * wrapped(height, h).long()[:, None] + wrapped(width, w).long()[None, :]
    windows = window_partition(labels[None, :, :, None], (h, w)).flatten(1)
    same = windows[:, :, None] == windows[:, None, :]
    return torch.zeros(same.shape, device=device).masked_fill_(~same, _MASKED)


def relative_position_index(window_size: int | tuple[int, int]) -> Tensor:
    """Return, for every pair of positions of a window, its row in the table of relative positions.

    Args:
        window_size: side of a window, or (height, width) = (h, w).

    Returns:
        ``(L, L)`` int64, L = h * w: for query (r, c) and key (r', c') the entry is
        ``(r - r' + h - 1) * (2 w - 1) + (c - c' + w - 1)``.
    """
    h, w = window_pair(window_size)
    rows = torch.arange(h).repeat_interleave(w)
    columns = torch.arange(w).repeat(h)
    down = rows[:, None] - rows[None, :] + h - 1
    right = columns[:, None] - columns[None, :] + w - 1
    return down * (2 * w - 1) + right
