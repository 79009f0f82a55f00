# SPDX-License-Identifier: BSD-3-Clause-Clear
"""All of window attention under the one module path that existing code imports it from."""

from __future__ import annotations

from compressai._moved import deprecated_names
from compressai.layers.attn.attention import WMSA, WindowAttention
from compressai.layers.attn.blocks import (
    Block,
    ConvTransBlock,
    SWAtten,
    SwinBlock,
    SwinTransformerBlock,
)
from compressai.layers.attn.patches import PatchEmbed, PatchMerging, PatchSplit
from compressai.layers.attn.window_gate import WinNoShiftAttention, WinResidualUnit
from compressai.layers.attn.windows import (
    build_window_attention_mask,
    pad_to_window_multiple,
    window_partition,
    window_reverse,
)

__all__ = [
    "Block",
    "ConvTransBlock",
    "PatchEmbed",
    "PatchMerging",
    "PatchSplit",
    "SWAtten",
    "SwinBlock",
    "SwinTransformerBlock",
    "WMSA",
    "WinNoShiftAttention",
    "WinResidualUnit",
    "WindowAttention",
    "build_window_attention_mask",
    "pad_to_window_multiple",
    "window_partition",
    "window_reverse",
]

__getattr__ = deprecated_names(__name__)
