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

__all__ = ["give_back_freed_memory", "keep_freed_memory"]

# Parameters of mallopt(3); values are of C's type int.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_LARGEST = (1 << 31) - 1


def keep_freed_memory() -> None:
    """Let this process use what it has freed again, from now on.

    A switch of the whole process, for programs that do nothing but code images; the command line
    sets it when it starts. Libraries leave it alone. What lies free at the end of the heap is given
    back where it is more than 2 GiB, or a quarter of the machine's memory.
    """
    library = _glibc()
    if library is not None:
        quarter = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        library.mallopt(_TRIM_THRESHOLD, min(_LARGEST, quarter))
        # Else large blocks are mapped by themselves, and unmapped when they are freed.
        library.mallopt(_MMAP_MAX, 0)


def give_back_freed_memory() -> None:
    """Give all memory that is free, be it between what is in use, back to the system."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    names = ("gnu_get_libc_version", "mallopt", "malloc_trim")
    return library if all(hasattr(library, name) for name in names) else None
