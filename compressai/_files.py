# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Writing files so that an interruption loses nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["atomic_write"]


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of ``path`` when all went well.

    Readers see the old file or the new one, never a part; an interruption keeps the old one.

    Args:
        path: file to write; its folder must exist.
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
