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
from compressai.inference.kernels import is_original
from compressai.layers.attn import (
    WMSA,
    Block,
    SwinTransformerBlock,
    WindowAttention,
)
from compressai.layers.attn.attention import ShiftedWindows
from compressai.models.dcae import GatedWindowAttention

__all__ = ["NativeWindowBlock", "native_window_block"]

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
        attention: WindowAttention | GatedWindowAttention,
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
        known = is_original(attention, WindowAttention, GatedWindowAttention)
        return known and (mlp is None or _is_plain(mlp))

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


def native_window_block(module: nn.Module) -> NativeWindowBlock | None:
    """What computes the same as a block or an attention on the kernel, if it can.

    The kernel does a whole block, since it is the passes over memory between attention and
    feed-forward network that it saves. It is written after the formulas of :class:`WMSA`,
    :class:`Block` and :class:`SwinTransformerBlock`; modules whose formula was replaced are left.

    Args:
        module: float32, on the CPU, in evaluation mode. Its weights may be changed.
    """
    if not is_original(module, WMSA, Block, SwinTransformerBlock):
        return None
    if type(module) is Block:
        if type(module.residual_proj) is not nn.Identity or not is_original(module.msa, WMSA):
            return None
        return _transformer_block(module, module.msa)
    if type(module) is SwinTransformerBlock:
        return _transformer_block(module, module)
    if _one_projection(module) and NativeWindowBlock.fits(module.attn):
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
    first, second = attention.attn.proj, attention.output_proj
    if isinstance(second, nn.Linear) and second.in_features == second.out_features:
        wide = second.weight.double()
        merged = nn.Linear(first.in_features, second.out_features)
        merged.weight.data = (wide @ first.weight.double()).float()
        merged.bias.data = (wide @ first.bias.double() + second.bias.double()).float()
        attention.attn.proj = merged.requires_grad_(False)
        attention.output_proj = nn.Identity()
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


def _bias(attention: WindowAttention | GatedWindowAttention, masks: Tensor | None) -> Tensor:
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
