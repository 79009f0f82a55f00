# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Learned image compression in PyTorch: models, entropy coding, training and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressai import (
    datasets,
    entropy_models,
    latent_codecs,
    layers,
    losses,
    models,
    ops,
    optimizers,
    registry,
    transforms,
    typing,
    zoo,
)
from compressai._entropy_coder import (
    available_entropy_coders,
    get_entropy_coder,
    set_entropy_coder,
)
from compressai.version import __version__

if TYPE_CHECKING:
    from compressai.checkpoint import load_checkpoint as load

__all__ = [
    "datasets",
    "entropy_models",
    "latent_codecs",
    "layers",
    "losses",
    "models",
    "ops",
    "optimizers",
    "registry",
    "transforms",
    "typing",
    "zoo",
    "available_entropy_coders",
    "get_entropy_coder",
    "set_entropy_coder",
    "load",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        from compressai.checkpoint import load_checkpoint

        return load_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
