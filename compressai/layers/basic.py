# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Modules that move or scale data without mixing it; the small change of ``nn.Sequential``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Gain", "Interleave", "Lambda", "NamedLayer", "Reshape", "Transpose"]


class Lambda(nn.Module):
    """Call a function as a module.

    Args:
        func: called with the input; its result is returned. Use a module-level function where the
            model is to be pickled.
    """

    def __init__(self, func: Callable[[Any], Any]) -> None:
        super().__init__()
        self.func = func

    def forward(self, x: Any) -> Any:
        return self.func(x)

    def extra_repr(self) -> str:
        return f"func={self.func!r}"


class NamedLayer(nn.Module):
    """Identity that carries a name, a landmark inside a long ``nn.Sequential``.

    Args:
        name: shown in ``repr`` and kept as attribute.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        return x

    def extra_repr(self) -> str:
        return f"name={self.name!r}"


class Reshape(nn.Module):
    """Reshape everything behind the batch axis.

    Args:
        shape: new shape without the batch axis; one entry may be -1.

    Shape: ``(B, ...)`` to ``(B, *shape)``.
    Raises:
        RuntimeError: (forward) the number of elements does not fit; a second argument of the
            exception names both shapes.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        output_shape = (x.shape[0], *self.shape)
        try:
            return x.reshape(output_shape)
        except RuntimeError as error:
            error.args += (f"cannot reshape input {tuple(x.shape)} to {output_shape}",)
            raise

    def extra_repr(self) -> str:
        return f"shape={self.shape}"


class Transpose(nn.Module):
    """Swap two axes and make the result contiguous.

    Args:
        dim0: first axis, batch axis included in the count.
        dim1: second axis.
    """

    def __init__(self, dim0: int, dim1: int) -> None:
        super().__init__()
        self.dim0 = dim0
        self.dim1 = dim1

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(self.dim0, self.dim1).contiguous()

    def extra_repr(self) -> str:
        return f"dim0={self.dim0}, dim1={self.dim1}"


class Interleave(nn.Module):
    """Interleave equal groups of channels (channel shuffle).

    Channel ``a * groups + b`` of the output is channel ``b * (C // groups) + a`` of the input.

    Args:
        groups: number of groups.

    Shape: ``(N, C, ...)``, input and output alike.
    Raises:
        RuntimeError: (forward) C is not divisible by ``groups``.
    Source: Zhang et al. 2018, "ShuffleNet", sec. 3.1.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        if channels % self.groups:
            raise RuntimeError(
                f"channels must be divisible by groups, got C={channels}, groups={self.groups}"
            )
        split = x.reshape(x.shape[0], self.groups, channels // self.groups, *x.shape[2:])
        return split.transpose(1, 2).reshape(x.shape)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Gain(nn.Module):
    """Multiply by a learned gain, which starts at 1, and a fixed factor.

    A factor other than 1 scales the effective learning rate of the gain.

    Args:
        shape: shape of the parameter ``gain``, broadcastable to the input. Has no usable default.
        factor: constant multiplier.

    Raises:
        TypeError: ``shape`` is None.
    """

    def __init__(self, shape: Sequence[int] | int | None = None, factor: float = 1.0) -> None:
        super().__init__()
        if shape is None:
            raise TypeError("shape must be an int or a sequence of ints, got None")
        self.factor = factor
        self.gain = nn.Parameter(torch.ones(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.gain * x

    def extra_repr(self) -> str:
        return f"shape={tuple(self.gain.shape)}, factor={self.factor}"
