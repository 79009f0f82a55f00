# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Probability models of latents: likelihoods for training, tables and strings for coding."""

from __future__ import annotations

import importlib
from typing import Any

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

# Built of parts of models, which stand above this package, so it is loaded when it is asked for.
_ABOVE = {"CausalContextAdjustmentEntropyModel": "compressai.models.causal_context"}


def __getattr__(name: str) -> Any:
    if name in _ABOVE:
        return getattr(importlib.import_module(_ABOVE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ABOVE})
