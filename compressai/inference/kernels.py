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
from compressai.layers import GDN, GDN1

__all__ = [
    "ExactConv",
    "NativeConv",
    "NativeDepthwise",
    "NativeGDN",
    "NativeLinear",
    "is_original",
    "split_convolution",
]

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
            weight, bias = _split_phases(weight), bias.repeat_interleave(4)
        self.slope, self.gelu = _slope(activation), type(activation) is nn.GELU
        self.activate_sum = activate_sum
        self.out_channels = len(weight) // self.factor**2
        self.planar = self.out_channels % _PANEL > 0
        if activate_sum and self.planar:
            raise ValueError(
                f"activate_sum needs a multiple of {_PANEL} channels, conv has {self.out_channels}"
            )
        if not self.planar and self.factor > 1:
            # From (channel, row, column) to (row, column, channel).
            order = torch.arange(len(weight)).reshape(self.out_channels, -1).T.flatten()
            weight, bias = weight[order], bias[order]
        weight, bias = _padded(weight), _padded(bias)
        kernels = {1: _kernels.conv1x1, 3: _kernels.conv3x3, 5: _kernels.conv5x5}
        self.run = kernels[weight.size(-1)]
        if weight.size(-1) == 1:
            panels = _panels(weight[:, :, 0, 0])
        else:
            panels = _transform(weight, self.points)
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

    @classmethod
    def can_activate_sum(
        cls, conv: nn.Module, activation: nn.Module, shuffle: nn.Module | None
    ) -> bool:
        """Whether there is a kernel with ``activate_sum``."""
        channels = conv.out_channels // (1 if shuffle is None else shuffle.upscale_factor**2)
        return channels % _PANEL == 0 and cls.fits(conv, activation, shuffle)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        out = _empty(x, self.out_channels, self.factor, self.planar)
        if residual is not None and residual.shape != out.shape:
            residual = residual.expand_as(out)
        # The kernel adds none to planes, which are the last result of a network as a rule.
        added = None if self.planar or residual is None else _channels_last(residual)
        self.run(
            self._taken(x),
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

    def _taken(self, x: Tensor) -> Tensor:
        """The input as the kernel takes it."""
        return _channels_last(x)


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
            if conv.kernel_size not in ((1, 1), (3, 3)):
                return False
            # Zeros would be the larger part of few channels.
            conv = conv if conv.in_channels < 2 * _PANEL else _with_whole_panels(conv)
        return NativeConv.fits(conv, activation, shuffle)

    def _taken(self, x: Tensor) -> Tensor:
        missing = -x.size(1) % _PANEL
        if not missing:
            return _channels_last(x)
        taken = x.new_zeros((x.size(0), *x.shape[2:], x.size(1) + missing))
        taken[..., : x.size(1)] = x.permute(0, 2, 3, 1)
        return taken


def _with_whole_panels(conv: nn.Module) -> nn.Module:
    """The same convolution for inputs that zeros fill up to a multiple of 16 channels."""
    missing = -conv.in_channels % _PANEL
    if not missing or type(conv) is not nn.Conv2d or conv.groups != 1:
        return conv
    twin = copy.copy(conv)
    weight = F.pad(conv.weight.detach(), (0, 0, 0, 0, 0, missing))
    twin._parameters = {**conv._parameters, "weight": nn.Parameter(weight, requires_grad=False)}
    twin.in_channels += missing
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
        self.weight = _panels(linear.weight.detach()).contiguous()
        self.bias = None if linear.bias is None else linear.bias.detach()

    @staticmethod
    def fits(layer: nn.Module, activation: nn.Module | None = None) -> bool:
        """Whether there is a kernel for a layer and what stands behind it."""
        return (
            type(layer) is nn.Linear
            and layer.in_features % _PANEL == 0
            and layer.out_features % _PANEL == 0
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
            and conv.in_channels % _PANEL == 0
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
        self.gamma = _panels(gdn.gamma_reparam(gdn.gamma).detach()).contiguous()
        self.beta = gdn.beta_reparam(gdn.beta).detach()

    @staticmethod
    def fits(layer: nn.Module) -> bool:
        """Whether there is a kernel for a layer."""
        return is_original(layer, GDN, GDN1) and layer.beta.numel() % _PANEL == 0

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


def _padded(values: Tensor) -> Tensor:
    """Zeros behind the first axis, up to whole panels."""
    missing = -len(values) % _PANEL
    return torch.cat([values, values.new_zeros(missing, *values.shape[1:])]) if missing else values


def _channels_last(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` as a contiguous ``(N, H, W, C)``."""
    return x.permute(0, 2, 3, 1).contiguous()


def _as_row(x: Tensor) -> Tensor:
    """``(..., C)`` as a contiguous ``(1, 1, positions, C)``."""
    return x.contiguous().view(1, 1, -1, x.size(-1))


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


def _transform(weight: Tensor, points: np.ndarray) -> Tensor:
    """``(out, in, k, k)`` as ``(positions, out / 16, in, 16)``: ``G w G^T`` of Lavin and Gray 2016.

    Args:
        weight: of the convolution.
        points: without infinity; the number of positions is the square of one more.
    """
    taps = weight.size(-1)
    differences = points[:, None] - points[None, :]
    np.fill_diagonal(differences, 1)
    rows = points[:, None] ** np.arange(taps) / differences.prod(axis=1, keepdims=True)
    g = torch.from_numpy(np.vstack([rows, np.arange(taps) == taps - 1]))
    # One product of matrices for all positions: weights are many.
    transformed = (weight.flatten(2).double() @ torch.kron(g, g).T).float()
    return transformed.unflatten(0, (-1, _PANEL)).permute(3, 0, 2, 1)
