# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Shifted window attention written down plainly, to compare the library's with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from compressai.layers.attn import WindowAttention

__all__ = ["naive_attention", "strengthen"]


def strengthen(module: nn.Module) -> nn.Module:
    """Make biases of relative positions large enough to be seen."""
    for name, parameter in module.named_parameters():
        if name.endswith("relative_position_bias_table"):
            nn.init.normal_(parameter)
    return module


def naive_attention(layer: WindowAttention, x: torch.Tensor, shift: int) -> torch.Tensor:
    """Shifted window attention on (B, H, W, C) as one attention between all positions.

    Two positions see each other if they lie in the same window of the map rolled by ``shift`` and
    were wrapped around its edges alike.
    """
    h, w = layer.window_size
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % w, 0, -height % h))
    rows, columns = x.shape[1:3]
    r = torch.arange(rows).repeat_interleave(columns)
    c = torch.arange(columns).repeat(rows)
    rolled_r, rolled_c = (r - shift) % rows, (c - shift) % columns
    label = torch.stack([rolled_r // h, rolled_c // w, r < shift, c < shift])
    visible = (label[:, :, None] == label[:, None, :]).all(0)

    down = (rolled_r[:, None] - rolled_r[None]).clamp(1 - h, h - 1) + h - 1
    right = (rolled_c[:, None] - rolled_c[None]).clamp(1 - w, w - 1) + w - 1
    table = layer.relative_position_bias_table.view(2 * h - 1, 2 * w - 1, layer.num_heads)

    q, k, v = layer.qkv(x.flatten(1, 2)).chunk(3, dim=-1)
    size = channels // layer.num_heads
    heads = []
    for i in range(layer.num_heads):
        part = slice(i * size, (i + 1) * size)
        logits = torch.einsum("bpc,bqc->bpq", q[..., part], k[..., part]) * layer.scale
        logits = (logits + table[down, right, i]).masked_fill(~visible, float("-inf"))
        heads.append(torch.einsum("bpq,bqc->bpc", logits.softmax(-1), v[..., part]))
    out = layer.proj(torch.cat(heads, -1)).view(batch, rows, columns, channels)
    return out[:, :height, :width]
