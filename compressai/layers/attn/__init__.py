# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Window attention and the blocks around it, for transformer-based transforms and contexts.

``compressai.layers`` does not import this package. Blocks with a feed-forward network take it from
timm (``pip install 'compressai-torch[attn]'``), which is imported when the first such block is
built.
"""

from __future__ import annotations

from compressai._moved import deprecated_names
from compressai.layers.attn.dictionary import (
    ConvolutionalGLU,
    ConvWithDW,
    DenseBlock,
    DWConv,
    MultiScaleAggregation,
    MultiScaleDictionaryCrossAttentionGLU,
    Scale,
    SpatialAttentionModule,
)
from compressai.layers.attn.swin import (
    WMSA,
    Block,
    ConvTransBlock,
    PatchEmbed,
    PatchMerging,
    PatchSplit,
    SWAtten,
    SwinBlock,
    SwinTransformerBlock,
    WindowAttention,
    WinNoShiftAttention,
    WinResidualUnit,
    build_window_attention_mask,
    pad_to_window_multiple,
    window_partition,
    window_reverse,
)

__all__ = [
    "Block",
    "ConvTransBlock",
    "ConvWithDW",
    "ConvolutionalGLU",
    "DWConv",
    "DenseBlock",
    "MultiScaleAggregation",
    "MultiScaleDictionaryCrossAttentionGLU",
    "PatchEmbed",
    "PatchMerging",
    "PatchSplit",
    "SWAtten",
    "Scale",
    "SpatialAttentionModule",
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
