# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Errors as decibels, for what has torch and what has not."""

from __future__ import annotations

import math

__all__ = ["psnr_of"]


def psnr_of(mse: float, white: float) -> float:
    """Decibels of a mean squared error; infinite for 0.

    Args:
        mse: the error.
        white: the highest value of a sample.
    """
    return 20 * math.log10(white) - 10 * math.log10(mse) if mse else math.inf
