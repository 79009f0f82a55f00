# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The coding session: how latents are coded while a model's ``compress`` or ``decompress`` runs.

A model opens one session around a call. Entropy models ask for it when they code; latent codecs
between a model and its entropy models neither know it nor hand it on. So a codec that is written
elsewhere is synchronised without knowing.

A session has two sides. Its *writer* makes strings in a thread of its own while networks go on
computing: encoding never waits for the strings of what was coded before. Its *coder* replaces the
plain way to code a latent with predicted scales; :mod:`compressai.entropy_models.synchrony` has
such coders. Without a session, or without a coder in it, latents are coded plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import Tensor

from compressai.entropy_models._recording import is_recording

__all__ = [
    "LatentCoder",
    "active_coder",
    "coding_session",
    "note_coded",
    "strings_at_once",
    "write_strings",
]

# Fewer symbols are written in less time than it takes to start a thread.
_MIN_SYMBOLS = 1 << 14

Job = Callable[[], list[bytes]]
Correction = Callable[[Tensor], Tensor]


class LatentCoder(Protocol):
    """What replaces plain coding of latents with predicted scales; see the module.

    ``correct`` is what a codec does to the reconstruction ``symbols + means``, such as latent
    residual prediction; ``None`` leaves it.
    """

    def code(
        self,
        conditional: Any,
        y: Tensor,
        scales: Tensor,
        means: Tensor | None,
        correct: Correction | None,
    ) -> tuple[list[bytes], Tensor]:
        """``(strings, y_hat)`` of a latent."""

    def decode(
        self,
        conditional: Any,
        strings: Sequence[bytes | None],
        scales: Tensor,
        means: Tensor | None,
        correct: Correction | None,
    ) -> dict[str, Tensor]:
        """``{"y_hat"}`` of a latent, and ``"y_fine"``, see :class:`LatentCodec`."""

    def note_coded(self) -> None:
        """Called whenever plain strings are written."""


class _Session:
    """One call's writer and coder.

    Args:
        coder: codes latents with predicted scales; ``None`` for plain coding.
    """

    def __init__(self, coder: LatentCoder | None) -> None:
        self.coder = coder
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


_session: ContextVar[_Session | None] = ContextVar("_session", default=None)


@contextmanager
def coding_session(coder: LatentCoder | None = None) -> Iterator[None]:
    """Open a session; it hides one that is open already.

    Args:
        coder: codes latents with predicted scales within; ``None`` for plain coding.

    Raises:
        Exception: whatever the writing of strings raised, at the end of the block.
    """
    session = _Session(coder)
    token = _session.set(session)
    try:
        yield
    finally:
        _session.reset(token)
        session.close()
    session.collect()


@contextmanager
def strings_at_once() -> Iterator[None]:
    """Within, strings are written before they are handed out, for code that looks at them."""
    note_coded()
    token = _session.set(None)
    try:
        yield
    finally:
        _session.reset(token)


def active_coder() -> LatentCoder | None:
    """The coder of the session that is open; ``None`` for plain coding."""
    session = _session.get()
    return None if session is None else session.coder


def note_coded() -> None:
    """Tell the session's coder that something was coded plainly, such as side information."""
    coder = active_coder()
    if coder is not None:
        coder.note_coded()


def write_strings(job: Job, count: int, symbols: int) -> list[bytes]:
    """Run a job that makes strings, now or in the session's thread.

    Args:
        job: makes the strings.
        count: their number.
        symbols: number of symbols in all of them.

    Returns:
        The strings; within a session perhaps empty ones, which it replaces at its end.
    """
    session = _session.get()
    at_once = symbols < _MIN_SYMBOLS or torch.get_num_threads() == 1 or is_recording()
    if session is None or at_once:
        return job()
    return session.submit(job, count)
