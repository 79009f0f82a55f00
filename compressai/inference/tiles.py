# SPDX-License-Identifier: BSD-3-Clause-Clear
"""1x1 convolutions and linear layers in float32 by tiles of bfloat16.

Processors with AMX multiply sixteen times as many numbers of bfloat16 at once as of float32. Each
float32 is the sum of three numbers of bfloat16; six of the nine products of two such sums are
enough for the digits of float32. Here weights are split into their pieces;
``compressai/cpp_exts/kernels/tiles.hpp`` tells how they are used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference.kernels import NativeConv, NativeLinear, NativePair
from compressai.inference.panels import PANEL

__all__ = ["in_pieces", "tile_products"]

_DEPTH = 32
"""Inputs in a tile."""
# The smaller side of the weights from which on tiles are worth it.
_LEAST = 64


def in_pieces(matrix: Tensor) -> Tensor:
    """``(out, in)`` as pieces in the order in which tiles take them.

    Args:
        matrix: float32 weights; ``out`` is a multiple of 16.

    Returns:
        ``(out / 16, 3 ceil(in / 32), 256)``, where each float32 stands for two bfloat16, those of
        two inputs.
    """
    matrix = nn.functional.pad(matrix, (0, -matrix.size(1) % _DEPTH))
    first = matrix.bfloat16()
    rest = matrix - first.float()
    second = rest.bfloat16()
    pieces = torch.stack([first, second, (rest - second.float()).bfloat16()])
    pairs = pieces.view(3, -1, PANEL, matrix.size(1) // _DEPTH, _DEPTH // 2, 2)
    ordered = pairs.permute(1, 3, 0, 4, 2, 5).contiguous()
    return ordered.view(torch.float32).view(len(ordered), -1, PANEL**2)


def tile_products(network: nn.Module) -> bool:
    """Let the 1x1 layers of a network be computed by tiles, in place, on processors that have them.

    Results round about as before. Weights of these layers take 1.5 times the memory.

    Args:
        network: with layers of :mod:`compressai.inference.kernels`.

    Returns:
        Whether there was one.
    """
    if not _kernels.has_tiles():
        return False
    found = False
    for module in network.modules():
        for layer in module.parts if isinstance(module, NativePair) else (module,):
            if isinstance(layer, (NativeConv, NativeLinear)) and layer.weight.dim() == 3:
                count, inputs, _ = layer.weight.shape
                if min(count * PANEL, inputs) >= _LEAST:
                    layer.weight = in_pieces(layer.weight.transpose(1, 2).flatten(0, 1))
                    found = True
    return found
