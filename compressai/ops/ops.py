# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rounding that training can see through."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["quantize_ste", "ste_round"]


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
    return (torch.round(x) - x).detach() + x


# Its name in code of other authors.
ste_round = quantize_ste
