# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Names to classes: the tables that configuration files and command lines look things up in.

Each table is a dictionary and has a decorator that adds to it. What the library has for a table is
imported when the table is first looked into; ``TRANSFORMS`` is built when first asked for, because
it lists torchvision.
"""

from __future__ import annotations

from typing import Any

from compressai.registry.entries import (
    ENTRIES,
    LAMBDAS,
    METRICS,
    EntryView,
    ModelEntry,
    at_qualities,
    known_lambdas,
    numbered,
)
from compressai.registry.torch import (
    CRITERIONS,
    DATASETS,
    MODELS,
    MODULES,
    OPTIMIZERS,
    SCHEDULERS,
    register_criterion,
    register_dataset,
    register_entry,
    register_model,
    register_module,
    register_optimizer,
    register_scheduler,
)
from compressai.registry.transforms import register_transform

__all__ = [
    "CRITERIONS",
    "DATASETS",
    "ENTRIES",
    "EntryView",
    "LAMBDAS",
    "METRICS",
    "MODELS",
    "MODULES",
    "ModelEntry",
    "OPTIMIZERS",
    "SCHEDULERS",
    "TRANSFORMS",
    "at_qualities",
    "known_lambdas",
    "numbered",
    "register_criterion",
    "register_dataset",
    "register_entry",
    "register_model",
    "register_module",
    "register_optimizer",
    "register_scheduler",
    "register_transform",
]


def __getattr__(name: str) -> Any:
    if name == "TRANSFORMS":
        # The table has what torchvision has, which is slow to import.
        from compressai.registry.transforms import TRANSFORMS

        return TRANSFORMS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
