# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Layers that run on the native kernels of :mod:`compressai._kernels`.

They take and give float32 feature maps in channels-last layout, and differ from the layers that
they replace in the last digits.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference.folding import FoldedGDN
from compressai.layers import (
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBottleneckBlock,
    ResidualUnit,
)
from compressai.layers.attn import WinResidualUnit

__all__ = ["NativeConv", "NativeGDN", "use_kernels"]

_PANEL = 16


class NativeConv(nn.Module):
    """Convolution, with what stands behind it: ``activation(shuffle(conv(x))) + residual``.

    Args:
        conv: one that :meth:`fits`.
        activation: ``nn.ReLU``, ``nn.LeakyReLU`` or ``nn.GELU``, or None.
        shuffle: ``nn.PixelShuffle`` or None.
        activate_sum: ``activation(shuffle(conv(x)) + residual)`` instead; for outputs of a multiple
            of 16 channels.

    Raises:
        ValueError: ``activate_sum`` with another number of channels.

    Shape: ``(N, C, H, W)``, as ``conv``. The output is in channels-last layout, but in the default
    one if its channels are no multiple of 16.
    """

    def __init__(
        self,
        conv: nn.Conv2d | nn.ConvTranspose2d,
        activation: nn.Module | None = None,
        shuffle: nn.PixelShuffle | None = None,
        *,
        activate_sum: bool = False,
    ) -> None:
        super().__init__()
        weight = conv.weight.detach().double()
        bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.factor = 1 if shuffle is None else shuffle.upscale_factor
        if isinstance(conv, nn.ConvTranspose2d):
            self.factor = 2
            weight, bias = _split_phases(weight), bias.repeat_interleave(4)
        self.slope, self.gelu = _slope(activation), type(activation) is nn.GELU
        self.activate_sum = activate_sum
        self.out_channels = len(weight) // self.factor**2
        self.planar = self.out_channels % _PANEL > 0
        if activate_sum and self.planar:
            raise ValueError(
                f"activate_sum needs a multiple of {_PANEL} channels, conv has {self.out_channels}"
            )
        order = torch.arange(len(weight))
        if not self.planar:
            # From (channel, row, column) to (row, column, channel).
            order = order.reshape(self.out_channels, -1).T.flatten()
        weight, bias = (_padded(values[order]) for values in (weight, bias))
        kernels = {1: _kernels.conv1x1, 3: _kernels.conv3x3, 5: _kernels.conv5x5}
        self.run = kernels[weight.size(-1)]
        panels = _panels(weight[:, :, 0, 0]) if weight.size(-1) == 1 else _transform(weight)
        # Not buffers: nn.Module.to() would change their layout.
        self.weight = panels.float().contiguous()
        self.bias = bias.float()

    @staticmethod
    def fits(
        conv: nn.Module, activation: nn.Module | None = None, shuffle: nn.Module | None = None
    ) -> bool:
        """Whether there is a kernel for a layer and what stands behind it."""
        if activation is not None and not _is_known(activation):
            return False
        if shuffle is not None and type(shuffle) is not nn.PixelShuffle:
            return False
        if type(conv) is nn.Conv2d:
            known = conv.stride == (1, 1) and (conv.kernel_size, conv.padding) in (
                ((1, 1), (0, 0)),
                ((3, 3), (1, 1)),
                ((5, 5), (2, 2)),
            )
        elif type(conv) is nn.ConvTranspose2d:
            known = shuffle is None and (
                conv.kernel_size,
                conv.stride,
                conv.padding,
                conv.output_padding,
            ) == ((5, 5), (2, 2), (2, 2), (1, 1))
        else:
            return False
        return (
            known
            and conv.dilation == (1, 1)
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and conv.in_channels % _PANEL == 0
        )

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = _empty(x, self.out_channels, self.factor, self.planar)
        # The kernel adds none to planes, which are the last result of a network as a rule.
        added = None if self.planar or residual is None else _channels_last(residual)
        self.run(
            _channels_last(x),
            self.weight,
            self.bias,
            self.slope,
            self.gelu,
            added,
            self.activate_sum,
            self.factor,
            self.out_channels if self.planar else 0,
            out if self.planar else _channels_last(out),
            torch.get_num_threads(),
        )
        return out + residual if self.planar and residual is not None else out


class NativeGDN(nn.Module):
    """GDN and what is added to it: ``gdn(x) + residual``.

    Args:
        gdn: with a multiple of 16 channels.
    """

    def __init__(self, gdn: FoldedGDN) -> None:
        super().__init__()
        self.inverse, self.rootless = gdn.inverse, gdn.rootless
        self.gamma = _panels(gdn.weight.detach()[:, :, 0, 0]).contiguous()
        self.beta = gdn.bias.detach()

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = _empty(x, x.size(1))
        _kernels.gdn(
            _channels_last(x),
            self.gamma,
            self.beta,
            self.inverse,
            self.rootless,
            None if residual is None else _channels_last(residual),
            _channels_last(out),
            torch.get_num_threads(),
        )
        return out


def use_kernels(network: nn.Module) -> None:
    """Replace, in place, the layers and blocks that kernels compute faster.

    Nothing changes on processors without kernels.

    Args:
        network: float32, on the CPU, its GDN folded.
    """
    if not _kernels.available():
        return
    if isinstance(network, nn.Sequential):
        _join(network)
    for name, child in list(network.named_children()):
        block = _BLOCKS.get(type(child))
        replaced = None if block is None else block(child)
        if replaced is None and NativeConv.fits(child):
            replaced = NativeConv(child)
        elif type(child) is FoldedGDN and child.bias.numel() % _PANEL == 0:
            replaced = NativeGDN(child)
        if replaced is not None:
            setattr(network, name, replaced)
        else:
            use_kernels(child)


def _join(layers: nn.Sequential) -> None:
    """Let convolutions of a sequence do what stands behind them."""
    names = [name for name, _ in layers.named_children()]
    for place, name in enumerate(names):
        conv, *behind = [layers.get_submodule(other) for other in names[place : place + 3]]
        shuffle = behind.pop(0) if behind and type(behind[0]) is nn.PixelShuffle else None
        activation = behind[0] if behind and _is_known(behind[0]) else None
        if not NativeConv.fits(conv, activation, shuffle):
            continue
        setattr(layers, name, NativeConv(conv, activation, shuffle))
        done = (shuffle is not None) + (activation is not None)
        for other in names[place + 1 : place + 1 + done]:
            setattr(layers, other, nn.Identity())


class _ResidualBlock(nn.Module):
    def __init__(self, conv1: nn.Module, conv2: nn.Module, skip: nn.Module | None) -> None:
        super().__init__()
        self.conv1, self.conv2, self.skip = conv1, conv2, skip

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x), x if self.skip is None else self.skip(x))


class _ResidualBlockUpsample(nn.Module):
    def __init__(
        self, subpel_conv: nn.Module, conv: nn.Module, igdn: nn.Module, upsample: nn.Module
    ) -> None:
        super().__init__()
        self.subpel_conv, self.conv, self.igdn = subpel_conv, conv, igdn
        self.upsample = upsample

    def forward(self, x: Tensor) -> Tensor:
        return self.igdn(self.conv(self.subpel_conv(x)), self.upsample(x))


class _ResidualBottleneckBlock(nn.Module):
    def __init__(
        self, conv1: nn.Module, conv2: nn.Module, conv3: nn.Module, skip: nn.Module | None
    ) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.skip = conv1, conv2, conv3, skip

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.skip is None else self.skip(x)
        return self.conv3(self.conv2(self.conv1(x)), skip)


class _ResidualUnit(nn.Module):
    def __init__(self, conv1: nn.Module, conv2: nn.Module, conv3: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = conv1, conv2, conv3

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.conv2(self.conv1(x)), x)


def _residual_unit(block: ResidualUnit) -> nn.Module | None:
    conv1, act, conv2, _, conv3 = block.conv
    if not all(NativeConv.fits(conv, act) for conv in (conv1, conv2, conv3)):
        return None
    if conv3.out_channels % _PANEL:
        return None
    return _ResidualUnit(
        NativeConv(conv1, act),
        NativeConv(conv2, act),
        NativeConv(conv3, act, activate_sum=True),
    )


def _residual_block(block: ResidualBlock) -> nn.Module | None:
    act = block.activation
    if not all(NativeConv.fits(conv, act) for conv in (block.conv1, block.conv2)):
        return None
    if block.skip is not None and not NativeConv.fits(block.skip):
        return None
    skip = None if block.skip is None else NativeConv(block.skip)
    return _ResidualBlock(NativeConv(block.conv1, act), NativeConv(block.conv2, act), skip)


def _residual_block_upsample(block: ResidualBlockUpsample) -> nn.Module | None:
    wide, shuffle = block.subpel_conv
    beside, _ = block.upsample
    if not (
        NativeConv.fits(wide, block.activation, shuffle)
        and NativeConv.fits(beside, None, shuffle)
        and NativeConv.fits(block.conv)
        and type(block.igdn) is FoldedGDN
    ):
        return None
    return _ResidualBlockUpsample(
        NativeConv(wide, block.activation, shuffle),
        NativeConv(block.conv),
        NativeGDN(block.igdn),
        NativeConv(beside, shuffle=shuffle),
    )


def _residual_bottleneck_block(block: ResidualBottleneckBlock) -> nn.Module | None:
    plain = type(block.skip) is nn.Identity
    if not (
        NativeConv.fits(block.conv1, block.relu1)
        and NativeConv.fits(block.conv2, block.relu2)
        and NativeConv.fits(block.conv3)
        and (plain or NativeConv.fits(block.skip))
    ):
        return None
    return _ResidualBottleneckBlock(
        NativeConv(block.conv1, block.relu1),
        NativeConv(block.conv2, block.relu2),
        NativeConv(block.conv3),
        None if plain else NativeConv(block.skip),
    )


_BLOCKS = {
    ResidualBlock: _residual_block,
    ResidualBlockUpsample: _residual_block_upsample,
    ResidualBottleneckBlock: _residual_bottleneck_block,
    ResidualUnit: _residual_unit,
    WinResidualUnit: _residual_unit,
}


def _is_known(activation: nn.Module) -> bool:
    if type(activation) is nn.GELU:
        return activation.approximate == "none"
    return type(activation) in (nn.ReLU, nn.LeakyReLU)


def _slope(activation: nn.Module | None) -> float:
    if activation is None:
        return 1.0
    return activation.negative_slope if type(activation) is nn.LeakyReLU else 0.0


def _empty(x: Tensor, channels: int, scale: int = 1, planar: bool = False) -> Tensor:
    shape = (x.size(0), channels, scale * x.size(2), scale * x.size(3))
    layout = torch.contiguous_format if planar else torch.channels_last
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def _padded(values: Tensor) -> Tensor:
    """Zeros behind the first axis, up to whole panels."""
    return torch.cat([values, values.new_zeros(-len(values) % _PANEL, *values.shape[1:])])


def _channels_last(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` as a contiguous ``(N, H, W, C)``."""
    return x.permute(0, 2, 3, 1).contiguous()


def _panels(matrix: Tensor) -> Tensor:
    """``(out, in)`` as panels ``(out / 16, in, 16)``."""
    return matrix.unflatten(-2, (-1, _PANEL)).transpose(-1, -2)


def _split_phases(weight: Tensor) -> Tensor:
    """The 3x3 convolution whose pixel shuffle is a transposed 5x5 convolution of stride 2.

    Result ``2 m + r`` on an axis sees input ``m + d`` through tap ``r + 2 - 2 d`` of the five.

    Args:
        weight: ``(in, out, 5, 5)``.

    Returns:
        ``(4 out, in, 3, 3)``, outputs in the order (channel, row, column).
    """
    phases = weight.new_zeros(weight.size(1), 2, 2, weight.size(0), 3, 3)
    taps = [(r, d, r + 2 - 2 * d) for r in (0, 1) for d in (-1, 0, 1) if r + 2 - 2 * d < 5]
    for row, down, i in taps:
        for column, right, j in taps:
            phases[:, row, column, :, 1 + down, 1 + right] = weight[:, :, i, j].T
    return phases.flatten(0, 2)


# Where F(4x4, 3x3) and F(2x2, 5x5) evaluate polynomials, and infinity; the kernel has the same.
_POINTS = np.array([0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])


def _transform(weight: Tensor) -> Tensor:
    """``(out, in, k, k)`` as ``(36, out / 16, in, 16)``: ``G w G^T`` of Lavin and Gray 2016."""
    taps = weight.size(-1)
    differences = _POINTS[:, None] - _POINTS[None, :]
    np.fill_diagonal(differences, 1)
    rows = _POINTS[:, None] ** np.arange(taps) / differences.prod(axis=1, keepdims=True)
    g = torch.from_numpy(np.vstack([rows, np.arange(taps) == taps - 1])).to(weight)
    return _panels(torch.einsum("ak,oikl,bl->aboi", g, weight, g).flatten(0, 1))
