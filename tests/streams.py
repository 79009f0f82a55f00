# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Streams that cannot seek, and may have no end."""

from __future__ import annotations

import io

__all__ = ["Stream"]


class Stream(io.RawIOBase):
    """Gives some bytes, then zeros; counts what is read.

    Args:
        start: the first bytes.
        length: where it ends; ``None``: never.
    """

    def __init__(self, start: bytes = b"", length: int | None = None) -> None:
        self.start, self.length, self.taken = start, length, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self.length is None:
            assert size >= 0, "read to an end that never comes"
        else:
            left = self.length - self.taken
            size = left if size < 0 else min(size, left)
        part = self.start[self.taken : self.taken + size].ljust(size, b"\0")
        self.taken += size
        return part
