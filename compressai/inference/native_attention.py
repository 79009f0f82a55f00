# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Transformer blocks that run on the native kernel :func:`compressai._kernels.window_block`.

The kernel does all that a block does to a window while the window is in the cache. Results differ
from those of :mod:`compressai.layers.attn` in the last digits.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference.fusion import merge_projections
from compressai.inference.native import NativeConv
from compressai.layers.attn import (
    WMSA,
    Block,
    ConvTransBlock,
    PatchSplit,
    SwinTransformerBlock,
    WindowAttention,
    WinNoShiftAttention,
)
from compressai.layers.attn.attention import ShiftedWindows

__all__ = [
    "NativeConvTransBlock",
    "NativePatchSplit",
    "NativeWindowBlock",
    "use_window_kernels",
]

_PANEL = 16
# Queries that the kernel reads at once.
_QUERIES = 32


class NativeWindowBlock(nn.Module):
    """A transformer block on windows, for the CPU and float32.

    ``x = [x +] proj(attention(norm1(x)))``, then ``x + fc2(gelu(fc1(norm2(x))))`` with a
    feed-forward network.

    Args:
        windows: has the size of the windows and the shift.
        attention: one that :meth:`fits`; its weights are copied.
        skip: whether the input is added to the attention's result.
        norm1: in front of the attention.
        norm2: in front of the feed-forward network.
        mlp: the feed-forward network, of :func:`timm.layers.Mlp`'s attributes.

    Shape: ``(B, H, W, C)``, input and output alike, any H and W.
    """

    def __init__(
        self,
        windows: ShiftedWindows,
        attention: WindowAttention,
        *,
        skip: bool = False,
        norm1: nn.Module | None = None,
        norm2: nn.Module | None = None,
        mlp: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.window = windows.window_size
        self.shift = windows.shift_size
        self.heads = attention.num_heads
        self.scale = float(attention.scale)
        self.skip = skip
        # Not buffers: nn.Module.to() would change their layout.
        self.bias = _bias(attention, windows.shift_masks)
        self.norm1, self.norm2 = _norm(norm1), _norm(norm2)
        self.qkv, self.proj = _linear(attention.qkv), _linear(attention.proj)
        self.mlp = None
        if mlp is not None:
            self.mlp = (mlp.fc1.out_features, _linear(mlp.fc1), _linear(mlp.fc2))

    @staticmethod
    def fits(attention: nn.Module, *norms: nn.Module, mlp: nn.Module | None = None) -> bool:
        """Whether the kernel computes what an attention and what surrounds it do."""
        if not all(type(norm) is nn.LayerNorm and norm.weight is not None for norm in norms):
            return False
        return type(attention) is WindowAttention and (mlp is None or _is_plain(mlp))

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Apply the block.

        Args:
            x: ``(B, H, W, C)``; channels may be some of those of a wider map.
            out: of the same shape, likewise; written to and returned.
        """
        x = x if x.stride(-1) == 1 else x.contiguous()
        out = x.new_empty(x.shape) if out is None else out
        _kernels.window_block(
            x.detach(),
            out,
            self.window,
            self.shift,
            self.heads,
            self.scale,
            self.bias,
            self.skip,
            self.norm1,
            self.qkv,
            self.proj,
            self.norm2,
            self.mlp,
            torch.get_num_threads(),
        )
        return out


class NativeConvTransBlock(nn.Module):
    """:class:`~compressai.layers.attn.ConvTransBlock` without copies of its two halves.

    Args:
        block: one that :meth:`fits`.
        trans_block: of the same block.
    """

    def __init__(self, block: ConvTransBlock, trans_block: NativeWindowBlock) -> None:
        super().__init__()
        self.split_conv, self.split_trans = (
            NativeConv(half) for half in _halves(block.conv1_1, block.conv_dim)
        )
        self.conv_block = block.conv_block
        self.trans_block = trans_block
        self.join = NativeConv(block.conv1_2)

    @staticmethod
    def fits(block: ConvTransBlock) -> bool:
        """Whether there are kernels for the convolutions that split and join."""
        if block.conv_dim % _PANEL or block.trans_dim % _PANEL:
            return False
        halves = _halves(block.conv1_1, block.conv_dim)
        return all(NativeConv.fits(conv) for conv in (*halves, block.conv1_2))

    def forward(self, x: Tensor) -> Tensor:
        conv, trans = self.split_conv(x), self.split_trans(x)
        both = torch.empty_like(x, memory_format=torch.channels_last)
        first, second = both.split((conv.size(1), trans.size(1)), dim=1)
        torch.add(self.conv_block(conv), conv, out=first)
        self.trans_block(trans.permute(0, 2, 3, 1), second.permute(0, 2, 3, 1))
        return self.join(both, x)


class NativePatchSplit(nn.Module):
    """:class:`~compressai.layers.attn.PatchSplit` that writes tokens where they belong.

    Args:
        split: one that :meth:`fits`.
    """

    def __init__(self, split: PatchSplit) -> None:
        super().__init__()
        self.norm = split.norm
        self.expand = NativeConv(_expansion(split), None, nn.PixelShuffle(2))

    @staticmethod
    def fits(split: PatchSplit) -> bool:
        """Whether there is a kernel for its linear layer."""
        return split.dim % (2 * _PANEL) == 0 and NativeConv.fits(_expansion(split))

    def forward(self, x: Tensor, H: int, W: int) -> Tensor:
        x = self.norm(x).unflatten(1, (H, W)).permute(0, 3, 1, 2)
        return self.expand(x).permute(0, 2, 3, 1).flatten(1, 2)


class _FeatureMaps(nn.Module):
    """A block on ``(N, C, H, W)``, result in channels-last layout."""

    def __init__(self, block: NativeWindowBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def use_window_kernels(network: nn.Module) -> None:
    """Replace, in place, the transformer blocks that kernels compute, and what splits patches.

    Nothing changes on processors without kernels.

    Args:
        network: float32, on the CPU, in evaluation mode.
    """
    if not _kernels.available():
        return
    for name, child in list(network.named_children()):
        replaced = _replacement(child)
        if replaced is not None:
            setattr(network, name, replaced)
            child = replaced
        elif type(child) is WinNoShiftAttention:
            residual = child.conv_b[0]
            block = _replacement(residual.attn)
            if block is not None:
                block.skip = True
                child.conv_b[0] = _FeatureMaps(block)
        use_window_kernels(child)


def _replacement(module: nn.Module) -> nn.Module | None:
    """What computes the same as a module on kernels, if there is such a thing."""
    if type(module) is ConvTransBlock:
        trans_block = _replacement(module.trans_block)
        if trans_block is not None and NativeConvTransBlock.fits(module):
            return NativeConvTransBlock(module, trans_block)
    elif type(module) is PatchSplit and NativePatchSplit.fits(module):
        return NativePatchSplit(module)
    elif type(module) is Block and type(module.residual_proj) is nn.Identity:
        return _transformer_block(module, module.msa)
    elif type(module) is SwinTransformerBlock:
        return _transformer_block(module, module)
    elif type(module) is WMSA and _one_projection(module) and NativeWindowBlock.fits(module.attn):
        return NativeWindowBlock(module, module.attn)
    return None


def _transformer_block(
    block: Block | SwinTransformerBlock, windows: ShiftedWindows
) -> NativeWindowBlock | None:
    if type(windows) is WMSA and not _one_projection(windows):
        return None
    if not NativeWindowBlock.fits(windows.attn, block.norm1, block.norm2, mlp=block.mlp):
        return None
    return NativeWindowBlock(
        windows,
        windows.attn,
        skip=True,
        norm1=block.norm1,
        norm2=block.norm2,
        mlp=block.mlp,
    )


def _one_projection(attention: WMSA) -> bool:
    """Whether one linear layer is behind the attention, having made one of two where possible."""
    merge_projections(attention)
    return type(attention.output_proj) is nn.Identity


def _is_plain(mlp: nn.Module) -> bool:
    """Whether a feed-forward network is two linear layers with an exact GELU between."""
    layers = dict(mlp.named_children())
    fc1, act, fc2 = layers.pop("fc1", None), layers.pop("act", None), layers.pop("fc2", None)
    return (
        type(fc1) is nn.Linear
        and type(fc2) is nn.Linear
        and fc1.in_features == fc2.out_features
        and type(act) is nn.GELU
        and act.approximate == "none"
        and all(type(other) in (nn.Dropout, nn.Identity) for other in layers.values())
    )


def _halves(conv: nn.Conv2d, first: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A 1x1 convolution as two, of the first outputs and of the others."""

    def part(outputs: slice) -> nn.Conv2d:
        half = nn.Conv2d(conv.in_channels, 1, 1, conv.stride, conv.padding, device="meta")
        half.weight, half.bias = (
            nn.Parameter(values[outputs], requires_grad=False)
            for values in (conv.weight, conv.bias)
        )
        half.out_channels = len(half.weight)
        return half

    return part(slice(first)), part(slice(first, None))


def _expansion(split: PatchSplit) -> nn.Conv2d:
    """The linear layer of a split as a convolution."""
    conv = nn.Conv2d(split.dim, 2 * split.dim, 1, bias=False, device="meta")
    conv.weight = nn.Parameter(split.reduction.weight[:, :, None, None], requires_grad=False)
    return conv


def _bias(attention: WindowAttention, masks: Tensor | None) -> Tensor:
    """Relative position bias and masks as the kernel takes them, in one dimension."""
    bias = attention.relative_position_bias().detach()[None]
    if masks is not None:
        bias = bias + masks[:, None]
    # Powers of two are easier than those of e.
    turned = (bias.double() * math.log2(math.e)).float().transpose(-1, -2)
    return F.pad(turned, (0, -turned.size(-1) % _QUERIES)).flatten()


def _norm(norm: nn.Module | None) -> tuple[Tensor, Tensor, float] | None:
    if norm is None:
        return None
    weight = norm.weight.detach()
    return weight, torch.zeros_like(weight) if norm.bias is None else norm.bias.detach(), norm.eps


def _linear(layer: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weights as panels ``(ceil(out / 16), in, 16)``, and the bias of all of their outputs."""
    missing = -layer.out_features % _PANEL
    weight = F.pad(layer.weight.detach(), (0, 0, 0, missing))
    panels = weight.unflatten(0, (-1, _PANEL)).transpose(1, 2).contiguous()
    if layer.bias is None:
        return panels, panels.new_zeros(len(weight))
    return panels, F.pad(layer.bias.detach(), (0, missing))
