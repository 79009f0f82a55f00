# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Writing files so that an interruption loses nothing."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
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

    Where the system can (Linux, on most file systems), the temporary file has no name in any
    folder; its path leads to it through ``/proc``. So a process that is killed leaves nothing
    behind, unless it is killed in the moment of replacing an existing file, which then is intact,
    beside a complete hidden one. Elsewhere the temporary file has a hidden name beside ``path``.

    Args:
        path: file to write; its folder must exist.

    Raises:
        OSError: as :func:`check_writable`.
    """
    check_writable(path)
    path = Path(os.path.realpath(path))
    descriptor = _open_nameless(path.parent)
    with _named(path) if descriptor is None else _nameless(path, descriptor) as unfinished:
        try:
            yield unfinished
        except OSError as error:
            if error.filename == str(unfinished):
                error.filename = str(path)  # the one that people know
            raise


def _open_nameless(folder: Path) -> int | None:
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir(_folder_of_descriptors()):
        return None
    try:
        return os.open(folder, flag | os.O_RDWR, 0o666)
    except OSError:  # not on this file system; what else is wrong will show soon enough
        return None


def _folder_of_descriptors() -> str:
    # Not /proc/self: programs that this one starts write to such files, too.
    return f"/proc/{os.getpid()}/fd"


@contextlib.contextmanager
def _nameless(path: Path, descriptor: int) -> Iterator[Path]:
    unfinished = Path(_folder_of_descriptors(), str(descriptor))
    try:
        yield unfinished
        os.fsync(descriptor)
        try:
            _link(unfinished, path)
        except OSError:
            # There is such a file already, or this file system has no links.
            with _named(path) as named:
                try:
                    _link(unfinished, named)
                except OSError:
                    shutil.copyfile(unfinished, named)
    finally:
        os.close(descriptor)


def _link(unfinished: Path, path: Path) -> None:
    """Give a nameless file a name that is free."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        # Only with a folder does Python take the system call that follows what /proc shows.
        os.link(unfinished, path.name, dst_dir_fd=folder, follow_symlinks=True)
    finally:
        os.close(folder)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[Path]:
    # Shortened, because the whole must fit into the 255 bytes of a name.
    unfinished = path.with_name(f".{path.name[:50]}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        with open(unfinished, "rb") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
