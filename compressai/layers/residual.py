# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convolution helpers and the residual and attention blocks built from them.

Activations are not in place and no input is modified, so blocks can be traced, hooked, compiled
and run in channels-last layout. State-dict keys follow the attribute names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai.layers.gdn import GDN

__all__ = [
    "AttentionBlock",
    "ResidualBlock",
    "ResidualBlockUpsample",
    "ResidualBlockWithStride",
    "ResidualBottleneckBlock",
    "ResidualUnit",
    "conv1x1",
    "conv3x3",
    "subpel_conv3x3",
]


def conv3x3(in_ch: int, out_ch: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution with padding 1 and bias."""
    return nn.Conv2d(in_ch, out_ch, kernel_size=3, stride=stride, padding=1)


def conv1x1(in_ch: int, out_ch: int, stride: int = 1) -> nn.Conv2d:
    """Return a 1x1 convolution with bias."""
    return nn.Conv2d(in_ch, out_ch, kernel_size=1, stride=stride)


def subpel_conv3x3(in_ch: int, out_ch: int, r: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution followed by a pixel shuffle that enlarges both sides ``r`` times.

    Source: Shi et al. 2016, "Real-time single image and video super-resolution using an efficient
    sub-pixel convolutional neural network".
    """
    return nn.Sequential(conv3x3(in_ch, out_ch * r**2), nn.PixelShuffle(r))


class _ActivatedBlock(nn.Module):
    """A block with one activation behind some of its convolutions.

    Attributes:
        activation_name: name of the activation's module: ``leaky_relu``, or ``act`` for others.
    """

    activation_name = "leaky_relu"

    def _add_activation(self, activation: type[nn.Module] | None) -> None:
        if activation is None:
            self.leaky_relu = nn.LeakyReLU()
        else:
            self.activation_name = "act"
            self.act = activation()

    @property
    def activation(self) -> nn.Module:
        """The activation's module."""
        return getattr(self, self.activation_name)


class ResidualBlockWithStride(_ActivatedBlock):
    """Residual block that reduces the size, with GDN behind its second convolution.

    ``gdn(conv2(leaky_relu(conv1(x)))) + skip(x)``; ``skip`` is a strided 1x1 convolution, or None
    (the input itself) if neither size nor channels change.

    Args:
        in_ch: input channels.
        out_ch: output channels.
        stride: by how much both sides shrink.
        activation: class of an activation in place of the leaky ReLU.

    Shape: ``(N, in_ch, H, W)`` to ``(N, out_ch, ceil(H / stride), ceil(W / stride))``.
    Source: Cheng et al. 2020, "Learned image compression with discretized Gaussian mixture
    likelihoods and attention modules", sec. 3.
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        stride: int = 2,
        *,
        activation: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_ch, out_ch, stride=stride)
        self._add_activation(activation)
        self.conv2 = conv3x3(out_ch, out_ch)
        self.gdn = GDN(out_ch)
        keeps_shape = stride == 1 and in_ch == out_ch
        self.skip = None if keeps_shape else conv1x1(in_ch, out_ch, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        out = self.gdn(self.conv2(self.activation(self.conv1(x))))
        return out + (x if self.skip is None else self.skip(x))


class ResidualBlockUpsample(_ActivatedBlock):
    """Residual block that enlarges, with sub-pixel convolutions and inverse GDN.

    ``igdn(conv(leaky_relu(subpel_conv(x)))) + upsample(x)``.

    Args:
        in_ch: input channels.
        out_ch: output channels.
        upsample: by how much both sides grow.
        activation: class of an activation in place of the leaky ReLU.

    Shape: ``(N, in_ch, H, W)`` to ``(N, out_ch, H * upsample, W * upsample)``.
    Source: Cheng et al. 2020, as :class:`ResidualBlockWithStride`.
    """

    def __init__(
        self,
        in_ch: int,
        out_ch: int,
        upsample: int = 2,
        *,
        activation: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.subpel_conv = subpel_conv3x3(in_ch, out_ch, upsample)
        self._add_activation(activation)
        self.conv = conv3x3(out_ch, out_ch)
        self.igdn = GDN(out_ch, inverse=True)
        self.upsample = subpel_conv3x3(in_ch, out_ch, upsample)

    def forward(self, x: Tensor) -> Tensor:
        out = self.igdn(self.conv(self.activation(self.subpel_conv(x))))
        return out + self.upsample(x)


class ResidualBlock(_ActivatedBlock):
    """Two 3x3 convolutions with leaky ReLUs beside a skip.

    ``leaky_relu(conv2(leaky_relu(conv1(x)))) + skip(x)``; ``skip`` is a 1x1 convolution, or None
    (the input itself) for equal channels.

    Args:
        in_ch: input channels.
        out_ch: output channels.
        activation: class of an activation in place of the leaky ReLU.

    Shape: ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``.
    Source: Cheng et al. 2020, as :class:`ResidualBlockWithStride`.
    """

    def __init__(
        self, in_ch: int, out_ch: int, *, activation: type[nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_ch, out_ch)
        self._add_activation(activation)
        self.conv2 = conv3x3(out_ch, out_ch)
        self.skip = None if in_ch == out_ch else conv1x1(in_ch, out_ch)

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.conv2(self.activation(self.conv1(x))))
        return out + (x if self.skip is None else self.skip(x))


class ResidualBottleneckBlock(nn.Module):
    """Residual block whose 3x3 convolution works at half the channels.

    ``conv3(relu2(conv2(relu1(conv1(x))))) + skip(x)``; ``skip`` is a 1x1 convolution, or the
    identity for equal channels.

    Args:
        in_ch: input channels.
        out_ch: output channels.

    Shape: ``(N, in_ch, H, W)`` to ``(N, out_ch, H, W)``.
    Source: He et al. 2022, "ELIC: Efficient learned image compression with unevenly grouped
    space-channel contextual adaptive coding", fig. 6.
    """

    def __init__(self, in_ch: int, out_ch: int) -> None:
        super().__init__()
        mid_ch = min(in_ch, out_ch) // 2
        self.conv1 = conv1x1(in_ch, mid_ch)
        self.relu1 = nn.ReLU()
        self.conv2 = conv3x3(mid_ch, mid_ch)
        self.relu2 = nn.ReLU()
        self.conv3 = conv1x1(mid_ch, out_ch)
        self.skip = nn.Identity() if in_ch == out_ch else conv1x1(in_ch, out_ch)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu1(self.conv1(x))
        out = self.conv3(self.relu2(self.conv2(out)))
        return out + self.skip(x)


class ResidualUnit(nn.Module):
    """Bottleneck unit of the attention blocks, with an activation behind the sum.

    ``act(conv(x) + x)`` with ``conv`` = 1x1 to N // 2, act, 3x3, act, 1x1 to N.

    Args:
        N: channels.
        activation: class of the activation, called without arguments.

    Shape: ``(N, C, H, W)``, input and output alike.
    Source: Cheng et al. 2020, as :class:`AttentionBlock`.
    """

    def __init__(self, N: int, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            conv1x1(N, N // 2),
            activation(),
            conv3x3(N // 2, N // 2),
            activation(),
            conv1x1(N // 2, N),
        )
        self.relu = activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.conv(x) + x)


class AttentionBlock(nn.Module):
    """Simplified attention: a trunk of residual units gated by a mask branch, beside a skip.

    ``conv_a(x) * sigmoid(conv_b(x)) + x``.

    Args:
        N: channels.

    Shape: ``(B, N, H, W)``, input and output alike.
    Source: Cheng et al. 2020, "Learned image compression with discretized Gaussian mixture
    likelihoods and attention modules", fig. 6 (without the non-local block).
    """

    def __init__(self, N: int) -> None:
        super().__init__()
        self.conv_a = nn.Sequential(*(ResidualUnit(N) for _ in range(3)))
        self.conv_b = nn.Sequential(*(ResidualUnit(N) for _ in range(3)), conv1x1(N, N))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_a(x) * torch.sigmoid(self.conv_b(x)) + x
