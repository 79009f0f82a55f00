# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Strings that are written by a thread of their own while networks go on computing.

Encoding never waits for the strings of what was coded before, so within
:func:`strings_in_background` entropy models hand the writing over and return lists that are filled
by the time the block ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import torch

__all__ = ["strings_in_background", "write_strings"]

# Fewer symbols are written in less time than it takes to start a thread.
_MIN_SYMBOLS = 1 << 14

Job = Callable[[], list[bytes]]


class _Writer:
    def __init__(self) -> None:
        self._executor: ThreadPoolExecutor | None = None
        self._pending: list[tuple[list[bytes], Future[list[bytes]]]] = []

    def submit(self, job: Job, count: int) -> list[bytes]:
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="compressai-strings")
        strings = [b""] * count
        self._pending.append((strings, self._executor.submit(job)))
        return strings

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown()

    def collect(self) -> None:
        for strings, future in self._pending:
            strings[:] = future.result()


_writer: ContextVar[_Writer | None] = ContextVar("_writer", default=None)


@contextmanager
def strings_in_background() -> Iterator[None]:
    """Within, :func:`write_strings` may run in a thread; lists are filled at the end."""
    writer = _Writer()
    token = _writer.set(writer)
    try:
        yield
    finally:
        _writer.reset(token)
        writer.close()
    writer.collect()


def write_strings(job: Job, count: int, symbols: int) -> list[bytes]:
    """Run a job that makes strings, now or in the background.

    Args:
        job: makes the strings.
        count: their number.
        symbols: number of symbols in all of them.

    Returns:
        The strings; within :func:`strings_in_background` empty ones that it will replace.
    """
    writer = _writer.get()
    if writer is None or symbols < _MIN_SYMBOLS or torch.get_num_threads() == 1:
        return job()
    return writer.submit(job, count)
