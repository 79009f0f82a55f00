# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Decoding corpora: each file as by one process, and what fails is told in the same words.

Workers run in this process here; ``test_cluster_ray.py`` has the same on Ray.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from local_jobs import chosen, work_in_this_process
from PIL import Image
from program import pixels, save_crops

pytest.importorskip("pyarrow")

from compressai.checkpoint import save_checkpoint
from compressai.cli import messages
from compressai.cluster import Run, decode_corpus, encode_corpus, read_manifest

NAMES = ("a.png", "b.png", "more/c.png", "more/d.png")


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    work_in_this_process(monkeypatch)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "net.safetensors"
    arguments = {"N": 8, "M": 12}
    save_checkpoint(path, chosen().net, architecture="mbt2018-mean", arguments=arguments)
    return path


@pytest.fixture
def coded(tmp_path):
    folder = tmp_path / "photos"
    save_crops({folder / name: (20 * i, 0, 20 * i + 80, 64) for i, name in enumerate(NAMES)})
    encode_corpus([str(folder)], str(tmp_path / "coded"), chosen, suffixes=[".png"])
    for part in (tmp_path / "coded" / "_manifest").iterdir():
        part.unlink()
    return tmp_path / "coded"


def decode(coded, target, checkpoint, **more):
    return decode_corpus([str(coded)], str(target), checkpoint=checkpoint, **more)


def test_images_are_those_of_one_process(coded, tmp_path, checkpoint, run):
    status, out, err = run(
        *("decode", coded, tmp_path / "ray", "--checkpoint", checkpoint, "--engine", "ray"),
        *("--json", "--precision", "fp32"),
    )
    assert status == 0, err
    assert json.loads(out)["done"] == len(NAMES)
    words = ("--checkpoint", checkpoint, "--engine", "torch", "--precision", "fp32")
    assert run("decode", coded, tmp_path / "here", *words)[0] == 0
    for name in NAMES:
        assert (pixels(tmp_path / "ray" / name) == pixels(tmp_path / "here" / name)).all()
    rows = read_manifest(str(tmp_path / "ray")).to_pylist()
    assert {row["status"] for row in rows} == {"done"}
    for row in rows:
        assert Path(row["target"]).stat().st_size == row["bytes"]
        assert (row["width"], row["height"]) == (80, 64)


def test_errors_and_notes_are_those_of_one_process(coded, tmp_path, checkpoint, run):
    (coded / "a.cai").write_bytes((coded / "a.cai").read_bytes()[:-5])
    (coded / "b.cai").write_bytes(b"no coded image")
    other = chosen(seed=1)
    encode_corpus(
        [str(tmp_path / "photos" / "a.png")], str(coded / "e"), lambda: other, suffixes=()
    )
    for target in ("ray", "here"):
        (tmp_path / target / "more").mkdir(parents=True)
        (tmp_path / target / "more" / "c.jpg").write_bytes(b"of somebody else")
    words = ("--checkpoint", checkpoint, "--format", "jpg", "--json")
    told = {}
    for engine, target in (("ray", "ray"), ("torch", "here")):
        more = ("--retries", 0) if engine == "ray" else ()
        status, out, err = run(
            *("decode", coded, tmp_path / target, "--engine", engine, *words, *more)
        )
        assert status == 1
        assert "note: " in err
        assert "JPEG files are lossy" in err
        assert messages.RANDOM_WEIGHTS in err
        failed = json.loads(out)["failed"]
        told[target] = {Path(one["file"]).name: one["error"] for one in failed}
    assert sorted(told["ray"]) == sorted(told["here"]) == ["a.cai", "a.cai", "b.cai", "c.cai"][1:]
    for name, error in told["here"].items():
        kind, _, text = told["ray"][name].partition(": ")
        assert kind.endswith("Error")
        assert text.replace("/ray/", "/here/") == error


def test_rerun_skips_what_is_done_and_nothing_foreign_is_replaced(coded, tmp_path, checkpoint):
    target = tmp_path / "decoded"
    starts = []
    assert len(decode(coded, target, checkpoint, run=Run(on_start=starts.append)).done) == 4
    (target / "b.png").unlink()
    report = decode(coded, target, checkpoint, run=Run(on_start=starts.append))
    assert [Path(row["source"]).name for row in report.done] == ["b.cai"]
    assert starts == [4, 1]
    # Written, but the machine died before its row came.
    for part in (target / "_manifest").iterdir():
        part.unlink()
    before = (target / "a.png").stat().st_mtime_ns
    assert len(decode(coded, target, checkpoint).done) == 4
    assert (target / "a.png").stat().st_mtime_ns == before
    for part in (target / "_manifest").iterdir():
        part.unlink()
    os.utime(target / "a.png", (1, 1))
    report = decode(coded, target, checkpoint, run=Run(retries=0))
    assert [Path(row["source"]).name for row in report.failed] == ["a.cai"]
    assert "older than" in report.failed[0]["error"]
    assert len(decode(coded, target, checkpoint, overwrite=True).done) == 4
    with pytest.raises(ValueError, match="name another folder"):
        decode(coded, target, checkpoint, options={"region": (0, 0, 8, 8)})
    skipped = decode(
        coded, target, checkpoint, options={"region": (0, 0, 8, 8)}, skip_existing=True
    )
    assert len(skipped.skipped) == 4


def test_regions_and_elsewhere(coded, tmp_path, checkpoint):
    url = f"memory://{tmp_path.name}/parts"
    options = {"region": (8, 16, 24, 32)}
    report = decode(coded, url, checkpoint, options=options, suffix=".tif")
    assert report.failed == []
    assert {(row["width"], row["height"]) for row in report.done} == {(24, 32)}
    from compressai.cluster import Store

    assert list(Store(url).files()) == ["a.tif", "b.tif", "more/c.tif", "more/d.tif"]


def test_one_file_may_be_named(coded, tmp_path, checkpoint, run):
    words = ("--checkpoint", checkpoint, "--engine", "ray", "-v")
    status, out, err = run("decode", coded / "a.cai", tmp_path / "x" / "one.png", *words)
    assert status == 0, err
    assert "a.cai -> " in out
    with Image.open(tmp_path / "x" / "one.png") as image:
        assert image.size == (80, 64)
    assert run("decode", coded, tmp_path / "y", *words[:-1], "--quiet")[1] == ""
    assert run("decode", coded, *words)[0] == 2
    assert run("decode", coded, tmp_path / "z", "--retries", 1)[0] == 2


def test_job_shows_how_far_it_is(coded, tmp_path, checkpoint, run, monkeypatch):
    steps = []

    class Bar:
        def __init__(self, title, total):
            steps.append((title, total))

        def __enter__(self):
            return steps.append

        def __exit__(self, *error):
            steps.append("end")

    monkeypatch.setattr("compressai.cli.corpus.progress_bar", Bar)
    words = ("--checkpoint", checkpoint, "--engine", "ray")
    assert run("decode", coded, tmp_path / "x", *words)[0] == 0
    assert steps == [("decode", 4), "a.cai", "b.cai", "c.cai", "d.cai", "end"]
    del steps[:]
    photos = tmp_path / "photos"
    assert run("encode", photos, tmp_path / "y", *words)[0] == 0
    figures = ("--manifest", tmp_path / "figures", "--no-lpips")
    assert run("eval", photos, *words, *figures)[0] == 0
    assert [step for step in steps if isinstance(step, tuple)] == [("encode", 4), ("eval", 4)]
    assert len(steps) == 12
