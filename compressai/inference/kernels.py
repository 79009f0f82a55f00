# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Layers that run on the native kernels of :mod:`compressai._kernels`.

They take and give float32 feature maps in channels-last layout, and differ from the layers that
they replace in the last digits.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai import _kernels
from compressai.inference.layouts import in_channels_last
from compressai.inference.panels import PANEL, padded, panels, split_phases, transformed
from compressai.layers import GDN, GDN1, ResidualBottleneckBlock
from compressai.layers.naf import LayerNorm2d

__all__ = [
    "ChannelsLastNorm",
    "ExactConv",
    "NativeConv",
    "NativeDepthwise",
    "NativeGDN",
    "NativeLinear",
    "NativePair",
    "fill_panels",
    "is_original",
    "split_convolution",
]


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

    # Where F(4x4, 3x3) and F(2x2, 5x5) evaluate polynomials, and infinity; the kernel has the same.
    points = np.array([0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5)])

    def __init__(
        self,
        conv: nn.Conv2d | nn.ConvTranspose2d,
        activation: nn.Module | None = None,
        shuffle: nn.PixelShuffle | None = None,
        *,
        activate_sum: bool = False,
    ) -> None:
        super().__init__()
        weight = conv.weight.detach()
        bias = weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.factor = 1 if shuffle is None else shuffle.upscale_factor
        if isinstance(conv, nn.ConvTranspose2d):
            self.factor = 2
            weight, bias = split_phases(conv), bias.repeat_interleave(4)
        self.folds = conv.stride == (2, 2) and isinstance(conv, nn.Conv2d)
        if self.folds:
            weight = weight.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]
        self.slope, self.gelu = _slope(activation), type(activation) is nn.GELU
        self.activate_sum = activate_sum
        self.out_channels = len(weight) // self.factor**2
        self.planar = self.out_channels % PANEL > 0
        if activate_sum and self.planar:
            raise ValueError(
                f"activate_sum needs a multiple of {PANEL} channels, conv has {self.out_channels}"
            )
        if not self.planar and self.factor > 1:
            # From (channel, row, column) to (row, column, channel).
            order = torch.arange(len(weight)).reshape(self.out_channels, -1).T.flatten()
            weight, bias = weight[order], bias[order]
        weight, bias = padded(weight), padded(bias)
        kernels = {1: _kernels.conv1x1, 3: _kernels.conv3x3, 5: _kernels.conv5x5}
        self.run = kernels[weight.size(-1)]
        if weight.size(-1) == 1:
            arranged = panels(weight[:, :, 0, 0])
        else:
            arranged = transformed(weight, self.points)
        # Not buffers: nn.Module.to() would change their layout.
        self.weight = arranged.float().contiguous()
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
            known = (conv.kernel_size, conv.stride, conv.padding) in (
                ((1, 1), (1, 1), (0, 0)),
                ((2, 2), (2, 2), (0, 0)),
                ((3, 3), (1, 1), (1, 1)),
                ((5, 5), (1, 1), (2, 2)),
            )
        elif type(conv) is nn.ConvTranspose2d:
            sizes = (conv.kernel_size, conv.stride, conv.padding, conv.output_padding)
            known = shuffle is None and sizes in (
                ((5, 5), (2, 2), (2, 2), (1, 1)),
                ((4, 4), (2, 2), (1, 1), (0, 0)),
                ((2, 2), (2, 2), (0, 0), (0, 0)),
            )
        else:
            return False
        return (
            known
            and conv.dilation == (1, 1)
            and conv.groups == 1
            and conv.padding_mode == "zeros"
            and conv.in_channels % PANEL == 0
        )

    @classmethod
    def can_activate_sum(
        cls, conv: nn.Module, activation: nn.Module, shuffle: nn.Module | None
    ) -> bool:
        """Whether there is a kernel with ``activate_sum``."""
        channels = conv.out_channels // (1 if shuffle is None else shuffle.upscale_factor**2)
        return channels % PANEL == 0 and cls.fits(conv, activation, shuffle)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        taken, out, added = self.maps(x, residual, self.out_channels)
        self.run(
            taken,
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

    def maps(
        self, x: Tensor, residual: Tensor | None, out_channels: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Input, output and what is added, as the kernel takes them; of the output, a view."""
        taken = _folded(self._taken(x)) if self.folds else self._taken(x)
        out = _empty(taken.permute(0, 3, 1, 2), out_channels, self.factor, self.planar)
        if residual is not None and residual.shape != out.shape:
            residual = residual.expand_as(out)
        # The kernel adds none to planes, which are the last result of a network as a rule.
        added = None if self.planar or residual is None else _channels_last(residual)
        return taken, out, added

    def _taken(self, x: Tensor) -> Tensor:
        """The input as the kernel takes it."""
        return _channels_last(x)


class NativePair(nn.Module):
    """Two 1x1 convolutions, the second of what the first gives, in one pass.

    What is between them is often the largest map of a block; it stays in the cache.

    Args:
        first: the first, one that :meth:`begins`.
        second: the second, one that :meth:`ends`; both as :class:`NativeConv`.

    Shape: as :class:`NativeConv`.
    """

    def __init__(self, first: NativeConv, second: NativeConv) -> None:
        super().__init__()
        # Not modules: who looks for layers to fuse finds this one.
        self.parts = (first, second)

    @staticmethod
    def begins(layer: nn.Module | None) -> bool:
        """Whether a layer, if nothing is added to its result, can be the first."""
        return (
            isinstance(layer, NativeConv)
            and layer.weight.dim() == 3
            and layer.factor == 1
            and not layer.planar
        )

    @classmethod
    def ends(cls, layer: nn.Module | None) -> bool:
        """Whether a layer can be the second."""
        return cls.begins(layer) and not layer.folds

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        first, second = self.parts
        taken, out, added = first.maps(x, residual, second.out_channels)
        _kernels.conv1x1_pair(
            taken,
            first.weight,
            first.bias,
            first.slope,
            first.gelu,
            second.weight,
            second.bias,
            second.slope,
            second.gelu,
            added,
            second.activate_sum,
            _channels_last(out),
            torch.get_num_threads(),
        )
        return out


class ExactConv(NativeConv):
    """As :class:`NativeConv`, for networks whose results encoder and decoder must agree on.

    It rounds about as much as the convolution of torch does (``benchmarks/engines.py``): with 3x3
    taps it is computed by F(2x2, 3x3), with 5x5 it does not fit. Inputs may have any number of
    channels from 32 on.
    """

    points = np.array([0.0, 1.0, -1.0])

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, *args: Any, **kwargs: Any) -> None:
        super().__init__(_with_whole_panels(conv), *args, **kwargs)

    @staticmethod
    def fits(
        conv: nn.Module, activation: nn.Module | None = None, shuffle: nn.Module | None = None
    ) -> bool:
        """Whether there is a kernel for a layer and what stands behind it."""
        if type(conv) is nn.Conv2d:
            if conv.kernel_size not in ((1, 1), (2, 2), (3, 3)):
                return False
            # Zeros would be the larger part of few channels.
            conv = conv if conv.in_channels < 2 * PANEL else _with_whole_panels(conv)
        return NativeConv.fits(conv, activation, shuffle)

    def _taken(self, x: Tensor) -> Tensor:
        missing = -x.size(1) % PANEL
        if not missing:
            return _channels_last(x)
        taken = x.new_zeros((x.size(0), *x.shape[2:], x.size(1) + missing))
        taken[..., : x.size(1)] = x.permute(0, 2, 3, 1)
        return taken


def fill_panels(block: nn.Module) -> None:
    """Give a bottleneck of the library a multiple of 16 hidden channels, in place.

    Kernels want that. What reads the added channels multiplies them by zero.

    Args:
        block: any module; others stay as they are.
    """
    if not is_original(block, ResidualBottleneckBlock):
        return
    missing = -block.conv1.out_channels % PANEL
    # Zeros would be the larger part of few channels.
    if missing and block.conv1.out_channels > PANEL:
        block.conv1 = _filled(block.conv1, 0, missing)
        block.conv2 = _filled(block.conv2, missing, missing)
        block.conv3 = _filled(block.conv3, missing, 0)


def _with_whole_panels(conv: nn.Module) -> nn.Module:
    """The same convolution for inputs that zeros fill up to a multiple of 16 channels."""
    missing = -conv.in_channels % PANEL
    if not missing or type(conv) is not nn.Conv2d or conv.groups != 1:
        return conv
    return _filled(conv, missing, 0)


def _filled(conv: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """The same convolution with so many channels of zeros more."""
    twin = copy.copy(conv)
    weight = F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, inputs, 0, outputs))
    twin._parameters = {**conv._parameters, "weight": nn.Parameter(weight, requires_grad=False)}
    if conv.bias is not None:
        bias = F.pad(conv.bias.detach(), (0, outputs))
        twin._parameters["bias"] = nn.Parameter(bias, requires_grad=False)
    twin.in_channels += inputs
    twin.out_channels += outputs
    return twin


class NativeLinear(nn.Module):
    """Linear layer, with what stands behind it: ``activation(linear(x)) + residual``.

    It rounds about as much as the layer of torch does.

    Args:
        linear: one that :meth:`fits`.
        activation: as of :class:`NativeConv`.
        activate_sum: ``activation(linear(x) + residual)`` instead.

    Shape: ``(..., C)``, as ``linear``.
    """

    def __init__(self, linear: nn.Linear, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.out_features = linear.out_features
        self.slope, self.gelu = _slope(activation), type(activation) is nn.GELU
        # Not buffers: nn.Module.to() would change their layout.
        self.weight = panels(linear.weight.detach()).contiguous()
        self.bias = None if linear.bias is None else linear.bias.detach()

    @staticmethod
    def fits(layer: nn.Module, activation: nn.Module | None = None) -> bool:
        """Whether there is a kernel for a layer and what stands behind it."""
        return (
            type(layer) is nn.Linear
            and layer.in_features % PANEL == 0
            and layer.out_features % PANEL == 0
            and (activation is None or _is_known(activation))
        )

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = x.new_empty((*x.shape[:-1], self.out_features))
        if residual is not None and residual.shape != out.shape:
            residual = residual.expand_as(out)
        _kernels.conv1x1(
            _as_row(x),
            self.weight,
            self.bias,
            self.slope,
            self.gelu,
            None if residual is None else _as_row(residual),
            False,
            1,
            0,
            _as_row(out),
            torch.get_num_threads(),
        )
        return out


class NativeDepthwise(nn.Module):
    """Depthwise convolution, with what stands behind it: ``activation(conv(x)) * gate``.

    It rounds about as much as the layer of torch does.

    Args:
        conv: one that :meth:`fits`.
        activation: as of :class:`NativeConv`.

    Shape: ``(N, C, H, W)``, input and output alike, the latter in channels-last layout.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.slope, self.gelu = _slope(activation), type(activation) is nn.GELU
        # Not buffers: nn.Module.to() would change their layout.
        self.weight = conv.weight.detach()[:, 0].permute(1, 2, 0).contiguous()
        self.bias = None if conv.bias is None else conv.bias.detach()

    @staticmethod
    def fits(conv: nn.Module, activation: nn.Module | None = None) -> bool:
        """Whether there is a kernel for a layer and what stands behind it."""
        return (
            type(conv) is nn.Conv2d
            and conv.groups == conv.in_channels == conv.out_channels
            and (conv.kernel_size, conv.stride) == ((3, 3), (1, 1))
            and (conv.padding, conv.dilation) == ((1, 1), (1, 1))
            and conv.padding_mode == "zeros"
            and conv.in_channels % PANEL == 0
            and (activation is None or _is_known(activation))
        )

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        if gate is not None and gate.shape != x.shape:
            return self(x) * gate
        out = _empty(x, x.size(1))
        _kernels.depthwise3x3(
            _channels_last(x),
            self.weight,
            self.bias,
            self.slope,
            self.gelu,
            None if gate is None else _channels_last(gate),
            _channels_last(out),
            torch.get_num_threads(),
        )
        return out


class NativeGDN(nn.Module):
    """GDN and what is added to it: ``gdn(x) + residual``.

    Args:
        gdn: one that :meth:`fits`.
    """

    def __init__(self, gdn: GDN) -> None:
        super().__init__()
        self.inverse, self.rootless = gdn.inverse, type(gdn) is GDN1
        self.gamma = panels(gdn.gamma_reparam(gdn.gamma).detach()).contiguous()
        self.beta = gdn.beta_reparam(gdn.beta).detach()

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether there is a kernel for a layer."""
        return is_original(layer, GDN, GDN1) and layer.beta.numel() % PANEL == 0

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = _empty(x, x.size(1))
        if residual is not None and residual.shape != out.shape:
            residual = residual.expand_as(out)
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


class ChannelsLastNorm(nn.Module):
    """:class:`~compressai.layers.naf.LayerNorm2d` in one pass, for which maps lie right here.

    Args:
        norm: one that :meth:`fits`.

    Shape: ``(N, C, H, W)``, input and output alike, the latter in channels-last layout.
    """

    def __init__(self, norm: LayerNorm2d) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight.detach(), norm.bias.detach(), norm.eps

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether this computes a layer."""
        return is_original(layer, LayerNorm2d)

    def forward(self, x: Tensor) -> Tensor:
        shape = self.weight.shape
        normed = F.layer_norm(_channels_last(x), shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)


def split_convolution(conv: nn.Conv2d, sizes: Sequence[int]) -> list[nn.Conv2d]:
    """A convolution as several ones, each of which gives some of the outputs.

    Args:
        conv: without groups; its weights are shared.
        sizes: numbers of outputs, ``conv.out_channels`` in all.
    """
    biases = [None] * len(sizes) if conv.bias is None else conv.bias.split(list(sizes))
    parts = []
    for weight, bias in zip(conv.weight.split(list(sizes)), biases):
        part = copy.copy(conv)
        part._parameters = {
            "weight": nn.Parameter(weight, requires_grad=False),
            "bias": None if bias is None else nn.Parameter(bias, requires_grad=False),
        }
        part.out_channels = len(weight)
        parts.append(part)
    return parts


def is_original(module: nn.Module, *classes: type[nn.Module]) -> bool:
    """Whether a module computes what one of these classes of the library is written to compute.

    A subclass does not count, nor a class or an instance whose ``forward`` was replaced.
    """
    cls = type(module)
    return (
        cls in classes
        and "forward" not in vars(module)
        and (cls.forward.__module__, cls.forward.__qualname__)
        in {(base.__module__, f"{base.__qualname__}.forward") for base in cls.__mro__}
    )


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


def _channels_last(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` as a contiguous ``(N, H, W, C)``."""
    return in_channels_last(x).permute(0, 2, 3, 1).contiguous()


def _folded(x: Tensor) -> Tensor:
    """``(N, H, W, C)`` as ``(N, H / 2, W / 2, 4 C)``, channels in the order (row, column, C)."""
    n, height, width, channels = x.shape
    height, width = height // 2, width // 2
    pixels = x[:, : 2 * height, : 2 * width].reshape(n, height, 2, width, 2, channels)
    return pixels.transpose(2, 3).reshape(n, height, width, 4 * channels)


def _as_row(x: Tensor) -> Tensor:
    """``(..., C)`` as a contiguous ``(1, 1, positions, C)``."""
    return x.contiguous().view(1, 1, -1, x.size(-1))
