# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Haar wavelets: one level of the orthonormal transform and its inverse, as fixed arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["DWT2D", "IDWT2D"]


def _check(wave: str, mode: str) -> None:
    if wave != "haar":
        raise ValueError(f"wave must be 'haar', got {wave!r}")
    if mode != "zero":
        raise ValueError(f"mode must be 'zero', got {mode!r}")


class DWT2D(nn.Module):
    """Split a map into four bands of half its size.

    For the values ``p q / r t`` of a 2x2 block of one channel the bands are, each halved,
    LL ``p + q + r + t``, LH ``p + q - r - t``, HL ``p - q + r - t``, HH ``p - q - r + t``.

    Args:
        wave: ``"haar"``.
        mode: ``"zero"``; without effect, since nothing is padded.

    Shape: ``(N, C, H, W)``, H and W even, to ``(N, 4 * C, H / 2, W / 2)``: all channels of LL,
    then of LH, HL and HH.
    Raises:
        ValueError: another ``wave`` or ``mode``; (forward) an odd side.
    Source: Mallat 1989, "A theory for multiresolution signal decomposition: the wavelet
    representation"; its use here: Li et al. 2025, "On disentangled training for nonlinear transform
    in learned image compression".
    """

    def __init__(self, wave: str = "haar", mode: str = "zero") -> None:
        super().__init__()
        _check(wave, mode)

    def forward(self, x: Tensor) -> Tensor:
        if x.size(-2) % 2 or x.size(-1) % 2:
            raise ValueError(f"height and width must be even, got {x.size(-2)} x {x.size(-1)}")
        top, bottom = x[..., 0::2, :] * 0.5, x[..., 1::2, :] * 0.5
        low, high = top + bottom, top - bottom
        return torch.cat(
            (
                low[..., 0::2] + low[..., 1::2],
                high[..., 0::2] + high[..., 1::2],
                low[..., 0::2] - low[..., 1::2],
                high[..., 0::2] - high[..., 1::2],
            ),
            dim=1,
        )


class IDWT2D(nn.Module):
    """Put four bands together again: the inverse of :class:`DWT2D`.

    Args:
        wave: ``"haar"``.
        mode: ``"zero"``.

    Shape: ``(N, 4 * C, H, W)`` to ``(N, C, 2 * H, 2 * W)``.
    Raises:
        ValueError: another ``wave`` or ``mode``; (forward) channels that are no multiple of 4.
    Source: as :class:`DWT2D`.
    """

    def __init__(self, wave: str = "haar", mode: str = "zero") -> None:
        super().__init__()
        _check(wave, mode)

    def forward(self, x: Tensor) -> Tensor:
        if x.size(1) % 4:
            raise ValueError(f"channels must be a multiple of 4, got {x.size(1)}")
        low, rows, columns, diagonal = (x * 0.5).chunk(4, dim=1)
        top = (low + rows, columns + diagonal)
        bottom = (low - rows, columns - diagonal)
        lines = [torch.stack((mean + step, mean - step), dim=-1) for mean, step in (top, bottom)]
        # (N, C, H, 2, W, 2): rows in pairs, columns in pairs.
        return torch.stack(lines, dim=3).flatten(4, 5).flatten(2, 3)
