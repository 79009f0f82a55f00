# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The rate term, itemised by latent, for losses that report more than one number."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["compute_rate_loss"]


def compute_rate_loss(
    likelihoods: Mapping[str, Tensor], batch_size: int, bit_per_bpp: float
) -> dict[str, Tensor]:
    """Ideal code length of every latent, in bits per sample and per source element.

    Args:
        likelihoods: for each latent the probability of every symbol, any shape, in (0, 1].
        batch_size: number of samples ``B`` that the likelihoods cover.
        bit_per_bpp: number of source elements of one sample (pixels, points); what one "bit per
            pixel" of a sample costs in bits.

    Returns:
        For each name ``bit_{name}_loss`` (``-sum(log2 p) / B``) and ``bpp_{name}_loss`` (that
        divided by ``bit_per_bpp``), and their sums ``bit_loss`` and ``bpp_loss``; 0-d tensors.

    Raises:
        ValueError: ``batch_size`` or ``bit_per_bpp`` is not positive.
    """
    if batch_size <= 0:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    if bit_per_bpp <= 0:
        raise ValueError(f"bit_per_bpp must be positive, got {bit_per_bpp}")

    out: dict[str, Tensor] = {}
    bit_loss = torch.zeros(())
    for name, likelihood in likelihoods.items():
        bits = likelihood.log2().sum() / -batch_size
        out[f"bit_{name}_loss"] = bits
        out[f"bpp_{name}_loss"] = bits / bit_per_bpp
        bit_loss = bit_loss.to(bits) + bits
    out["bit_loss"] = bit_loss
    out["bpp_loss"] = bit_loss / bit_per_bpp
    return out
