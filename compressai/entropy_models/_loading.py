# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Whether weights are loaded strictly, which torch does not tell the modules it loads into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

__all__ = ["equal", "is_strict", "loading"]

_strict: ContextVar[bool | None] = ContextVar("strict", default=None)


@contextmanager
def loading(strict: bool) -> Iterator[None]:
    """Within, :func:`is_strict` says ``strict``."""
    token = _strict.set(strict)
    try:
        yield
    finally:
        _strict.reset(token)


def is_strict() -> bool | None:
    """As :func:`loading` was told; ``None`` outside of it, as in other modules of torch."""
    return _strict.get()


def equal(new: Any, old: Tensor) -> bool:
    """Whether an entry of a state dict is what a module has already."""
    if not isinstance(new, Tensor) or new.shape != old.shape or new.is_meta or old.is_meta:
        return False
    return torch.equal(new.to(old), old)
