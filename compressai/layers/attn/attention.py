# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Window attention on windows, on whole maps, and on maps with shifted windows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from compressai.layers.attn._remembered import Remembered
from compressai.layers.attn.biased_attention import biased_attention
from compressai.layers.attn.windows import (
    build_window_attention_mask,
    pad_to_window_multiple,
    relative_position_index,
    window_pair,
    window_partition,
    window_reverse,
)

__all__ = ["WMSA", "ShiftedWindows", "WindowAttention"]


def masked_bias(
    memory: Remembered, bias: Callable[[], Tensor], table: Tensor, mask: Tensor | None
) -> Tensor:
    """The relative position bias and the mask in one, computed anew only when either changes.

    Args:
        memory: where results are kept.
        bias: gives the bias of every head and pair of positions, ``(heads, L, L)``.
        table: what it is computed from.
        mask: ``(windows, L, L)``, or None.

    Returns:
        ``(1 or windows, heads, L, L)``.
    """

    def add() -> Tensor:
        whole = bias()[None]
        return whole if mask is None else whole + mask[:, None]

    return memory.get(add, (table,) if mask is None else (table, mask))


def split_heads(x: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """Cut the output of a linear layer into queries, keys and so on, heads major inside each.

    Args:
        x: ``(B, L, parts * num_heads * D)``.
        parts: how many there are.
        num_heads: heads.

    Returns:
        ``parts`` tensors ``(B, num_heads, L, D)``.
    """
    return x.unflatten(-1, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def attend_with_bias(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *, scale: float, dropout: float = 0.0
) -> Tensor:
    """Attend inside windows and join the heads.

    Args:
        q, k, v: ``(windows, heads, L, D)``.
        bias: ``(1 or kinds of windows, heads, L, L)``, added to the logits.
        scale: factor of the dot products.
        dropout: probability that an attention weight is zeroed.

    Returns:
        ``(windows, L, heads * D)``.
    """
    if 1 < bias.shape[0] != q.shape[0]:
        bias = bias.repeat(q.shape[0] // bias.shape[0], 1, 1, 1)
    return join_heads(biased_attention(q, k, v, bias, scale=scale, dropout=dropout))


def join_heads(x: Tensor) -> Tensor:
    """``(B, heads, L, D)`` to ``(B, L, heads * D)``."""
    return x.transpose(1, 2).flatten(2)


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows, with a learned bias per relative position.

    ``proj(softmax(scale * q kᵀ + bias + mask) v)`` with q, k, v from one linear layer ``qkv``
    (thirds in this order, heads major inside each).

    Args:
        dim: channels C.
        window_size: side of a window, or (height, width); L positions.
        num_heads: heads; must divide ``dim``.
        qkv_bias: give ``qkv`` a bias.
        qk_scale: factor of the dot products; ``(dim / num_heads) ** -0.5`` by default.
        attn_drop: dropout of the attention weights in training.
        proj_drop: dropout behind ``proj`` in training.

    State dict: ``relative_position_bias_table`` ``((2h - 1) * (2w - 1), num_heads)``, the buffer
    ``relative_position_index`` ``(L, L)`` int64, ``qkv``, ``proj``.
    Shape: ``(num_windows * B, L, C)``, input and output alike.
    Raises:
        ValueError: ``num_heads`` does not divide ``dim``; (forward) sizes that do not fit.
    Source: Liu et al. 2021, "Swin transformer", eq. 4.
    """

    relative_position_index: Tensor

    def __init__(
        self,
        dim: int,
        window_size: int | tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ValueError(f"num_heads must divide dim, got dim={dim}, num_heads={num_heads}")
        self.dim = dim
        self.window_size = window_pair(window_size)
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else qk_scale
        self.attn_drop = attn_drop

        h, w = self.window_size
        table = torch.empty((2 * h - 1) * (2 * w - 1), num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", relative_position_index(self.window_size))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.proj_drop = nn.Dropout(proj_drop)
        self._biases = Remembered()

    def relative_position_bias(self) -> Tensor:
        """Return the bias of every head and pair of positions, ``(num_heads, L, L)``."""
        index = self.relative_position_index
        bias = self.relative_position_bias_table.t().index_select(1, index.flatten())
        return bias.view(self.num_heads, *index.shape)

    def _bias(self, mask: Tensor | None) -> Tensor:
        """The relative position bias and the mask in one, ``(1 or windows, num_heads, L, L)``.

        Computed once for each mask and state of the weights, unless it takes part in training.
        """

        table = self.relative_position_bias_table
        return masked_bias(self._biases, self.relative_position_bias, table, mask)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend inside each window.

        Args:
            x: ``(num_windows * B, L, C)``, windows of an image one after another.
            mask: added to the logits, ``(num_windows, L, L)``, or ``(1, L, L)`` for all windows.

        Returns:
            Shape of ``x``.
        """
        count, length, channels = x.shape
        if (length, channels) != (self.relative_position_index.shape[0], self.dim):
            raise ValueError(
                f"x must be (windows, {self.relative_position_index.shape[0]}, {self.dim}),"
                f" got {tuple(x.shape)}"
            )
        if mask is not None and count % mask.shape[0]:
            raise ValueError(
                "the number of windows must be a multiple of the mask's,"
                f" got {count} and {mask.shape[0]}"
            )
        bias = self._bias(mask)
        q, k, v = split_heads(self.qkv(x), 3, self.num_heads)
        dropout = self.attn_drop if self.training else 0.0
        out = attend_with_bias(q, k, v, bias, scale=self.scale, dropout=dropout)
        return self.proj_drop(self.proj(out))


class ShiftedWindows(nn.Module):
    """Base of modules that apply a :class:`WindowAttention` to whole maps.

    With a shift the map is rolled up and to the left, so that windows straddle the borders of the
    unshifted ones. Only windows in the last row or column then hold pieces that must not see each
    other, all in one of three ways; so three masks of one window serve maps of any size, and the
    many windows between need none.

    Args:
        window_size: side of a window, or (height, width).
        shift_size: 0, or a shift smaller than the window.

    Raises:
        ValueError: impossible shift.
    """

    shift_masks: Tensor | None

    def __init__(self, window_size: int | tuple[int, int], shift_size: int) -> None:
        super().__init__()
        self.window_size = window_pair(window_size)
        self.shift_size = shift_size
        h, w = self.window_size
        # A map of 2 x 2 windows has one window of each kind: inner, right, bottom, corner.
        masks = build_window_attention_mask(2 * h, 2 * w, self.window_size, shift_size)
        self.register_buffer("shift_masks", masks, persistent=False)

    def attend(self, attention: WindowAttention, x: Tensor) -> Tensor:
        """Pad, shift, attend inside the windows, and undo padding and shift.

        Args:
            attention: applied to every window.
            x: ``(B, H, W, C)``, any H and W; padded with zeros on the right and at the bottom.

        Returns:
            Shape of ``x``.
        """
        height, width = x.shape[1:3]
        x, pad_h, pad_w = pad_to_window_multiple(x, self.window_size, layout="BHWC")
        if self.shift_masks is None:
            x = self._attend_windows(attention, x, None)
        else:
            x = torch.roll(x, (-self.shift_size, -self.shift_size), (1, 2))
            x = self._attend_shifted(attention, x)
            x = torch.roll(x, (self.shift_size, self.shift_size), (1, 2))
        return x[:, :height, :width] if pad_h or pad_w else x

    def _attend_shifted(self, attention: WindowAttention, x: Tensor) -> Tensor:
        """Attend inside the windows of a rolled map, one kind of window after the other."""
        h, w = self.window_size
        heights, widths = (x.shape[1] - h, h), (x.shape[2] - w, w)
        _, right, bottom, corner = self.shift_masks.unsqueeze(1)
        bands = []
        for band, masks in zip(x.split(heights, 1), ((None, right), (bottom, corner))):
            parts = [
                self._attend_windows(attention, part, mask)
                for part, mask in zip(band.split(widths, 2), masks)
                if part.shape[1] and part.shape[2]
            ]
            if parts:
                bands.append(torch.cat(parts, 2))
        return torch.cat(bands, 1)

    def _attend_windows(self, attention: WindowAttention, x: Tensor, mask: Tensor | None) -> Tensor:
        """Attend inside the windows of a map whose sides are multiples of the window."""
        h, w = self.window_size
        height, width, channels = x.shape[1:]
        windows = window_partition(x, self.window_size).reshape(-1, h * w, channels)
        windows = attention(windows, mask).view(-1, h, w, channels)
        return window_reverse(windows, self.window_size, height, width)


class WMSA(ShiftedWindows):
    """Window multi-head self-attention on maps, with windows shifted by half for type ``"SW"``.

    Args:
        input_dim: channels C of the input.
        output_dim: channels of the output, ``input_dim`` by default.
        head_dim: channels per head; must divide ``input_dim``.
        window_size: side of a window, or (height, width).
        type: ``"W"`` for windows as they are, ``"SW"`` for shifted ones.
        qkv_bias: see :class:`WindowAttention`.
        qk_scale: see :class:`WindowAttention`.
        attn_drop: see :class:`WindowAttention`.
        proj_drop: see :class:`WindowAttention`.
        output_proj: end with a second linear layer. Without it ``output_dim`` must be
            ``input_dim``.

    State dict: ``attn`` (:class:`WindowAttention`), ``output_proj``.
    Shape: ``(B, H, W, input_dim)`` to ``(B, H, W, output_dim)``, any H and W.
    Raises:
        ValueError: unknown ``type``, ``head_dim`` that does not divide ``input_dim``, or another
            ``output_dim`` without ``output_proj``.
    Source: Liu et al. 2023, "Learned image compression with mixed transformer-CNN architectures".
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int | None,
        head_dim: int,
        window_size: int | tuple[int, int],
        type: str = "W",
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        output_proj: bool = True,
    ) -> None:
        if type not in ("W", "SW"):
            raise ValueError(f"type must be 'W' or 'SW', got type={type!r}")
        if head_dim < 1 or input_dim % head_dim:
            raise ValueError(
                f"head_dim must divide input_dim, got input_dim={input_dim}, head_dim={head_dim}"
            )
        output_dim = output_dim or input_dim
        if not output_proj and output_dim != input_dim:
            raise ValueError(
                "output_dim must equal input_dim when output_proj=False,"
                f" got input_dim={input_dim}, output_dim={output_dim}"
            )
        shift = min(window_pair(window_size)) // 2 if type == "SW" else 0
        super().__init__(window_size, shift)
        self.type = type
        self.attn = WindowAttention(
            input_dim,
            window_size,
            input_dim // head_dim,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
        )
        self.output_proj = nn.Linear(input_dim, output_dim) if output_proj else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.output_proj(self.attend(self.attn, x))
