# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Layers for inference on x86 processors with AVX2, for :mod:`compressai.inference`.

Feature maps are float32, CPU, channels last: contiguous ``(N, H, W, C)``, with a multiple of 16
channels. Results differ from those of torch in the last digits. Arguments that do not fit raise
ValueError or TypeError; RuntimeError where :func:`available` is false.
"""

from torch import Tensor

def available() -> bool:
    """Whether this processor has the instructions that the layers need."""

def conv3x3(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    slope: float,
    residual: Tensor | None,
    shuffle: int,
    planes: int,
    out: Tensor,
    threads: int,
) -> None:
    """3x3 convolution of stride 1 and padding 1, with a quarter of the multiplications.

    Args:
        x: ``(N, H, W, in_channels)``.
        weights: ``(36, out_channels / 16, in_channels, 16)``, transformed for F(4x4, 3x3).
        bias: ``(out_channels,)``.
        slope: factor of negative results: 1 none, 0 ReLU, else leaky ReLU.
        residual: of the shape of ``out``; added last.
        shuffle: factor of a pixel shuffle of the result; 1 is none.
        planes: if not 0, ``out`` is ``(N, planes, shuffle H, shuffle W)``, made of the first
            ``planes * shuffle**2`` results in the order (channel, row, column), and there is no
            residual.
        out: written to; ``(N, shuffle H, shuffle W, C)`` of the results in the order (row, column,
            channel), unless there are planes.
        threads: at most as many.

    Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks".
    """

def conv1x1(
    x: Tensor,
    weights: Tensor,
    bias: Tensor | None,
    slope: float,
    residual: Tensor | None,
    shuffle: int,
    planes: int,
    out: Tensor,
    threads: int,
) -> None:
    """1x1 convolution, with the arguments of :func:`conv3x3`.

    Args:
        weights: ``(out_channels / 16, in_channels, 16)``.
    """

def gdn(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    inverse: bool,
    rootless: bool,
    residual: Tensor | None,
    out: Tensor,
    threads: int,
) -> None:
    """Generalised divisive normalisation, ``x / sqrt(beta + gamma x**2)``.

    Args:
        x: ``(N, H, W, C)``.
        gamma: ``(C / 16, C, 16)``, panels of outputs.
        beta: ``(C,)``.
        inverse: multiply instead of dividing.
        rootless: with magnitudes in place of squares, and no root.
        residual: of the shape of ``out``; added last.
        out: written to.
        threads: at most as many.
    """
