# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Registry of data transforms: torchvision's, then those registered here.

torchvision is imported when ``TRANSFORMS`` is first read, not when this module is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from compressai._lazy import LazyTable
from compressai.registry._table import registrar

__all__ = ["TRANSFORMS", "register_transform"]

F = TypeVar("F", bound=Callable[..., Any])

TRANSFORMS: dict[str, Callable[..., Any]]  # made by __getattr__
_table: LazyTable[Callable[..., Any]] = LazyTable()


def register_transform(name: str) -> Callable[[F], F]:
    """Decorator: list a transform in ``TRANSFORMS`` under ``name``."""
    return registrar(_table, "transform", name)


def __getattr__(name: str) -> Any:
    if name != "TRANSFORMS":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Slow to import, and needed here only.
    from torchvision import transforms

    for key, item in vars(transforms).items():
        if key[0].isupper() and isinstance(item, type):
            _table.setdefault(key, item)
    globals()["TRANSFORMS"] = _table
    return _table
