# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rounding that training can see through, or that is relaxed to something smooth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["quantize_ste", "relaxed_rounding", "rounded", "rounding_is_relaxed", "ste_round"]

_relaxation: ContextVar[Callable[[Tensor], Tensor] | None] = ContextVar("relaxation", default=None)


@contextmanager
def relaxed_rounding(relaxation: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within, networks of this thread round by a function that has a gradient.

    It takes the place of :func:`rounded` and :func:`quantize_ste`, and so of rounding in the
    ``forward`` of every model in evaluation mode. Coding rounds as before, but without dead zones:
    whoever relaxes rounding sees to the rate.

    Args:
        relaxation: from a tensor to one of its shape.
    """
    token = _relaxation.set(relaxation)
    try:
        yield
    finally:
        _relaxation.reset(token)


def rounding_is_relaxed() -> bool:
    """Whether :func:`relaxed_rounding` is on."""
    return _relaxation.get() is not None


def rounded(x: Tensor) -> Tensor:
    """Round to the nearest integer (half to even).

    Args:
        x: floating-point tensor, any shape.

    Returns:
        Tensor of the same shape and dtype, without gradient unless :func:`relaxed_rounding` is on.
    """
    relaxation = _relaxation.get()
    return torch.round(x) if relaxation is None else relaxation(x)


def quantize_ste(x: Tensor) -> Tensor:
    """Round to the nearest integer (half to even) with the gradient of the identity.

    The value is exactly ``round(x)`` in float32: ``round(x) - x`` is representable, hence so is
    the sum that gives the straight-through estimator its gradient.

    Args:
        x: floating-point tensor, any shape.

    Returns:
        Tensor of the same shape and dtype.

    Source: Theis et al. 2017, "Lossy image compression with compressive autoencoders", sec. 2.1.
    """
    relaxation = _relaxation.get()
    if relaxation is not None:
        return relaxation(x)
    return (torch.round(x) - x).detach() + x


# Its name in code of other authors.
ste_round = quantize_ste
