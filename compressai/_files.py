# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files: reading none that is no file, writing so that an interruption loses nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "atomic_write",
    "check_regular",
    "check_writable",
    "open_regular",
    "read_up_to",
    "result_names",
]

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Refuse what is there under a name but cannot be read as a file: it may have no end.

    Args:
        path: file that is to be read.

    Raises:
        IsADirectoryError: it is a folder.
        ValueError: it is a pipe, a device, a socket or the like.
        OSError: it does not exist, cannot be reached, or links lead in a circle.
    """
    _check_mode(os.stat(path).st_mode, path)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, and nothing else, which might block for ever.

    Raises:
        IsADirectoryError, ValueError, OSError: as :func:`check_regular`.
    """
    check_regular(path)
    # It may have become a pipe meanwhile: opening must not wait for its other end.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    try:
        _check_mode(os.fstat(descriptor).st_mode, path)
        # A file that was opened by its name has it, for messages.
        return open(path, "rb", opener=lambda *_: descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def read_up_to(file: BinaryIO, length: int) -> bytes:
    """So many bytes of a file, or as many as there are; memory is taken for those only."""
    parts, left = [], length
    while left > 0 and (part := file.read(min(left, 2**20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def result_names(names: Sequence[str], suffix: str) -> list[str]:
    """Names of the results of files: another suffix, or, where that is not enough, one more.

    ``shot.jpg`` becomes ``shot.cai``; ``shot.jpg`` and ``shot.png`` become ``shot.jpg.cai`` and
    ``shot.png.cai``, in whichever order they come.

    Args:
        names: paths of the files.
        suffix: of the results, with the dot.

    Returns:
        A name for each; equal ones only where ``names`` are equal.
    """
    long: set[str] = set()
    while True:
        results = {
            name: (name if name in long else os.path.splitext(name)[0]) + suffix for name in names
        }
        counts = Counter(results.values())
        more = {name for name, result in results.items() if counts[result] > 1} - long
        if not more:
            return [results[name] for name in names]
        long |= more


def _check_mode(mode: int, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "something else")
        raise ValueError(f"{os.fspath(path)} is {kind}, not a regular file")


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
