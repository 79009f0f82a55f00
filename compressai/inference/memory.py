# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Using freed memory again instead of having the system clear it anew.

The C library gives every large feature map back to the system as soon as it is freed, and gets
the next one page by page, cleared: a quarter of the time of a transform. Known for glibc on Linux;
elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["reused_memory"]

# Parameters of mallopt(3), and what they are without our doing: the threshold that adapts itself
# ends at the largest value that it may take, and setting anything stops it from adapting.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST_THRESHOLD = 32 << 20
_INSIDE = {_MMAP_MAX: 0, _TRIM_THRESHOLD: (1 << 31) - 1}
_OUTSIDE = {
    _MMAP_MAX: 65536,
    _MMAP_THRESHOLD: _LARGEST_THRESHOLD,
    _TRIM_THRESHOLD: 2 * _LARGEST_THRESHOLD,
}

_lock = threading.Lock()
_users = 0


@contextmanager
def reused_memory() -> Iterator[None]:
    """Keep what is freed inside for what is allocated inside, and give all of it back at the end.

    May be nested, and entered by many threads at once: the last one to leave gives back. It is the
    whole process whose memory is kept meanwhile. The peak does not grow by more than what gets
    lost between blocks of different sizes.
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
                library.malloc_trim(0)


def _set(library: ctypes.CDLL, parameters: dict[int, int]) -> None:
    for parameter, value in parameters.items():
        library.mallopt(parameter, value)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    names = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in names) else None
