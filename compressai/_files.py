# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files: reading none that is no file, writing so that an interruption loses nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "atomic_write",
    "check_regular",
    "check_writable",
    "open_regular",
    "read_up_to",
    "result_names",
    "weights_folder",
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


_LEFTOVER = re.compile(r"\..+\.\d+\.[0-9a-f]{8}\.unfinished", re.DOTALL)
# What a full or read-only disk says, often without a name.
_WRITING = frozenset(
    {errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EPERM, errno.EROFS}
)
_cleared: set[str] = set()
_lock = threading.Lock()


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse early what :func:`atomic_write` cannot write, before hours of work are lost.

    Args:
        path: file that is to be written or replaced.

    Raises:
        FileNotFoundError: its folder does not exist.
        IsADirectoryError: it is a folder.
        FileExistsError: it is a device, a pipe or the like, which a file must not take the place
            of.
        PermissionError: its folder is read-only.
    """
    # Before links are followed: those of /dev/stdout lead to what is no path.
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise FileExistsError(f"{os.fspath(path)} is no regular file and is not replaced")
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist or is no folder: create it first")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, the name of a file is needed")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "its folder is read-only", str(path))


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, replace: bool = True) -> Iterator[Path]:
    """Give the path of a temporary file that takes the place of ``path`` when all went well.

    Readers see the old file or the new one, never a part; an interruption keeps the old one. A
    symbolic link stays one: the file that it points to is written.

    Where the system can (Linux, on most file systems), the temporary file has no name in any
    folder; its path leads to it through ``/proc``. So a process that is killed leaves nothing
    behind, unless it is killed in the moment of replacing an existing file, which then is intact,
    beside a complete hidden one. Elsewhere the temporary file has a hidden name beside ``path``.
    The first file that a process writes to a folder clears away such hidden files of processes that
    are gone; a lock tells them from those of processes that still write.

    Args:
        path: file to write; its folder must exist.
        replace: whether an existing file is replaced. If not, of several processes that write the
            same file one succeeds, and the others get an error.

    Raises:
        FileExistsError: the file exists and is not to be replaced, even if it came while the
            temporary file was written.
        OSError: as :func:`check_writable`, or the file cannot be written. The error names ``path``.
    """
    check_writable(path)
    path = Path(os.path.realpath(path))
    if not replace and path.exists():
        raise _exists(path)
    _clear_away(path.parent)
    descriptor = _open_nameless(path.parent)
    hidden = path.with_name(
        # Shortened, because the whole must fit into the 255 bytes of a name.
        f".{path.name[:50]}.{os.getpid()}.{os.urandom(4).hex()}.unfinished"
    )
    internal = {str(hidden), hidden.name, _path_of(descriptor)}
    try:
        if descriptor is None:
            with _named(path, hidden, replace) as unfinished:
                yield unfinished
        else:
            with _nameless(path, hidden, descriptor, replace) as unfinished:
                yield unfinished
    except OSError as error:
        nameless = error.filename is None and error.errno in _WRITING
        if nameless or str(error.filename) in internal:
            error.filename, error.filename2 = str(path), None  # the one that people know
        raise


def _exists(path: Path) -> FileExistsError:
    return FileExistsError(f"{path} exists, and is not to be replaced")


def _path_of(descriptor: int | None) -> str:
    # Not /proc/self: programs that this one starts write to such files, too.
    return f"/proc/{os.getpid()}/fd/{descriptor}"


def _open_nameless(folder: Path) -> int | None:
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None or not os.path.isdir(f"/proc/{os.getpid()}/fd"):
        return None
    try:
        return os.open(folder, flag | os.O_RDWR, 0o666)
    except OSError:  # not on this file system; what else is wrong will show soon enough
        return None


@contextlib.contextmanager
def _nameless(path: Path, hidden: Path, descriptor: int, replace: bool) -> Iterator[Path]:
    unfinished = Path(_path_of(descriptor))
    try:
        yield unfinished
        os.fsync(descriptor)
        try:
            _link(unfinished, path)
            return
        except FileExistsError:
            if not replace:
                raise _exists(path) from None
        except OSError:  # this file system has no links
            pass
        _lock_file(descriptor)
        try:
            _link(unfinished, hidden)
        except OSError:
            with _named(path, hidden, replace) as named:
                shutil.copyfile(unfinished, named)
            return
        try:
            _rename(hidden, path, replace)
        finally:
            hidden.unlink(missing_ok=True)
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
def _named(path: Path, hidden: Path, replace: bool) -> Iterator[Path]:
    descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    try:
        if fcntl is None:
            os.close(descriptor)  # Windows renames no open files
        else:
            _lock_file(descriptor)
        yield hidden
        with open(hidden, "r+b") as file:
            os.fsync(file.fileno())
        _rename(hidden, path, replace)
    finally:
        hidden.unlink(missing_ok=True)
        if fcntl is not None:
            os.close(descriptor)


def _rename(hidden: Path, path: Path, replace: bool) -> None:
    if replace:
        os.replace(hidden, path)
        return
    try:
        os.link(hidden, path)
    except FileExistsError:
        raise _exists(path) from None
    except OSError:
        # A file system without links: whoever makes the empty file may replace it.
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o666))
        except FileExistsError:
            raise _exists(path) from None
        os.replace(hidden, path)


def _lock_file(descriptor: int) -> None:
    """Tell others that the file is being written, for as long as it is open here."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _clear_away(folder: Path) -> None:
    """Remove what killed processes left in a folder, once in each process."""
    with _lock:
        if fcntl is None or str(folder) in _cleared:
            return
        _cleared.add(str(folder))
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _LEFTOVER.fullmatch(entry.name):
                _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(path)
        finally:
            os.close(descriptor)


def weights_folder() -> Path:
    """The folder for weights: ``$COMPRESSAI_HOME``, else ``compressai`` in the user's cache.

    The cache is where the system has it: ``~/.cache`` or ``$XDG_CACHE_HOME`` on Linux,
    ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows.
    """
    home = os.environ.get("COMPRESSAI_HOME")
    if home:
        return Path(home).expanduser()
    # Here, since few commands need it.
    from platformdirs import user_cache_path

    return user_cache_path("compressai", appauthor=False).expanduser()
