# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The way files are written on Windows, against stubs that refuse what Windows refuses.

They are no Windows: what is here shows that nothing of what is known to be refused there is done.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import platformdirs
import platformdirs.macos
import platformdirs.windows
import pytest

from compressai import _files, encode
from compressai._files import atomic_write, weights_folder

fcntl = pytest.importorskip("fcntl")
PHOTO = Path(__file__).parents[1] / "examples" / "assets" / "chelsea.png"


def _opened() -> set[str]:
    """The files that this process has open, by their paths."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the one of the listing itself
            continue
    return found


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the stubs read /proc")
    real = {name: getattr(os, name) for name in ("fsync", "open", "replace", "unlink", "link")}

    def fsync(descriptor: int) -> None:
        # FlushFileBuffers asks for a handle with the right to write.
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        real["fsync"](descriptor)

    def open_file(path: object, flags: int, mode: int = 0o777, **options: object) -> int:
        if options:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if os.path.isdir(path):  # type: ignore[arg-type]
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))  # type: ignore[call-overload]
        return real["open"](path, flags, mode)

    def unless_open(name: str, *paths: object) -> None:
        for path in paths:
            if os.path.realpath(path) in _opened():  # type: ignore[call-overload]
                raise PermissionError(errno.EACCES, f"{name}: used by another process", path)

    def replace(source: object, target: object) -> None:
        unless_open("replace", source, target)
        real["replace"](source, target)

    def unlink(path: object, **options: object) -> None:
        unless_open("unlink", path)
        real["unlink"](path, **options)

    def link(source: object, target: object, **options: object) -> None:
        if options:
            raise NotImplementedError("src_dir_fd and dst_dir_fd unavailable on this platform")
        real["link"](source, target)

    for function in (fsync, replace, unlink, link):
        monkeypatch.setattr(os, function.__name__, function)
    monkeypatch.setattr(os, "open", open_file)
    for name in ("O_TMPFILE", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY"):
        monkeypatch.delattr(os, name, raising=False)
    monkeypatch.setattr(_files, "fcntl", None)
    monkeypatch.setattr(_files, "_cleared", set())


def test_stubs_refuse_what_windows_refuses(windows: None, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"x")
    with open(path, "rb") as file:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fsync(file.fileno())
        with pytest.raises(PermissionError, match="replace"):
            os.replace(path, tmp_path / "y")
    with pytest.raises(PermissionError):
        os.open(tmp_path, os.O_RDONLY)


@pytest.mark.parametrize("replace", [True, False])
def test_files_are_written_whole_and_nothing_is_left(
    windows: None, tmp_path: Path, replace: bool
) -> None:
    path = tmp_path / "x"
    if replace:
        path.write_bytes(b"old")
    with atomic_write(path, replace=replace) as unfinished:
        unfinished.write_bytes(b"new")
        assert path.exists() == replace
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_ISREG(path.stat().st_mode)


def test_a_fault_while_writing_keeps_the_old_file(windows: None, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(b"half")
            raise RuntimeError("fault")

    with pytest.raises(RuntimeError, match="fault"):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_program_codes_an_image(windows: None, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from compressai.cli.app import app

    coded, decoded = tmp_path / "a.cai", tmp_path / "a.png"
    for words in (
        ["encode", "--quality", "10", str(PHOTO), str(coded)],
        ["decode", str(coded), str(decoded)],
    ):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.cai", "a.png"]
    assert coded.read_bytes() == encode(PHOTO, quality=10)


@pytest.mark.parametrize(
    ("system", "folder"),
    [
        (platformdirs.windows.Windows, "Local/compressai/Cache"),
        (platformdirs.macos.MacOS, "Library/Caches/compressai"),
    ],
)
def test_weights_are_kept_where_each_system_keeps_caches(
    system: type, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COMPRESSAI_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    monkeypatch.setattr(
        platformdirs.windows, "get_win_folder", lambda name: str(tmp_path / "Local"), raising=False
    )
    assert str(weights_folder()).replace("\\", "/").endswith(folder)
