# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Writing files: races for one name, killed processes, disks that are full or read-only."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from compressai import _files
from compressai._files import atomic_write, check_writable

# By its file: the whole package would take seconds to import.
IMPORT = f"import sys; sys.path.append({str(Path(_files.__file__).parent)!r}); import _files\n"


@pytest.fixture(params=["all", "no nameless files", "no links"])
def kind_of_disk(request, monkeypatch):
    """What file systems may lack."""
    if request.param != "all":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    if request.param == "no links":

        def link(*_, **__):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(_files, "_cleared", set())
    return request.param


def test_one_of_many_wins_where_nothing_may_be_replaced(tmp_path, kind_of_disk):
    """All have begun when the first one ends."""
    path, begun, outcomes = tmp_path / "x", threading.Barrier(8), []

    def write(content):
        try:
            with atomic_write(path, replace=False) as unfinished:
                unfinished.write_text(content)
                begun.wait(30)
            outcomes.append(content)
        except FileExistsError as error:
            assert str(error) == f"{path} exists, and is not to be replaced"  # noqa: PT017

    threads = [threading.Thread(target=write, args=(f"{i}" * 9,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = outcomes
    assert path.read_text() == winner
    assert list(tmp_path.iterdir()) == [path]


def test_existing_files_are_kept_before_any_work(tmp_path, kind_of_disk):
    path = tmp_path / "x"
    path.write_text("old")
    with pytest.raises(FileExistsError), atomic_write(path, replace=False):
        pytest.fail("it began")
    with atomic_write(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new"


def test_leftovers_of_killed_processes_are_removed_and_those_of_others_kept(tmp_path, monkeypatch):
    """One process is killed while it writes, another one still writes."""
    program = (
        f"{IMPORT}import os\n"
        "if hasattr(os, 'O_TMPFILE'): del os.O_TMPFILE\n"
        "with _files.atomic_write(sys.argv[1]) as unfinished:\n"
        "    unfinished.write_bytes(b'half'); print(unfinished.name, flush=True)\n"
        "    sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    (tmp_path / ".x.1234.0123abcd").write_text("of somebody else")
    with (
        subprocess.Popen([*command, str(tmp_path / "dead")], **pipes) as dead,
        subprocess.Popen([*command, str(tmp_path / "alive")], **pipes) as alive,
    ):
        left = [tmp_path / process.stdout.readline().strip() for process in (dead, alive)]
        assert [path.exists() for path in left] == [True, True]
        dead.kill()
        dead.wait()
        monkeypatch.setattr(_files, "_cleared", set())
        with atomic_write(tmp_path / "next") as unfinished:
            unfinished.write_text("next")
        assert [path.exists() for path in left] == [False, True]
        alive.communicate("")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.1234.0123abcd", "alive", "next"]
    assert (tmp_path / "alive").read_bytes() == b"half"


@pytest.mark.parametrize("replace", [False, True])
def test_process_killed_while_it_replaces_leaves_nothing_for_long(tmp_path, replace, monkeypatch):
    path = tmp_path / "x"
    if replace:
        path.write_text("old")
    program = (
        f"{IMPORT}import os, signal\n"
        "_files._rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "if sys.argv[2] == 'False': del os.O_TMPFILE\n"
        "with _files.atomic_write(sys.argv[1]) as unfinished: unfinished.write_text('new')"
    )
    subprocess.run([sys.executable, "-c", program, str(path), str(replace)], check=False)
    assert len([p for p in tmp_path.iterdir() if p.name.endswith(".unfinished")]) == 1
    monkeypatch.setattr(_files, "_cleared", set())
    with atomic_write(tmp_path / "y") as unfinished:
        unfinished.write_text("next")
    assert sorted(p.name for p in tmp_path.iterdir()) == [*["x"] * replace, "y"]
    assert not replace or path.read_text() == "old"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("named", [False, True])
def test_full_disks_name_the_target(tmp_path, kind_of_disk, number, named):
    path, message = tmp_path / "x", os.strerror(number)
    with pytest.raises(OSError, match=message) as caught, atomic_write(path) as unfinished:
        raise OSError(number, message, *[str(unfinished)] * named)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_other_files_keep_their_names(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, atomic_write(tmp_path / "x"):
        Path(tmp_path, "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")


def test_real_disks_that_are_full_name_the_target(tmp_path):
    """As much as a limit of the process can do: the write itself fails."""
    program = (
        f"{IMPORT}import resource, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n"
        "    with _files.atomic_write(sys.argv[1]) as file: file.write_bytes(bytes(9999))\n"
        "except OSError as error: print(error.filename)"
    )
    pytest.importorskip("resource")
    command = [sys.executable, "-c", program, str(tmp_path / "x")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_and_devices_are_not_replaced_by_their_own_names(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    read, write = os.pipe()
    try:
        # What links of this kind say is no path.
        for path in (tmp_path / "pipe", tmp_path / "link", f"/dev/fd/{write}", "/dev/null"):
            if os.path.exists(path):
                for call in (check_writable, lambda path: atomic_write(path).__enter__()):
                    with pytest.raises(FileExistsError) as caught:
                        call(path)
                    assert str(caught.value) == f"{path} is no regular file and is not replaced"
    finally:
        os.close(read)
        os.close(write)


def test_read_only_folders_are_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    for call in (check_writable, lambda path: atomic_write(path).__enter__()):
        with pytest.raises(PermissionError, match="its folder is read-only") as caught:
            call(tmp_path / "x")
        assert caught.value.filename == str(tmp_path / "x")


def test_folders_that_turn_read_only_name_the_target(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "O_TMPFILE", raising=False)

    def refuse(path, *_):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "replace", refuse)
    path = tmp_path / "x"
    with pytest.raises(OSError, match="Read-only") as caught, atomic_write(path) as unfinished:
        unfinished.write_text("x")
    assert caught.value.filename == str(tmp_path / "x")
