# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Blocks of the transforms of DCAE and SAAF on native code.

Their attention runs on the kernel of :mod:`compressai.inference.window_kernels`, the feed-forward
network, whose depthwise convolution needs neighbours, as convolutions.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai.inference.kernels import is_original, split_convolution
from compressai.inference.window_kernels import NativeWindowBlock
from compressai.layers.attn import ConvolutionalGLU, DWConv, Scale
from compressai.layers.attn.windows import (
    pad_to_window_multiple,
    window_partition,
    window_reverse,
)
from compressai.models._helpers.dictionary_transforms import GatedBlock
from compressai.models.dcae import GatedWindowAttention
from compressai.models.saaf import CrossSparseWindowAttention

__all__ = ["NativeSparseAttention", "native_gated_block"]


def native_gated_block(module: nn.Module) -> nn.Module | None:
    """What computes the same as a :class:`GatedBlock` or its network with the help of kernels.

    Args:
        module: any; others have none. Float32, on the CPU, in evaluation mode; it may be changed.
    """
    if is_original(module, ConvolutionalGLU) and is_original(module.dwconv, DWConv):
        return _GatedNetwork(module)
    if not is_original(module, GatedBlock):
        return None
    block, attention = module, module.msa
    if type(attention) is GatedWindowAttention and NativeWindowBlock.fits(attention, block.ln1):
        block.msa = NativeWindowBlock(attention, attention, norm1=block.ln1)
        block.ln1 = nn.Identity()
    elif NativeSparseAttention.fits(attention, block.ln1):
        block.msa = NativeSparseAttention(attention, block.ln1)
        block.ln1 = nn.Identity()
    block.mlp = native_gated_block(block.mlp) or block.mlp
    scales = block.res_scale_1, block.res_scale_2
    return _NativeGatedBlock(block) if all(is_original(s, Scale) for s in scales) else block


class _GatedNetwork(nn.Module):
    """:class:`ConvolutionalGLU` with convolutions for linear layers, one for each half.

    Halves of one result would be copied before the depthwise convolution.
    """

    def __init__(self, network: ConvolutionalGLU) -> None:
        super().__init__()
        halves = _as_convolution(network.fc1)
        self.value, self.gate = split_convolution(halves, [network.fc2.in_features] * 2)
        self.dwconv, self.act = network.dwconv.dwconv, network.act
        self.project = _as_convolution(network.fc2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        x = self.project(self.act(self.dwconv(self.value(x))) * self.gate(x))
        return x.permute(0, 2, 3, 1)


def _as_convolution(layer: nn.Linear) -> nn.Conv2d:
    conv = nn.Conv2d(layer.in_features, layer.out_features, 1).requires_grad_(False)
    conv.weight.copy_(layer.weight[:, :, None, None])
    conv.bias.copy_(layer.bias)
    return conv


class _NativeGatedBlock(nn.Module):
    """:class:`GatedBlock` with the products and sums of its skips in one pass each."""

    def __init__(self, block: GatedBlock) -> None:
        super().__init__()
        self.ln1, self.msa, self.ln2, self.mlp = block.ln1, block.msa, block.ln2, block.mlp
        self.scale_1, self.scale_2 = block.res_scale_1.scale, block.res_scale_2.scale

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(self.msa(self.ln1(x)), x, self.scale_1)
        return torch.addcmul(self.mlp(self.ln2(x)), x, self.scale_2)


class NativeSparseAttention(nn.Module):
    """``attention(norm(x))`` of :class:`~compressai.models.saaf.CrossSparseWindowAttention`.

    All positions of a window ask the same few tokens. So what turns positions into queries is
    applied to the tokens' keys, and what turns results into outputs to their values.

    Args:
        attention: one that :meth:`fits`; its weights are copied.
        norm: in front of it.

    Shape: ``(B, H, W, C)``, input and output alike, any H and W.
    """

    def __init__(self, attention: CrossSparseWindowAttention, norm: nn.LayerNorm) -> None:
        super().__init__()
        share = float(attention.global_alpha)
        heads, dim = attention.num_heads, attention.linear.in_features
        self.window, self.dim = attention.window_size, dim
        inside = SimpleNamespace(
            num_heads=heads,
            scale=attention.scale,
            qkv=attention.embedding_layer,
            proj=_scaled(attention.linear, 1 - share),
            relative_position_bias=attention.relative_position_bias,
        )
        # Not modules and buffers: who looks for layers to replace finds none.
        self.parts = (NativeWindowBlock(attention, inside, norm1=norm), norm)
        self.tokens = attention.global_tokens.detach()
        self.keys, self.values = attention.global_kv.weight.detach().chunk(2)
        queries = attention.embedding_layer
        self.query = queries.weight.detach()[:dim].unflatten(0, (heads, -1))
        self.query_bias = queries.bias.detach()[:dim].unflatten(0, (heads, -1))
        out = share * attention.linear.weight.detach()
        self.out = out.unflatten(1, (heads, -1)).permute(1, 2, 0).contiguous()

    @staticmethod
    def fits(attention: nn.Module, norm: nn.Module) -> bool:
        """Whether this computes what an attention and the normalisation before it do."""
        return (
            is_original(attention, CrossSparseWindowAttention)
            and type(norm) is nn.LayerNorm
            and norm.weight is not None
        )

    def forward(self, x: Tensor) -> Tensor:
        block, norm = self.parts
        height, width = x.shape[1:3]
        maps, _, _ = pad_to_window_multiple(norm(x), self.window, layout="BHWC")
        windows = window_partition(maps, self.window).reshape(
            -1, self.window[0] * self.window[1], self.dim
        )
        asked = self._ask(windows).view(-1, *self.window, self.dim)
        found = window_reverse(asked, self.window, *maps.shape[1:3])
        return block(x).add_(found[:, :height, :width])

    def _ask(self, windows: Tensor) -> Tensor:
        """What the tokens give to each position, ``(windows, positions, C)`` like the argument."""
        tokens = self.tokens + windows.mean(dim=1, keepdim=True)
        keys, values = (self._of_heads(F.linear(tokens, w)) for w in (self.keys, self.values))
        count, several = tokens.shape[:2]

        def by_window(x: Tensor) -> Tensor:
            """``(heads, windows * tokens, ...)`` to ``(windows, heads * tokens, ...)``."""
            return x.unflatten(1, (count, several)).transpose(0, 1).flatten(1, 2)

        offsets = by_window(keys @ self.query_bias.unsqueeze(-1)).transpose(1, 2)
        logits = torch.baddbmm(offsets, windows, by_window(keys @ self.query).transpose(1, 2))
        shares = logits.unflatten(-1, (-1, several)).softmax(dim=-1).flatten(2)
        return shares @ by_window(values @ self.out)

    def _of_heads(self, x: Tensor) -> Tensor:
        """``(windows, tokens, C)`` to ``(heads, windows * tokens, C / heads)``."""
        return x.flatten(0, 1).unflatten(1, (len(self.query), -1)).transpose(0, 1)


def _scaled(layer: nn.Linear, factor: float) -> nn.Linear:
    """A layer whose weights, but not its bias, are multiplied by a factor."""
    scaled = nn.Linear(layer.in_features, layer.out_features).requires_grad_(False)
    scaled.weight.copy_(layer.weight * factor)
    scaled.bias.copy_(layer.bias)
    return scaled
