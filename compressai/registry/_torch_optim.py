# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Lists the optimizers and schedulers of torch, when it is imported."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import optim

from compressai._lazy import LazyTable
from compressai.registry.torch import OPTIMIZERS, SCHEDULERS

__all__: list[str] = []


def _list_classes(table: LazyTable[Any], namespace: ModuleType, base: type) -> None:
    for name, item in vars(namespace).items():
        if name[0].isupper() and isinstance(item, type) and issubclass(item, base):
            table.register(name, item, __name__)


_list_classes(OPTIMIZERS, optim, optim.Optimizer)
_list_classes(SCHEDULERS, optim.lr_scheduler, optim.lr_scheduler.LRScheduler)
