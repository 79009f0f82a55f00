# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Weights as the native kernels of :mod:`compressai._kernels` take them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["PANEL", "padded", "panels", "split_phases", "transformed"]

PANEL = 16
"""Outputs in a panel."""


def padded(values: Tensor) -> Tensor:
    """Zeros behind the first axis, up to whole panels."""
    missing = -len(values) % PANEL
    return torch.cat([values, values.new_zeros(missing, *values.shape[1:])]) if missing else values


def panels(matrix: Tensor) -> Tensor:
    """``(out, in)`` as panels ``(out / 16, in, 16)``."""
    return matrix.unflatten(-2, (-1, PANEL)).transpose(-1, -2)


def split_phases(conv: nn.ConvTranspose2d) -> Tensor:
    """The convolution whose pixel shuffle is a transposed convolution of stride 2.

    Result ``2 m + r`` on an axis sees input ``m + d`` through tap ``r + padding - 2 d``.

    Args:
        conv: with 5, 4 or 2 taps and the padding that doubles the sides.

    Returns:
        ``(4 out, in, 3, 3)``, of 2 taps ``(4 out, in, 1, 1)``; outputs in the order (channel, row,
        column).
    """
    weight = conv.weight.detach()
    taps, padding = weight.size(-1), int(conv.padding[0])
    reach = 0 if taps == 2 else 1
    side = 2 * reach + 1
    phases = weight.new_zeros(weight.size(1), 2, 2, weight.size(0), side, side)
    places = [
        (r, reach + d, tap)
        for r in (0, 1)
        for d in range(-reach, reach + 1)
        if 0 <= (tap := r + padding - 2 * d) < taps
    ]
    for row, down, i in places:
        for column, right, j in places:
            phases[:, row, column, :, down, right] = weight[:, :, i, j].T
    return phases.flatten(0, 2)


def transformed(weight: Tensor, points: np.ndarray) -> Tensor:
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
    products = (weight.flatten(2).double() @ torch.kron(g, g).T).float()
    return products.unflatten(0, (-1, PANEL)).permute(3, 0, 2, 1)
