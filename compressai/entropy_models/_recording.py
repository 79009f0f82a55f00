# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Listening to what is coded: who asks for it sees every symbol with its row of the tables.

Nothing of coding depends on it. It needs no torch, as the coders of a bundle do not either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["is_recording", "note_symbols", "recorded_symbols"]

Record = Callable[[Any, Any, Any, Sequence[Any], bool], None]

_record: ContextVar[Record | None] = ContextVar("_record", default=None)


@contextmanager
def recorded_symbols(record: Record) -> Iterator[None]:
    """Within, in this thread, ``record`` is called with all that entropy coders are given.

    Strings are then written at once, not in a thread of their own.

    Args:
        record: called with ``(source, symbols, rows, tables, told)``: the entropy model, where the
            caller knows it, else ``None``; int32 symbols, and the row of the tables of each; the
            tables as coders take them; and whether these are no symbols of a latent, but what
            synchronised coding tells.
    """
    token = _record.set(record)
    try:
        yield
    finally:
        _record.reset(token)


def is_recording() -> bool:
    """Whether somebody listens in this thread."""
    return _record.get() is not None


def note_symbols(
    source: Any, symbols: Any, rows: Any, tables: Sequence[Any], *, told: bool = False
) -> None:
    """Tell whoever listens of symbols that are about to be coded; arguments as above."""
    record = _record.get()
    if record is not None:
        record(source, symbols, rows, tables, told)
