# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Jobs under faults: nothing is lost, nothing made twice, and the manifest has the reason of each.

Workers run in this process, and faults are injected; ``test_cluster_ray.py`` kills real workers.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import signal
from pathlib import Path

import pytest
from image_files import file_of
from local_jobs import chosen, local_pass, work_in_this_process
from PIL import Image
from program import save_crops
from streams import Stream

pytest.importorskip("pyarrow")

from compressai import _files
from compressai.bitstream import read_coded
from compressai.cluster import (
    EncodeWorker,
    Item,
    Manifest,
    Run,
    Store,
    encode_corpus,
    evaluate_corpus,
    read_manifest,
    run_job,
    stores,
)
from compressai.cluster.stores import list_sources
from compressai.evaluation import find_codec

NAMES = ("a", "b", "c", "d")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="a forked process is killed")
needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    save_crops({folder / f"{name}.png": (9 * i, 0, 9 * i + 64, 64) for i, name in enumerate(NAMES)})
    return folder


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    work_in_this_process(monkeypatch)


def encode(photos, target, make_encoder=EncodeWorker, **more):
    return encode_corpus(
        [str(photos)], str(target), chosen, suffixes=[".png"], make_encoder=make_encoder, **more
    )


def names(rows):
    return sorted(Path(row["source"]).stem for row in rows)


def check_target(target, done, failed=()):
    """The folder holds what is done, whole, and nothing else; the manifest tells of all."""
    files = [path for path in target.rglob("*") if path.is_file() and path.suffix != ".parquet"]
    assert sorted(path.name for path in files) == [f"{name}.cai" for name in done]
    for path in files:
        read_coded(path)
    rows = read_manifest(str(target)).to_pylist()
    assert names(row for row in rows if row["status"] == "done") == sorted(done)
    assert names(row for row in rows if row["status"] == "failed") == sorted(failed)
    assert all(row["error"] for row in rows if row["status"] == "failed")
    return {Path(row["source"]).stem: row for row in rows}


def break_writes(monkeypatch, number, fails):
    """Let what is written fail when it is complete but for its name."""
    real = stores.atomic_write

    @contextlib.contextmanager
    def write(path, **more):
        with real(path, **more) as unfinished:
            yield unfinished
            if fails(Path(path)):
                raise OSError(number, os.strerror(number))

    monkeypatch.setattr(stores, "atomic_write", write)


# -- targets ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES])
def test_result_that_cannot_be_written_is_told_and_made_later(photos, tmp_path, number):
    target = tmp_path / "coded"
    with pytest.MonkeyPatch.context() as faults:
        break_writes(faults, number, lambda path: path.name == "b.cai")
        report = encode(photos, target, run=Run(retries=1))
    assert (names(report.done), names(report.failed)) == (["a", "c", "d"], ["b"])
    row = check_target(target, "acd", "b")["b"]
    assert row["attempts"] == 2
    assert os.strerror(number) in row["error"]
    assert str(target / "b.cai") in row["error"]

    report = encode(photos, target)
    assert (names(report.skipped), names(report.done)) == (["a", "c", "d"], ["b"])
    check_target(target, NAMES)


def test_old_result_outlives_a_full_disk(photos, tmp_path):
    target = tmp_path / "coded"
    encode(photos, target)
    before = (target / "b.cai").read_bytes()
    with pytest.MonkeyPatch.context() as faults:
        break_writes(faults, errno.ENOSPC, lambda path: path.name == "b.cai")
        report = encode(photos, target, overwrite=True, options={"tile": 64})
    assert names(report.failed) == ["b"]
    assert (target / "b.cai").read_bytes() == before


def test_fault_that_passes_costs_an_attempt_only(photos, tmp_path, monkeypatch):
    faults = iter([True])
    break_writes(monkeypatch, errno.EIO, lambda path: path.name == "c.cai" and next(faults, False))
    report = encode(photos, tmp_path / "coded")
    assert report.failed == []
    rows = check_target(tmp_path / "coded", NAMES)
    assert [rows[name]["attempts"] for name in NAMES] == [1, 1, 2, 1]


def test_disk_that_is_full_for_the_manifest_too_is_told(photos, tmp_path):
    target = tmp_path / "coded"
    with pytest.MonkeyPatch.context() as faults:
        break_writes(faults, errno.ENOSPC, lambda path: True)
        report = encode(photos, target)
    assert (report.done, names(report.failed)) == ([], list(NAMES))
    assert os.strerror(errno.ENOSPC) in report.manifest_error
    assert "_manifest" in report.manifest_error
    check_target(target, "")
    report = encode(photos, target)
    assert (names(report.done), report.manifest_error) == (list(NAMES), None)
    check_target(target, NAMES)


def test_rows_wait_for_room_on_the_disk(photos, tmp_path, monkeypatch):
    """And what was done is not made again if none comes."""
    target = tmp_path / "coded"
    monkeypatch.setattr("compressai.cluster.manifest._PART_ROWS", 1)
    with pytest.MonkeyPatch.context() as faults:
        tries = iter([True, True])
        break_writes(
            faults, errno.ENOSPC, lambda path: path.suffix == ".parquet" and next(tries, False)
        )
        report = encode(photos, target)
    assert report.manifest_error is None
    check_target(target, NAMES)

    for part in (target / "_manifest").iterdir():
        part.unlink()
    with pytest.MonkeyPatch.context() as faults:
        break_writes(faults, errno.ENOSPC, lambda path: path.suffix == ".parquet")
        encode(photos, target)
    written = {path: path.stat().st_mtime_ns for path in target.glob("*.cai")}
    assert names(encode(photos, target).done) == list(NAMES)
    assert {path: path.stat().st_mtime_ns for path in target.glob("*.cai")} == written
    check_target(target, NAMES)


def test_interruption_is_not_hidden_by_a_full_disk(photos, tmp_path, monkeypatch):
    def stop(row):
        raise KeyboardInterrupt

    break_writes(monkeypatch, errno.ENOSPC, lambda path: path.suffix == ".parquet")
    lost = pytest.warns(UserWarning, match="lacks the last rows: OSError")
    with pytest.raises(KeyboardInterrupt), lost:
        encode(photos, tmp_path / "coded", run=Run(on_row=stop))


def test_folder_that_cannot_be_written_to_stops_a_job_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *args: False)
    manifest = Manifest(Store(str(tmp_path / "coded")), {})
    with pytest.raises(PermissionError, match=r"read-only.*_manifest"):
        run_job([Item("a")], lambda number: 1 / 0, manifest, local_pass)


def test_figures_outlive_a_full_disk(photos, tmp_path, monkeypatch):
    break_writes(monkeypatch, errno.ENOSPC, lambda path: True)
    result, report = evaluate_corpus(
        [str(photos)], lambda: ([find_codec("jpeg")], []), str(tmp_path / "figures"), settings={}
    )
    assert {Path(point.image).stem for point in result.points} == set(NAMES)
    assert os.strerror(errno.ENOSPC) in report.manifest_error


def test_program_tells_of_a_manifest_that_lacks_rows(photos, tmp_path, capsys, monkeypatch):
    from compressai.cli import main

    monkeypatch.setattr("compressai.model_choice.choose_model", lambda *args, **kwargs: chosen())
    break_writes(monkeypatch, errno.ENOSPC, lambda path: path.suffix == ".parquet")
    with pytest.raises(SystemExit) as stopped:
        main(["encode", str(photos), str(tmp_path / "coded"), "--engine", "ray", "--json"])
    assert stopped.value.code == 1
    out, err = capsys.readouterr()
    assert "manifest lacks rows" in err
    assert (json.loads(out)["done"], json.loads(out)["failed"]) == (4, [])
    assert os.strerror(errno.ENOSPC) in json.loads(out)["manifest_error"]


# -- sources ---------------------------------------------------------------------------------------


def _replace_by(make):
    def replace(path):
        path.unlink()
        make(path)

    return replace


SOURCE_FAULTS = {
    "vanished": (Path.unlink, "FileNotFoundError"),
    "a folder": (_replace_by(Path.mkdir), "IsADirectoryError"),
    "a link to nothing": (_replace_by(lambda p: p.symlink_to("nothing")), "FileNotFoundError"),
    "a link to itself": (_replace_by(lambda p: p.symlink_to(p.name)), "OSError"),
    "emptied": (lambda path: path.write_bytes(b""), "ValueError"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:900]), "ValueError"),
}
if hasattr(os, "mkfifo"):
    SOURCE_FAULTS["a pipe"] = (_replace_by(os.mkfifo), "a named pipe, not a regular file")


@pytest.mark.parametrize("fault", SOURCE_FAULTS)
def test_source_that_changes_behind_the_listing_is_told(photos, tmp_path, monkeypatch, fault):
    change, reason = SOURCE_FAULTS[fault]
    source, target = photos / "b.png", tmp_path / "coded"
    content = source.read_bytes()

    def changing_pass(*args, workers):
        change(source)
        yield from local_pass(*args)

    work_in_this_process(monkeypatch, changing_pass)
    report = encode(photos, target, run=Run(retries=1))
    assert (names(report.done), names(report.failed)) == (["a", "c", "d"], ["b"])
    assert reason in check_target(target, "acd", "b")["b"]["error"]

    work_in_this_process(monkeypatch)
    source.rmdir() if source.is_dir() else source.unlink(missing_ok=True)
    source.write_bytes(content)
    report = encode(photos, target)
    assert (names(report.skipped), names(report.done)) == (["a", "c", "d"], ["b"])
    check_target(target, NAMES)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_source_that_cannot_be_read_is_told(photos, tmp_path, monkeypatch, number):
    real = stores.open_regular

    def open_regular(path):
        if Path(path).name == "b.png":
            raise OSError(number, os.strerror(number), str(path))
        return real(path)

    monkeypatch.setattr(stores, "open_regular", open_regular)
    report = encode(photos, tmp_path / "coded")
    assert names(report.failed) == ["b"]
    error = check_target(tmp_path / "coded", "acd", "b")["b"]["error"]
    assert os.strerror(number) in error
    assert str(photos / "b.png") in error


@pytest.mark.parametrize("start", ["image", "something else"])
def test_sources_are_read_by_their_header(photos, tmp_path, monkeypatch, start):
    """From servers too: one that sends without end costs no memory."""
    large = file_of(Image.new("L", (2000, 2000)), "PNG").getvalue()
    stream = Stream(large if start == "image" else b"nothing")
    real = Store.open

    def open_(store, name=""):
        return stream if store.url.endswith("b.png") else real(store, name)

    monkeypatch.setattr(Store, "open", open_)
    report = encode(photos, tmp_path / "coded", run=Run(retries=0), max_pixels=10**6)
    assert names(report.failed) == ["b"]
    assert stream.taken == 2**16
    reason = "2000 x 2000" if start == "image" else "no image"
    assert reason in check_target(tmp_path / "coded", "acd", "b")["b"]["error"]


def test_large_files_of_another_kind_cost_no_memory(photos, tmp_path):
    for path in (photos / "sparse.png", tmp_path / "coded" / "a.cai"):
        path.parent.mkdir(exist_ok=True)
        with open(path, "wb") as file:
            file.truncate(2**40)
    report = encode(photos, tmp_path / "coded", run=Run(retries=0))
    assert names(report.done) == ["b", "c", "d"]
    errors = {Path(row["source"]).stem: row["error"] for row in report.failed}
    assert "sparse.png is no image" in errors["sparse"]
    assert "a.cai exists and is damaged" in errors["a"]


@needs_pipes
def test_what_is_no_file_is_not_passed_over(photos, tmp_path):
    os.mkfifo(photos / "pipe.png")
    report = encode(photos, tmp_path / "coded")
    assert names(report.failed) == ["pipe"]
    assert "named pipe" in report.failed[0]["error"]
    assert "pipe.png" not in Store(str(photos)).files()


def test_name_that_no_manifest_can_hold_is_told(tmp_path):
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("the file system has names in Unicode only")
    with pytest.raises(ValueError, match=r"not in UTF-8: .*\\xff"):
        list_sources([str(tmp_path)], [".png"])


def test_reason_that_is_no_unicode_does_not_cost_the_manifest(tmp_path):
    def worker(item):
        raise OSError(errno.EIO, "broken", "\udcff")

    manifest = Manifest(Store(str(tmp_path)), {})
    run_job([Item("a")], lambda number: worker, manifest, local_pass)
    [row] = read_manifest(str(tmp_path)).to_pylist()
    assert "udcff" in row["error"]


# -- processes -------------------------------------------------------------------------------------


class Dead(BaseException):
    """A process ended with an item in its hands."""


class DyingEncoder(EncodeWorker):
    """Is killed in writing ``b.cai``, once."""

    def __init__(self, *args, point, deaths, **kwargs):
        super().__init__(*args, **kwargs)
        self.point = point
        self.deaths = deaths

    def write(self, item, content):
        if not item.source.endswith("b.png") or self.deaths:
            super().write(item, content)
            return
        self.deaths.append(item.source)
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                self.kill_at_the_point()
                super().write(item, content)
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        raise Dead

    def kill_at_the_point(self):
        def die(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGKILL)

        if self.point == "before the content":
            Path.write_bytes = die
        elif self.point == "before it is on the disk":
            os.fsync = die
        elif self.point == "before it has its name":
            os.link = os.replace = die


def pass_with_deaths(items, make_worker, number, retries, *, workers):
    for item in items:
        with contextlib.suppress(Dead):
            yield from local_pass([item], make_worker, number, retries)


POINTS = ("before the content", "before it is on the disk", "before it has its name", "at the end")


@needs_fork
@pytest.mark.parametrize("next_pass", [True, False], ids=["next pass", "next run"])
@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
@pytest.mark.parametrize("point", POINTS)
def test_killed_worker_costs_nothing(photos, tmp_path, monkeypatch, point, nameless, next_pass):
    """Wherever it is killed, and whether or not the file system has files without names."""
    target, deaths = tmp_path / "coded", []
    if not nameless:
        monkeypatch.setattr(_files, "_open_nameless", lambda folder: None)
    make_encoder = functools.partial(DyingEncoder, point=point, deaths=deaths)
    if next_pass:
        work_in_this_process(monkeypatch, pass_with_deaths)
        report = encode(photos, target, make_encoder)
        assert (names(report.done), report.failed) == (list(NAMES), [])
    else:
        with pytest.raises(Dead):
            encode(photos, target, make_encoder)
        assert names(read_manifest(str(target)).to_pylist()) == ["a"]
        before = {path: path.stat().st_mtime_ns for path in target.glob("*.cai")}
        assert len(before) == (2 if point == "at the end" else 1)
        # Another process sweeps each folder once.
        monkeypatch.setattr(_files, "_cleared", set())
        report = encode(photos, target)
        assert names(report.skipped) == ["a"]
        assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(deaths) == 1
    if next_pass and not nameless:
        _files._cleared.clear()
        Store(str(target)).write(b"", "last.cai")
        (target / "last.cai").unlink()
    check_target(target, NAMES)


def test_two_jobs_at_once_make_each_file_once(photos, tmp_path):
    """The other one writes a file after this one has seen that it is missing."""
    target, others, written = tmp_path / "coded", [], {}

    class SlowEncoder(EncodeWorker):
        def write(self, item, content):
            if not others:
                others.append(encode(photos, target))
                written.update({path: path.stat().st_mtime_ns for path in target.glob("*.cai")})
            super().write(item, content)

    report = encode(photos, target, SlowEncoder)
    assert names(report.done) == names(others[0].done) == list(NAMES)
    assert {path: path.stat().st_mtime_ns for path in target.glob("*.cai")} == written
    assert [row["attempts"] for row in report.done] == [2, 1, 1, 1]
    check_target(target, NAMES)


# -- disks of servers ------------------------------------------------------------------------------


def test_disks_of_servers_show_no_parts(tmp_path, monkeypatch):
    from fsspec.implementations.memory import MemoryFile

    monkeypatch.setattr(stores, "_WITH_PARTS", frozenset({"memory"}))
    store = Store(f"memory://{tmp_path.name}")
    store.write(b"old", "a")
    store.write(b"again", "a")

    def write(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.MonkeyPatch.context() as faults:
        faults.setattr(MemoryFile, "write", write)
        for name in ("a", "b"):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                store.write(b"new", name)
    assert store.read("a") == b"again"
    filesystem, root = store._connect()
    found = filesystem.get_file_info(stores.fs.FileSelector(root, recursive=True))
    assert [info.path.rpartition("/")[2] for info in found] == ["a"]


def test_files_are_replaced_where_renaming_does_not_replace(tmp_path):
    class Server(stores.fs.LocalFileSystem):
        def move(self, source, target):
            os.link(source, target)
            os.unlink(source)

    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "old").write_bytes(b"old")
    stores._move(Server(), str(tmp_path / "new"), str(tmp_path / "old"))
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"new"
    with pytest.raises(FileNotFoundError):
        stores._move(Server(), str(tmp_path / "missing"), str(tmp_path / "other"))
