# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The scales that tables of Gaussian conditionals are made for."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["SCALES_LEVELS", "SCALES_MAX", "SCALES_MIN", "get_scale_table"]

SCALES_MIN = 0.11
SCALES_MAX = 256
SCALES_LEVELS = 64


def get_scale_table(
    min: float = SCALES_MIN, max: float = SCALES_MAX, levels: int = SCALES_LEVELS
) -> Tensor:
    """Scales in geometric progression, the table of the Gaussian conditionals.

    The same bits come out on every machine: the logarithms are rounded to single precision, as
    they were when the format was made, and all else is computed in double.

    Args:
        min: first scale.
        max: last scale.
        levels: number of scales.

    Returns:
        float32 ``(levels,)``.
    """
    first, last = np.float32(math.log(min)), np.float32(math.log(max))
    step = float((last - first) / np.float32(levels - 1)) if levels > 1 else 0.0
    index = np.arange(levels)
    # Counted from the nearer end, as torch.linspace does.
    logs = np.where(
        index < levels // 2, float(first) + step * index, float(last) - step * (levels - 1 - index)
    )
    if levels == 1:
        logs[:] = first
    return torch.from_numpy(np.exp(logs.astype(np.float32).astype(np.float64)).astype(np.float32))
