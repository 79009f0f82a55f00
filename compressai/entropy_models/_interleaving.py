# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Whether strings that are long may have the interleaved layout, which decodes faster.

``net.compress`` makes the strings of CompressAI. Whoever writes a file whose readers know the other
layout allows it for the call. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["interleaved_strings", "interleaves"]

_allowed: ContextVar[bool] = ContextVar("_allowed", default=False)


@contextmanager
def interleaved_strings(allowed: bool = True) -> Iterator[None]:
    """Within, in this thread, long strings are interleaved.

    Args:
        allowed: ``False`` for the layout of CompressAI whatever was allowed outside.
    """
    token = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(token)


def interleaves() -> bool:
    """What holds in this thread; to be asked before a job is handed to another one."""
    return _allowed.get()
