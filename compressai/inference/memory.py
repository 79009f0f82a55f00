# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Using freed memory again instead of having the system clear it anew.

The C library gives large feature maps back to the system as soon as they are freed, and gets the
next ones page by page, cleared: a tenth to a quarter of the time of a transform. Known for glibc on
Linux; elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reused_memory"]

# What may stay with the process for the next transform: the maps of a model of ordinary size and a
# picture of half a megapixel.
_KEPT = 1 << 30
# Parameters of mallopt(3). Setting anything stops the threshold of mmap(2) from adapting itself, so
# it is set to where it ends, the largest value that it may take.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_INSIDE = {_MMAP_MAX: 0, _TRIM_THRESHOLD: (1 << 31) - 1}
_OUTSIDE = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: _KEPT}

_lock = threading.Lock()
_users = 0


@contextmanager
def reused_memory() -> Iterator[None]:
    """Keep what is freed inside for what is allocated inside, and up to 1 GiB for the next time.

    If more is free at the end, all of it is given back. May be nested, and entered by many threads
    at once: the last one to leave gives back. It is the whole process whose memory is kept. The
    peak does not grow by more than what gets lost between blocks of different sizes.
    """
    global _users
    library = _glibc()
    if library is None:
        yield
        return
    with _lock:
        if _users == 0:
            _set(library, _INSIDE)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _set(library, _OUTSIDE)
                if library.mallinfo2().fordblks > _KEPT:
                    library.malloc_trim(0)


class _Mallinfo2(ctypes.Structure):
    """What ``mallinfo2(3)`` gives; ``fordblks`` are the bytes that are free."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _set(library: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        library.mallopt(parameter, value)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    # The latter since glibc 2.33.
    names = ("mallopt", "malloc_trim", "mallinfo2")
    if not all(hasattr(library, name) for name in names):
        return None
    library.mallinfo2.restype = _Mallinfo2
    return library
