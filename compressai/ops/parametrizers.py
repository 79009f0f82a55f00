# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Parametrisation of weights that must not become negative."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai.ops.bound_ops import LowerBound

__all__ = ["NonNegativeParametrizer"]


class NonNegativeParametrizer(nn.Module):
    """Keep a trained parameter at or above a minimum by training (about) its square root.

    :meth:`init` maps a wanted value to the parameter to store, :meth:`forward` maps the stored
    parameter back: ``max(x, bound)**2 - pedestal`` with ``pedestal = reparam_offset**2`` and
    ``bound = sqrt(minimum + pedestal)``. The offset keeps the gradient of the square away from 0,
    the gradient passes the bound as in :class:`~compressai.ops.LowerBound`.

    Args:
        minimum: smallest value that :meth:`forward` returns, at least 0.
        reparam_offset: offset of the square root, at least 0.

    Shape: any, input and output alike.
    Raises:
        ValueError: negative ``minimum`` or ``reparam_offset``.
    Source: Ballé et al. 2018, "Efficient nonlinear transforms for lossy image compression", sec. 2.
    """

    def __init__(self, minimum: float = 0, reparam_offset: float = 2**-18) -> None:
        super().__init__()
        if minimum < 0:
            raise ValueError(f"minimum must be at least 0, got minimum={minimum}")
        if reparam_offset < 0:
            raise ValueError(f"reparam_offset must be at least 0, got {reparam_offset}")
        self.minimum = float(minimum)
        self.reparam_offset = float(reparam_offset)
        pedestal = self.reparam_offset**2
        self.register_buffer("pedestal", torch.tensor([pedestal], dtype=torch.float32))
        self.lower_bound = LowerBound((self.minimum + pedestal) ** 0.5)

    def init(self, x: Tensor) -> Tensor:
        """Return what to store so that :meth:`forward` gives ``x`` (negative values become 0)."""
        return torch.sqrt(torch.maximum(x + self.pedestal, self.pedestal))

    def forward(self, x: Tensor) -> Tensor:
        return self.lower_bound(x) ** 2 - self.pedestal
