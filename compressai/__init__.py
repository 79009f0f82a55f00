# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Learned image compression in PyTorch: models, entropy coding, training and evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressai import _moved
from compressai._lazy import lazy_names
from compressai.version import __version__

if TYPE_CHECKING:
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
    from compressai.checkpoint import load_checkpoint as load
    from compressai.quick import decode, encode

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
    "encode",
    "decode",
    "__version__",
]

_moved.install()

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "_entropy_coder": "available_entropy_coders get_entropy_coder set_entropy_coder",
        "checkpoint": "load=load_checkpoint",
        "quick": "decode encode",
    },
    modules=[
        *("datasets", "entropy_models", "latent_codecs", "layers", "losses", "models", "ops"),
        *("optimizers", "registry", "transforms", "typing", "zoo"),
        # Native modules are attributes without an import of their own, too.
        *("_CXX", "ans"),
    ],
)
