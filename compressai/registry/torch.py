# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Registries of models, modules, losses, datasets, optimizers and schedulers.

Optimizers and schedulers start with the classes of ``torch.optim``; the others start empty and
are filled by the packages of this library when those are imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import optim

from compressai.typing import TCriterion, TDataset, TModel, TModule, TOptimizer, TScheduler

from ._table import registrar

__all__ = [
    "CRITERIONS",
    "DATASETS",
    "MODELS",
    "MODULES",
    "OPTIMIZERS",
    "SCHEDULERS",
    "register_criterion",
    "register_dataset",
    "register_model",
    "register_module",
    "register_optimizer",
    "register_scheduler",
]

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


def _classes(namespace: Any, base: type) -> dict[str, Any]:
    return {
        name: item
        for name, item in vars(namespace).items()
        if name[0].isupper() and isinstance(item, type) and issubclass(item, base)
    }


CRITERIONS: dict[str, Callable[..., TCriterion]] = {}
DATASETS: dict[str, Callable[..., TDataset]] = {}
MODELS: dict[str, Callable[..., TModel]] = {}
MODULES: dict[str, Callable[..., TModule]] = {}
OPTIMIZERS: dict[str, Callable[..., TOptimizer]] = _classes(optim, optim.Optimizer)
SCHEDULERS: dict[str, Callable[..., TScheduler]] = _classes(
    optim.lr_scheduler, optim.lr_scheduler.LRScheduler
)


def register_criterion(name: str) -> Callable[[C], C]:
    """Decorator: list a loss class in ``CRITERIONS`` under ``name``."""
    return registrar(CRITERIONS, "criterion", name)


def register_dataset(name: str) -> Callable[[C], C]:
    """Decorator: list a dataset class in ``DATASETS`` under ``name``."""
    return registrar(DATASETS, "dataset", name)


def register_model(name: str) -> Callable[[C], C]:
    """Decorator: list a model class in ``MODELS`` under ``name``."""
    return registrar(MODELS, "model", name)


def register_module(name: str) -> Callable[[C], C]:
    """Decorator: list a module class in ``MODULES`` under ``name``."""
    return registrar(MODULES, "module", name)


def register_optimizer(name: str) -> Callable[[F], F]:
    """Decorator: list an optimizer class or function in ``OPTIMIZERS`` under ``name``."""
    return registrar(OPTIMIZERS, "optimizer", name)


def register_scheduler(name: str) -> Callable[[F], F]:
    """Decorator: list a learning-rate scheduler in ``SCHEDULERS`` under ``name``."""
    return registrar(SCHEDULERS, "scheduler", name)
