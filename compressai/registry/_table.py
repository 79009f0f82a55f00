# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The decorator behind every ``register_*`` function."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from compressai._lazy import LazyTable

__all__ = ["registrar"]

T = TypeVar("T")


def _origin(item: Any) -> tuple[Any, Any]:
    return getattr(item, "__module__", None), getattr(item, "__qualname__", repr(item))


def registrar(table: LazyTable[Any], kind: str, name: str) -> Callable[[T], T]:
    """Decorator that stores what it decorates in ``table`` under ``name``.

    A later registration wins. It also warns, unless it is the same definition again (a reloaded
    module, a notebook cell run twice).

    Args:
        table: the registry to fill.
        kind: what the registry holds, for messages (``"model"``).
        name: the key.

    Returns:
        A decorator that returns its argument unchanged.

    Raises:
        TypeError: ``name`` is not a string (usually a decorator written without parentheses).
    """
    if not isinstance(name, str):
        raise TypeError(f"register_{kind} needs the name as a string, got name={name!r}")

    def decorator(item: T) -> T:
        known = table.register(name, item, _origin(item)[0])
        if known is not None and _origin(known) != _origin(item):
            warnings.warn(
                f"{kind} {name!r} was {known!r} and is now {item!r}",
                UserWarning,
                stacklevel=2,
            )
        return item

    return decorator
