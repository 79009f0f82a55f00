# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Probability models of latents: likelihoods for training, tables and strings for coding."""

from __future__ import annotations

from compressai.entropy_models.base import EntropyModel
from compressai.entropy_models.bottleneck import EntropyBottleneck
from compressai.entropy_models.gaussian import GaussianConditional
from compressai.entropy_models.generalized import GeneralizedGaussianConditional
from compressai.entropy_models.mixture import GaussianMixtureConditional
from compressai.entropy_models.vbr import EntropyBottleneckVbr, EntropyModelVbr

__all__ = [
    "EntropyModel",
    "EntropyBottleneck",
    "GaussianConditional",
    "GaussianMixtureConditional",
    "GeneralizedGaussianConditional",
    "EntropyModelVbr",
    "EntropyBottleneckVbr",
]
