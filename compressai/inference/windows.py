# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Transformer blocks on tokens that stay in the order of windows: same bits, fewer passes.

A block by itself rolls its map, cuts it into windows, and puts all of it together again. Here
tokens are moved once from the order of the map to that of the windows, or from the windows of one
block to the shifted ones of the next. What is computed is the same: normalisations and linear
layers go by tokens, and attention gets the same windows in the same calls.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressai.layers.attn import WMSA, Block, SwinTransformerBlock, window_partition
from compressai.layers.attn.attention import ShiftedWindows, WindowAttention

__all__ = [
    "WindowOrder",
    "WindowedBlocks",
    "WindowedResidual",
    "from_tokens",
    "gelu_",
    "to_tokens",
    "window_order",
]


@dataclass(frozen=True)
class WindowOrder:
    """Where the tokens of maps ``(B, H, W, C)`` stand when they are sorted by windows.

    Attributes:
        to_windows: the place in the maps of each token of the windows, int32 ``(B * H * W,)``.
        to_map: the place in the windows of each token of the maps, the inverse.
        tokens: how many tokens, in turn, are in windows of each kind: inside, at the right, at the
            bottom, and in the corner. All are inside where nothing is shifted.
    """

    to_windows: Tensor
    to_map: Tensor
    tokens: tuple[int, ...]


@functools.lru_cache(maxsize=16)
def window_order(
    batch: int, height: int, width: int, window: tuple[int, int], shift: int
) -> WindowOrder:
    """The order in which :class:`~compressai.layers.attn.WMSA` sees tokens.

    Args:
        batch, height, width: of maps whose sides are multiples of the window's.
        window: its height and width.
        shift: by how much windows are shifted.
    """
    h, w = window
    with torch.inference_mode(False):
        places = torch.arange(batch * height * width, dtype=torch.int32)
        maps = places.view(batch, height, width, 1)
        parts = [maps]
        if shift:
            maps = maps.roll((-shift, -shift), (1, 2))
            bands = maps.split((height - h, h), 1)
            parts = [part for band in bands for part in band.split((width - w, w), 2)]
        windows = [window_partition(part, window).flatten() for part in parts]
        to_windows = torch.cat(windows)
        to_map = torch.empty_like(places)
        to_map[to_windows.long()] = places
    return WindowOrder(to_windows, to_map, tuple(len(part) for part in windows))


class WindowedBlocks(nn.Module):
    """Transformer blocks one after another on maps; in evaluation mode, without gradients.

    Args:
        blocks: of the classes ``Block`` and ``SwinTransformerBlock``.

    Shape: ``(B, H, W, C)``, any H and W; maps that do not fit windows go through the blocks as
    they are.
    """

    def __init__(self, blocks: Sequence[Block | SwinTransformerBlock]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[:3]
        if any(_does_not_fit(size, _windows(block)) for block in self.blocks):
            for block in self.blocks:
                x = block(x)
            return x
        tokens = x.reshape(-1, x.shape[-1])
        before = None
        for block in self.blocks:
            windows = _windows(block)
            order = window_order(*size, windows.window_size, windows.shift_size)
            if order is not before:
                places = order.to_windows
                if before is not None:
                    places = before.to_map.index_select(0, places)
                tokens = tokens.index_select(0, places)
            tokens = _apply_block(block, tokens, order)
            before = order
        return tokens.index_select(0, before.to_map).view(*size, -1)


class WindowedResidual(nn.Module):
    """Window attention beside a skip, ``x + attention(x)``; in evaluation mode, without gradients.

    Args:
        attention: attends.

    Shape: ``(B, C, H, W)``, input and output alike.
    """

    def __init__(self, attention: WMSA) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        attention = self.attention
        maps = to_tokens(x)
        if _does_not_fit(maps.shape, attention):
            out = attention(maps)
        else:
            size = maps.shape[:3]
            order = window_order(*size, attention.window_size, attention.shift_size)
            tokens = maps.flatten(0, 2).index_select(0, order.to_windows)
            tokens = attention.output_proj(_attend(attention, attention.attn, tokens, order))
            out = tokens.index_select(0, order.to_map).view(maps.shape)
        attended = torch.empty_like(x, memory_format=torch.contiguous_format)
        from_tokens(out, attended)
        return attended.add_(x)


def _windows(block: Block | SwinTransformerBlock) -> ShiftedWindows:
    return block.msa if isinstance(block, Block) else block


def _does_not_fit(size: Sequence[int], windows: ShiftedWindows) -> bool:
    h, w = windows.window_size
    return 0 in size or size[1] % h != 0 or size[2] % w != 0


def _apply_block(block: Block | SwinTransformerBlock, tokens: Tensor, order: WindowOrder) -> Tensor:
    """Apply a block to tokens in the order of its windows, and write over them."""
    windows = _windows(block)
    attended = _attend(windows, windows.attn, block.norm1(tokens), order)
    if isinstance(windows, WMSA):
        attended = windows.output_proj(attended)
    tokens += attended
    residual = tokens
    if isinstance(block, Block):
        residual = block.residual_proj(tokens)
    mlp = block.mlp
    hidden = mlp.fc2(mlp.norm(mlp.drop1(_activate(mlp.act, mlp.fc1(block.norm2(tokens))))))
    return residual.add_(hidden)


def _attend(
    windows: ShiftedWindows, attention: WindowAttention, tokens: Tensor, order: WindowOrder
) -> Tensor:
    """Attend inside windows of all kinds, ``(tokens, C)`` to the same."""
    length = windows.window_size[0] * windows.window_size[1]
    masks = (None,) if windows.shift_size == 0 else (None, *windows.shift_masks.unsqueeze(1)[1:])
    parts = [
        attention(part.view(-1, length, part.shape[1]), mask).view(part.shape)
        for part, mask in zip(tokens.split(order.tokens), masks)
        if len(part)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _activate(act: nn.Module, x: Tensor) -> Tensor:
    exact = type(act) is nn.GELU and act.approximate == "none"
    return gelu_(x) if exact else act(x)


def gelu_(x: Tensor) -> Tensor:
    """GELU in place, by the kernel that ``torch.nn.functional.gelu`` uses."""
    return torch.ops.aten.gelu_(x)


def to_tokens(x: Tensor) -> Tensor:
    """``(B, C, H, W)`` to ``(B, H, W, C)``, contiguous, picture by picture.

    Torch has a fast way to transpose matrices, but none to permute four axes.
    """
    batch, channels, height, width = x.shape
    tokens = x.new_empty(batch, height * width, channels)
    for target, source in zip(tokens, x):
        target.copy_(source.flatten(1).t())
    return tokens.view(batch, height, width, channels)


def from_tokens(tokens: Tensor, target: Tensor) -> None:
    """Write ``(B, H, W, C)`` into maps ``(B, C, H, W)`` whose planes are contiguous."""
    for source, maps in zip(tokens, target):
        maps.view(len(maps), -1).copy_(source.flatten(0, 1).t())
