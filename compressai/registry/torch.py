# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Registries of models, modules, losses, datasets, optimizers and schedulers.

Optimizers and schedulers start with the classes of ``torch.optim``. The packages of this library
that fill the tables, and torch, are imported on first look-up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from compressai._lazy import LazyTable
from compressai.registry._table import registrar
from compressai.registry.entries import ModelEntry, enter

if TYPE_CHECKING:
    from compressai.typing import TCriterion, TDataset, TModel, TModule, TOptimizer, TScheduler

__all__ = [
    "CRITERIONS",
    "DATASETS",
    "MODELS",
    "MODULES",
    "OPTIMIZERS",
    "SCHEDULERS",
    "register_criterion",
    "register_dataset",
    "register_entry",
    "register_model",
    "register_module",
    "register_optimizer",
    "register_scheduler",
]

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


CRITERIONS: LazyTable[Callable[..., TCriterion]] = LazyTable("compressai.losses")
DATASETS: LazyTable[Callable[..., TDataset]] = LazyTable("compressai.datasets")
MODELS: LazyTable[Callable[..., TModel]] = LazyTable("compressai.models")
MODULES: LazyTable[Callable[..., TModule]] = LazyTable("compressai.latent_codecs")
OPTIMIZERS: LazyTable[Callable[..., TOptimizer]] = LazyTable(
    "compressai.registry._torch_optim", "compressai.optimizers"
)
SCHEDULERS: LazyTable[Callable[..., TScheduler]] = LazyTable("compressai.registry._torch_optim")


def register_criterion(name: str) -> Callable[[C], C]:
    """Decorator: list a loss class in ``CRITERIONS`` under ``name``."""
    return registrar(CRITERIONS, "criterion", name)


def register_dataset(name: str) -> Callable[[C], C]:
    """Decorator: list a dataset class in ``DATASETS`` under ``name``."""
    return registrar(DATASETS, "dataset", name)


def register_entry(entry: ModelEntry) -> ModelEntry:
    """List a model by its row: in ``ENTRIES``, which the zoo shows, and in ``MODELS``.

    Args:
        entry: the row; a later one of the same name takes its place.

    Returns:
        The row.

    Raises:
        TypeError: ``entry`` is none.
        ValueError: it has no name, or no model that can be called.
    """
    enter(entry)
    registrar(MODELS, "model", entry.name)(entry.model)
    return entry


def register_model(name: str, **row: Any) -> Callable[[C], C]:
    """Decorator: list a model class in ``MODELS`` under ``name``.

    Args:
        name: of the model.
        row: fields of a :class:`~compressai.registry.ModelEntry`, such as ``paper``; with any of
            them, the model is listed in the zoo, too.
    """
    if not row:
        return registrar(MODELS, "model", name)

    def decorator(cls: C) -> C:
        register_entry(ModelEntry(name=name, model=cls, **row))
        return cls

    return decorator


def register_module(name: str) -> Callable[[C], C]:
    """Decorator: list a module class in ``MODULES`` under ``name``."""
    return registrar(MODULES, "module", name)


def register_optimizer(name: str) -> Callable[[F], F]:
    """Decorator: list an optimizer class or function in ``OPTIMIZERS`` under ``name``."""
    return registrar(OPTIMIZERS, "optimizer", name)


def register_scheduler(name: str) -> Callable[[F], F]:
    """Decorator: list a learning-rate scheduler in ``SCHEDULERS`` under ``name``."""
    return registrar(SCHEDULERS, "scheduler", name)
