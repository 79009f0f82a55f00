# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Writing files so that an interruption loses nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

__all__ = ["atomic_write", "check_writable"]


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse early what :func:`atomic_write` cannot write, before hours of work are lost.

    Args:
        path: file that is to be written or replaced.

    Raises:
        FileNotFoundError: its folder does not exist.
        IsADirectoryError: it is a folder.
        FileExistsError: it is a device, a pipe or the like, which a file must not take the place
            of.
    """
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist or is no folder: create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, the name of a file is needed")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is no regular file and is not replaced")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of ``path`` when all went well.

    Readers see the old file or the new one, never a part; an interruption keeps the old one. A
    symbolic link stays one: the file that it points to is written.

    Args:
        path: file to write; its folder must exist.

    Raises:
        OSError: as :func:`check_writable`.
    """
    check_writable(path)
    path = Path(os.path.realpath(path))
    # Shortened, because the whole must fit into the 255 bytes of a name.
    unfinished = path.with_name(f".{path.name[:50]}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
