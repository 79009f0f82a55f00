# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Type aliases for the kinds of objects that the registries hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from torch import nn, optim
from torch.utils.data import DataLoader, Dataset

__all__ = [
    "TCriterion",
    "TDataLoader",
    "TDataset",
    "TModel",
    "TModule",
    "TOptimizer",
    "TScheduler",
    "TTransform",
]

TCriterion: TypeAlias = nn.Module
TDataLoader: TypeAlias = DataLoader
TDataset: TypeAlias = Dataset
TModel: TypeAlias = nn.Module
TModule: TypeAlias = nn.Module
TOptimizer: TypeAlias = optim.Optimizer | Mapping[str, optim.Optimizer]
TScheduler: TypeAlias = optim.lr_scheduler.LRScheduler | optim.lr_scheduler.ReduceLROnPlateau
TTransform: TypeAlias = Callable[..., Any]
