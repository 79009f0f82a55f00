# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Contexts of MLIC, MLIC+ and MLIC++ by attention: within a slice, and from earlier slices.

Anchors are the positions whose row + column is odd.
"""

from __future__ import annotations

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.latent_codecs.checkerboard import unembed
from compressai.layers import conv1x1
from compressai.models._helpers.mlic.utils import (
    PARITY,
    build_position_index,
    checkerboard_anchor,
    checkerboard_nonanchor,
    squeeze_anchor,
    squeeze_nonanchor,
    unsqueeze_nonanchor,
)

__all__ = [
    "LinearGlobalInterContext",
    "LinearGlobalIntraContext",
    "LocalContext",
    "VanillaGlobalInterContext",
    "VanillaGlobalIntraContext",
    "WindowCheckerboardAttn",
    "check_heads",
    "depthwise",
    "head_count",
    "linear_attention",
    "projections",
]

# Added to logits, as the authors do: minus infinity gives NaN where a query has no key at all.
_MASKED = -100.0
# Positions whose windows are held at a time: 25 vectors of each of query, key and value for each.
_CHUNK = 4096


def head_count(channels: int) -> int:
    """The largest divisor of ``channels`` that leaves 32 channels a head, if there is one."""
    most = max(1, channels // 32)
    return next(count for count in range(most, 0, -1) if channels % count == 0)


def check_heads(channels: int, heads: int) -> None:
    """Raise ValueError if heads do not divide a width."""
    if heads < 1 or channels % heads:
        raise ValueError(f"num_heads must divide the width, got {heads} heads of {channels}")


def projections(dim: int) -> nn.Sequential:
    """Queries, keys or values: a pointwise and a depthwise convolution."""
    return nn.Sequential(conv1x1(dim, dim), depthwise(dim))


def depthwise(dim: int, kernel_size: int = 3) -> nn.Conv2d:
    """A convolution of each channel by itself that keeps the size."""
    return nn.Conv2d(dim, dim, kernel_size, padding=kernel_size // 2, groups=dim)


def _mixer(dim: int, wide: int, out: int) -> nn.Sequential:
    return nn.Sequential(
        conv1x1(dim, wide), nn.GELU(), depthwise(wide), nn.GELU(), conv1x1(wide, out)
    )


def _heads(x: Tensor, count: int) -> Tensor:
    """``(N, C, ...)`` to ``(N, heads, C / heads, positions)``, in contiguous blocks of channels."""
    return x.flatten(2).unflatten(1, (count, -1))


def linear_attention(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Attention whose cost grows with the positions, not with their square.

    Keys are normalised over positions, queries over the channels of a head; there is no scaling.

    Args:
        queries: ``(N, C, ...)``.
        keys, values: ``(N, C, ...)`` of other positions, or the same.
        heads: number of heads, contiguous blocks of channels.

    Returns:
        Of the shape of ``queries``.

    Source: Jiang et al. 2023, "MLIC++: linear complexity multi-reference entropy modeling for
    learned image compression".
    """
    k = _heads(keys, heads).softmax(dim=-1)
    q = _heads(queries, heads).softmax(dim=-2)
    summary = k @ _heads(values, heads).transpose(-1, -2)
    return (summary.transpose(-1, -2) @ q).reshape(queries.shape)


def _quadratic_attention(
    queries: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor | None = None
) -> Tensor:
    q, k, v = (_heads(x, heads).transpose(-1, -2) for x in (queries, keys, values))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return out.transpose(-1, -2).reshape(queries.shape)


class LinearGlobalInterContext(nn.Module):
    """From all positions of earlier slices to context.

    Args:
        in_dim: width of the earlier slices.
        out_dim: width of the context, twice that of a slice.
        num_heads: number of heads.

    Raises:
        ValueError: ``num_heads`` does not divide ``in_dim``.
    """

    def __init__(self, in_dim: int, out_dim: int, num_heads: int) -> None:
        super().__init__()
        check_heads(in_dim, num_heads)
        self.num_heads = num_heads
        between = out_dim * 3 // 2
        self.keys, self.queries, self.values = (projections(in_dim) for _ in range(3))
        self.reprojection = nn.Conv2d(in_dim, between, kernel_size=5, padding=2)
        self.mlp = _mixer(between, 2 * out_dim, out_dim)
        self.skip = conv1x1(between, out_dim)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return linear_attention(queries, keys, values, self.num_heads)

    def forward(self, support: Tensor) -> Tensor:
        attended = self._attend(self.queries(support), self.keys(support), self.values(support))
        t = self.reprojection(attended)
        return self.skip(t) + self.mlp(t)


class VanillaGlobalInterContext(LinearGlobalInterContext):
    """The same with attention of every position to every position; of MLIC+."""

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return _quadratic_attention(queries, keys, values, self.num_heads)


class LinearGlobalIntraContext(nn.Module):
    """Context of the rest from the anchors of a slice, and from the slice before.

    Where the slice before is alike, the values of this one are: queries come from its rest, keys
    from its anchors.

    Args:
        dim: width of a slice; the context has twice as much.
        num_heads: number of heads.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int = 2) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        self.num_heads = num_heads
        self.keys, self.queries, self.values = (projections(dim) for _ in range(3))
        self.reprojection = nn.Conv2d(dim, 2 * dim, kernel_size=5, padding=2)
        self.mlp = _mixer(2 * dim, 4 * dim, 2 * dim)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        return linear_attention(queries, keys, values, self.num_heads)

    def forward(self, previous: Tensor, anchors: Tensor) -> Tensor:
        """Context ``(N, 2 dim, H, W)``.

        Args:
            previous: the slice before, ``(N, dim, H, W)``.
            anchors: the anchors of this one, 0 elsewhere.
        """
        # Biases and neighbours matter: networks see whole maps, of which positions are picked.
        keys = squeeze_anchor(self.keys(checkerboard_anchor(previous)))
        queries = squeeze_nonanchor(self.queries(checkerboard_nonanchor(previous)))
        values = squeeze_anchor(self.values(anchors))
        t = self.reprojection(unsqueeze_nonanchor(self._attend(queries, keys, values)))
        return t + self.mlp(t)


class VanillaGlobalIntraContext(LinearGlobalIntraContext):
    """The same with attention of every position to every position but its neighbours.

    Args:
        dim, num_heads: as in the base class.
        local_mask_radius: keys that are no farther away, in rows and in columns, are left to the
            local context; negative for none.
    """

    def __init__(self, dim: int, num_heads: int = 2, local_mask_radius: int = 2) -> None:
        super().__init__(dim, num_heads)
        self.local_mask_radius = local_mask_radius

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        _, _, height, half = queries.shape
        mask = self._attention_mask(height, 2 * half, queries.device).to(queries.dtype)
        return _quadratic_attention(queries, keys, values, self.num_heads, mask)

    def _attention_mask(self, height: int, width: int, device: torch.device | str) -> Tensor:
        """``(queries, keys)``: 0, or -100 for pairs of neighbours."""
        rows = torch.arange(height, device=device)[:, None].expand(height, width)
        columns = torch.arange(width, device=device).expand(height, width)
        places = unembed(torch.stack((rows, columns))[None], PARITY)[:, 0].flatten(2)
        anchors, rest = places
        distance = (rest[:, :, None] - anchors[:, None, :]).abs().amax(0)
        near = distance <= self.local_mask_radius
        return torch.zeros(near.shape, device=device).masked_fill_(near, _MASKED)


class LocalContext(nn.Module):
    """Context of each position from the anchors around it, by attention within a window.

    Args:
        dim: width of a slice; the context has twice as much.
        window_size: side of the windows, one around each position.
        num_heads: number of heads.

    Raises:
        ValueError: ``num_heads`` does not divide ``dim``, or an even ``window_size``.
    """

    attn_mask: Tensor | None

    def __init__(self, dim: int, window_size: int = 5, num_heads: int = 2) -> None:
        super().__init__()
        check_heads(dim, num_heads)
        if window_size < 1 or window_size % 2 == 0:
            raise ValueError(f"window_size must be odd and positive, got {window_size}")
        self.dim, self.window_size, self.num_heads = dim, window_size, num_heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv_proj = nn.Linear(dim, 3 * dim)
        self.relative_position_table = nn.Parameter(
            torch.zeros((2 * window_size - 1) ** 2, num_heads)
        )
        nn.init.trunc_normal_(self.relative_position_table, std=0.02)
        self.register_buffer("relative_position_index", build_position_index(window_size))
        self.fusion = nn.Conv2d(dim, 2 * dim, kernel_size=window_size)
        self.proj = nn.Linear(2 * dim, 2 * dim)
        self.norm2 = nn.LayerNorm(2 * dim)
        self.mlp = _Mlp(2 * dim, 4 * dim)
        self.attn_mask = None

    def forward(self, anchors: Tensor) -> Tensor:
        """Context ``(N, 2 dim, H, W)`` of the anchors, which are 0 elsewhere."""
        _, _, height, width = anchors.shape
        qkv = self.qkv_proj(self.norm1(anchors.permute(0, 2, 3, 1)))
        # Zeros are put around the projections, so that there is no bias outside of the map.
        margin = self.window_size // 2
        padded = F.pad(qkv, (0, 0, margin, margin, margin, margin))
        rows = max(1, _CHUNK // width)
        strips = [
            self._attend(padded, first, min(height, first + rows), height, width)
            for first in range(0, height, rows)
        ]
        t = self.proj(torch.cat(strips, dim=1))
        return (t + self.mlp(self.norm2(t))).permute(0, 3, 1, 2)

    def _attend(self, padded: Tensor, first: int, last: int, height: int, width: int) -> Tensor:
        """``(N, rows, W, 2 dim)`` of some rows."""
        side, heads = self.window_size, self.num_heads
        strip = padded[:, first : last + side - 1]
        windows = strip.unfold(1, side, 1).unfold(2, side, 1)  # (N, rows, W, 3 dim, side, side)
        n = len(windows)
        # Heads alternate within the channels here, and follow each other in the result.
        windows = windows.reshape(n * (last - first) * width, 3, -1, heads, side * side)
        q, k, v = windows.permute(1, 0, 3, 4, 2)  # each (windows, heads, positions, dim / heads)
        bias = self.relative_position_table[self.relative_position_index].permute(2, 0, 1)
        mask = self._window_mask(first, last, height, width, padded.device).to(bias.dtype)
        logits = (bias + mask[:, None]).repeat(n, 1, 1, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=logits)
        out = out.transpose(-1, -2).reshape(len(out), self.dim, side, side)
        return self.fusion(out).reshape(n, last - first, width, -1)

    def _window_mask(
        self, first: int, last: int, height: int, width: int, device: torch.device | str
    ) -> Tensor:
        """``(windows of some rows, queries, keys)``: 0 for pairs of anchors, else -100."""
        margin, side = self.window_size // 2, self.window_size
        rows = torch.arange(first - margin, last + margin, device=device)[:, None]
        columns = torch.arange(-margin, width + margin, device=device)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        anchor = (inside & ((rows + columns) % 2 == 1)).unfold(0, side, 1).unfold(1, side, 1)
        anchor = anchor.reshape(-1, side * side)
        both = anchor[:, :, None] & anchor[:, None, :]
        return torch.zeros(both.shape, device=device).masked_fill_(~both, _MASKED)

    def update_resolution(self, height: int, width: int, device: torch.device | str) -> None:
        """Keep the mask of a whole map as ``attn_mask``, to look at; :meth:`forward` needs none."""
        self.attn_mask = self._window_mask(0, height, height, width, device)


class WindowCheckerboardAttn(LocalContext):
    """Another name of :class:`LocalContext`."""


class _Mlp(nn.Module):
    def __init__(self, dim: int, wide: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, wide)
        self.fc2 = nn.Linear(wide, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))
