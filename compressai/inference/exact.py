# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rewriting a transform so that it is faster and gives the same bits.

Nothing here adds numbers in another order: convolutions and matrix products are the library calls
of the network as it is, on the same values in the same shapes. What goes away are passes over
memory: convolutions apply the activation behind them (oneDNN has one code for both), sums and
roots are written over what they are made of, tokens stay in the order of windows from one end of a
transformer block to the other.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai.inference.blocked import block_runs, is_of_onednn
from compressai.inference.folding import FoldedGDN
from compressai.inference.fusion import FusedConv, fuse_activations
from compressai.inference.windows import (
    WindowedBlocks,
    WindowedResidual,
    from_tokens,
    gelu_,
    to_tokens,
)
from compressai.layers import (
    AttentionBlock,
    ResidualBlock,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
)
from compressai.layers.attn import (
    ConvTransBlock,
    SwinTransformerBlock,
    WinNoShiftAttention,
    WinResidualUnit,
)
from compressai.layers.residual import ResidualUnit
from compressai.models._helpers.naf import NAFBlock

__all__ = ["make_exact"]


def make_exact(network: nn.Module) -> None:
    """Make a folded transform faster, in place, without changing a bit of its result.

    For feature maps in float32 on a CPU, in the default layout. Blocks of classes that are not
    known here and sizes that do not fit windows are computed as they are.

    Args:
        network: only run in evaluation mode and without gradients from now on.
    """
    for module in list(network.modules()):
        if type(module) is nn.Sequential:
            block_runs(module)
    fuse_activations(network, ExactConv)
    for module in list(network.modules()):
        if isinstance(module, nn.ModuleList) and _are_swin_blocks(module):
            blocks = WindowedBlocks(list(module))
            del module[:]
            module.append(blocks)
    _replace_blocks(network)


def _are_swin_blocks(modules: nn.ModuleList) -> bool:
    return len(modules) > 0 and all(
        type(module) is SwinTransformerBlock
        and type(module.norm1) is type(module.norm2) is nn.LayerNorm
        for module in modules
    )


def _replace_blocks(network: nn.Module) -> None:
    for name, child in list(network.named_children()):
        _replace_blocks(child)
        if type(child) in _BLOCKS:
            setattr(network, name, _BLOCKS[type(child)](child))


class ExactConv(FusedConv):
    """Convolution that applies an activation as it writes, where torch would leave it to oneDNN.

    Torch has other code for small maps, and for 1x1 convolutions on a single thread, whose last
    digits are others; then the activation comes behind that.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__(conv, activation)
        self.activate_ = _in_place(activation)

    def forward(self, x: Tensor) -> Tensor:
        if is_of_onednn(self.conv, x):
            return super().forward(x)
        return self.activate_(self.conv(x))


def _in_place(activation: nn.Module) -> Callable[[Tensor], Tensor]:
    """An activation that may write over what it is given."""
    if type(activation) is nn.ReLU:
        return F.relu_
    if type(activation) is nn.LeakyReLU:
        return _LeakyReLU(activation.negative_slope)
    if type(activation) is nn.GELU and activation.approximate == "none":
        return gelu_
    return activation


class _LeakyReLU:
    """A leaky ReLU in place."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def __call__(self, x: Tensor) -> Tensor:
        return F.leaky_relu_(x, self.slope)


class _Exact(nn.Module):
    """Base of blocks that write over what they have computed; ``block`` is the one as it was."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block


class _PixelUnshuffle(_Exact):
    def forward(self, x: Tensor) -> Tensor:
        factor = self.block.downscale_factor
        parts = x.unflatten(-1, (-1, factor)).unflatten(-3, (-1, factor))
        # The same copy, which torch makes three times as fast when it is not told what it is for.
        return parts.permute(0, 1, 3, 5, 2, 4).reshape(
            x.size(0), -1, x.size(2) // factor, x.size(3) // factor
        )


class _GDN(_Exact):
    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        norm = F.conv2d(x.abs() if block.rootless else x**2, block.weight, block.bias)
        if not block.rootless:
            norm = norm.sqrt_() if block.inverse else norm.rsqrt_()
        elif not block.inverse:
            return torch.div(x, norm, out=norm)
        return norm.mul_(x)


class _ResidualBlock(_Exact):
    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        out = block.activation(block.conv2(block.activation(block.conv1(x))))
        return out.add_(x if block.skip is None else block.skip(x))


class _ResidualBlockWithStride(_Exact):
    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        out = block.gdn(block.conv2(block.activation(block.conv1(x))))
        return out.add_(x if block.skip is None else block.skip(x))


class _ResidualBottleneckBlock(_Exact):
    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        out = block.conv3(block.relu2(block.conv2(block.relu1(block.conv1(x)))))
        return out.add_(block.skip(x))


class _ResidualUnit(_Exact):
    def __init__(self, block: ResidualUnit) -> None:
        super().__init__(block)
        self.activate_ = _in_place(block.relu)

    def forward(self, x: Tensor) -> Tensor:
        return self.activate_(self.block.conv(x).add_(x))


class _AttentionBlock(_Exact):
    def forward(self, x: Tensor) -> Tensor:
        mask = self.block.conv_b(x).sigmoid_()
        return mask.mul_(self.block.conv_a(x)).add_(x)


class _WindowGate(_AttentionBlock):
    def __init__(self, block: WinNoShiftAttention) -> None:
        super().__init__(block)
        block.conv_b[0] = WindowedResidual(block.conv_b[0].attn)


class _ConvTransBlock(_Exact):
    def __init__(self, block: ConvTransBlock) -> None:
        super().__init__(block)
        self.windowed = WindowedBlocks([block.trans_block])

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        conv, trans = block.conv1_1(x).split((block.conv_dim, block.trans_dim), dim=1)
        joined = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        torch.add(block.conv_block(conv), conv, out=joined[:, : block.conv_dim])
        from_tokens(self.windowed(to_tokens(trans)), joined[:, block.conv_dim :])
        return block.conv1_2(joined).add_(x)


class _NAFBlock(_Exact):
    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        gated = block.gate(block.pointwise_depthwise(_normalise(block.norm1, x)))
        attended = gated.mul_(block.channel_attention(gated))
        x = block.project(attended).mul_(block.beta).add_(x)
        return block.feed_forward(_normalise(block.norm2, x)).mul_(block.gamma).add_(x)


def _normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Layer normalisation over channels."""
    centred = x - x.mean(dim=1, keepdim=True)
    variance = centred.square().mean(dim=1, keepdim=True)
    normed = centred.mul_(torch.rsqrt(variance + norm.eps))
    return normed.mul_(norm.weight[:, None, None]).add_(norm.bias[:, None, None])


_BLOCKS: dict[type[nn.Module], Callable[[nn.Module], nn.Module]] = {
    nn.PixelUnshuffle: _PixelUnshuffle,
    FoldedGDN: _GDN,
    ResidualBlock: _ResidualBlock,
    ResidualBlockWithStride: _ResidualBlockWithStride,
    ResidualBottleneckBlock: _ResidualBottleneckBlock,
    ResidualUnit: _ResidualUnit,
    WinResidualUnit: _ResidualUnit,
    AttentionBlock: _AttentionBlock,
    WinNoShiftAttention: _WindowGate,
    ConvTransBlock: _ConvTransBlock,
    NAFBlock: _NAFBlock,
}
