# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Import path of CompressAI 1.2.8 for the names that live in the sibling modules."""

from __future__ import annotations

from compressai.entropy_models._coder import default_entropy_coder
from compressai.entropy_models.base import EntropyModel, pmf_to_quantized_cdf
from compressai.entropy_models.bottleneck import EntropyBottleneck
from compressai.entropy_models.gaussian import GaussianConditional
from compressai.entropy_models.mixture import GaussianMixtureConditional

__all__ = [
    "EntropyBottleneck",
    "EntropyModel",
    "GaussianConditional",
    "GaussianMixtureConditional",
    "default_entropy_coder",
    "pmf_to_quantized_cdf",
]
