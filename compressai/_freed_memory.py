# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Using freed memory again instead of having the system clear it anew.

The C library gives large feature maps back to the system as soon as they are freed, and gets the
next ones page by page, cleared: a tenth to a quarter of the time of a transform. Known for glibc on
Linux; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["give_back_freed_memory", "keep_freed_memory", "reused_memory"]

_STATM = "/proc/self/statm"
# By how much the process may grow before it gives anything back: the maps of three megapixels in a
# model of ordinary size. Parameters are of C's type int.
_MOST = 4 << 30
_LARGEST = (1 << 31) - 1
# Parameters of mallopt(3). Setting anything stops the threshold of mmap(2) from adapting itself, so
# it is set to where it ends, the largest value that it may take.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_INSIDE = {_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST}
_OUTSIDE = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: _LARGEST}

_kept = False
_lock = threading.Lock()
_users = 0
_least = sys.maxsize


def keep_freed_memory() -> None:
    """Let this process reuse memory in prepared transforms, from now on.

    A switch of the whole process, for programs that do nothing but code images; the command line
    sets it when it starts. Libraries leave it alone.
    """
    global _kept
    _kept = True


def give_back_freed_memory() -> None:
    """Give all memory that is free, be it between what is in use, back to the system."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@contextmanager
def reused_memory(always: bool = True) -> Iterator[None]:
    """Keep what is freed inside for what is allocated inside, and for the next time.

    Args:
        always: whatever the process wants; ``False``: only if :func:`keep_freed_memory` was called.

    All that is free is given back at the end if the process has grown, since it was smallest, by
    more than 4 GiB or a quarter of the machine's memory. May be nested, and entered by many threads
    at once: the last one to leave gives back. It is the whole process whose memory is kept. The
    peak does not grow by more than what gets lost between blocks of different sizes.
    """
    global _users, _least
    library = _glibc()
    if library is None or not (always or _kept):
        yield
        return
    with _lock:
        if _users == 0:
            _least = min(_least, _resident())
            _set(library, _INSIDE)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set(library, _OUTSIDE)
                if _resident() - _least > _most():
                    library.malloc_trim(0)
                    _least = _resident()


def _most() -> int:
    """By how many bytes the process may grow."""
    return min(_MOST, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4)


def _resident() -> int:
    """Bytes of the process that are in memory."""
    with open(_STATM) as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _set(library: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        library.mallopt(parameter, value)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux" or not os.path.exists(_STATM):
        return None
    library = ctypes.CDLL(None)
    names = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in names) else None
