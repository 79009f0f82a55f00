# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Small differentiable operations that every other package builds on.

Bounds and parametrisations whose gradients stay useful at the edge, rounding with a straight
through gradient, and the arithmetic of padding. No module here holds trainable parameters.
"""

from __future__ import annotations

from compressai.ops.bound_ops import LowerBound
from compressai.ops.ops import (
    quantize_ste,
    relaxed_rounding,
    rounded,
    rounding_is_relaxed,
    ste_round,
)
from compressai.ops.padding import compute_padding
from compressai.ops.parametrizers import NonNegativeParametrizer

__all__ = [
    "LowerBound",
    "NonNegativeParametrizer",
    "compute_padding",
    "quantize_ste",
    "relaxed_rounding",
    "rounded",
    "rounding_is_relaxed",
    "ste_round",
]
