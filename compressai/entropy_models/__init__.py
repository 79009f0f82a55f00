# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Probability models of latents: likelihoods for training, tables and strings for coding.

Files are imported on first use; what codes on arrays needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compressai._lazy import lazy_names

if TYPE_CHECKING:
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

# Built of parts of models, which stand above this package.
_ABOVE = {"CausalContextAdjustmentEntropyModel": "compressai.models.causal_context"}

_own_name, _own_names = lazy_names(
    __name__,
    {
        "base": "EntropyModel",
        "bottleneck": "EntropyBottleneck",
        "gaussian": "GaussianConditional",
        "generalized": "GeneralizedGaussianConditional",
        "mixture": "GaussianMixtureConditional",
        "vbr": "EntropyBottleneckVbr EntropyModelVbr",
    },
    modules=[
        *("_coder", "_factorized_density", "_grid", "_loading", "_overrides", "_refusals"),
        *("_sync_stream", "entropy_models", "noise", "scan", "session", "steps", "synchrony"),
    ],
)


def __getattr__(name: str) -> Any:
    if name in _ABOVE:
        return getattr(importlib.import_module(_ABOVE[name]), name)
    return _own_name(name)


def __dir__() -> list[str]:
    return sorted({*_own_names(), *_ABOVE})
