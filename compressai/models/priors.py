# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Deprecated import path of :mod:`compressai.models.google`."""

from __future__ import annotations

import warnings

from compressai.models.google import (
    SCALES_LEVELS,
    SCALES_MAX,
    SCALES_MIN,
    CompressionModel,
    FactorizedPrior,
    FactorizedPriorReLU,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
    get_scale_table,
)

__all__ = [
    "SCALES_LEVELS",
    "SCALES_MAX",
    "SCALES_MIN",
    "CompressionModel",
    "FactorizedPrior",
    "FactorizedPriorReLU",
    "JointAutoregressiveHierarchicalPriors",
    "MeanScaleHyperprior",
    "ScaleHyperprior",
    "get_scale_table",
]

warnings.warn(
    "compressai.models.priors is deprecated, import from compressai.models",
    DeprecationWarning,
    stacklevel=2,
)
