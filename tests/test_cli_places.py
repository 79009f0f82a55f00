# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which words of a command line are read and which are written, and what a rerun does."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import pytest
import typer
from program import blurred_noise

from compressai.cli.places import is_url, local_paths, names_a_file, split_name, split_places
from compressai.version import __version__

pytestmark = pytest.mark.usefixtures("folder")

ENCODE = {"source_suffixes": [".png", ".jpg"], "result_suffixes": [".cai"]}
DECODE = {"source_suffixes": [".cai", ".bin"], "result_suffixes": [".png", ".jpg"]}


@pytest.fixture
def images():
    for seed, name in enumerate(("a.png", "in/a.png", "in/deep/b.png")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        blurred_noise((64 + seed, 40), seed).save(name)


@pytest.mark.parametrize(
    ("rules", "words", "sources", "output"),
    [
        (ENCODE, "a.png", "a.png", None),
        (ENCODE, "a.png b.cai", "a.png", "b.cai"),
        (ENCODE, "a.png old.cai", "a.png", "old.cai"),
        (ENCODE, "a.png -", "a.png", "-"),
        (ENCODE, "- -", "-", "-"),
        (ENCODE, "- b.cai", "-", "b.cai"),
        (ENCODE, "a.png b.png folder", "a.png b.png", "folder"),
        (ENCODE, "a.png b.png new", "a.png b.png", "new"),
        (ENCODE, "a.png b.png new.d/", "a.png b.png", "new.d/"),
        (ENCODE, "folder new", "folder", "new"),
        (ENCODE, "folder folder", "folder", "folder"),
        (ENCODE, "a.png b.png", "a.png b.png", None),  # what the shell makes of *.png
        (ENCODE, "a.png notes.txt", "a.png notes.txt", None),
        (ENCODE, "a.png B.PNG", "a.png B.PNG", None),
        (ENCODE, "s3://b/photos s3://b/coded", "s3://b/photos", "s3://b/coded"),
        (ENCODE, "s3://b/photos s3://b.png", "s3://b/photos", "s3://b.png"),
        (ENCODE, "s3://b/x.png s3://b/y.png?a=b", "s3://b/x.png s3://b/y.png?a=b", None),
        (ENCODE, "s3://b/x.png zip://y.cai::s3://b/z.zip", "s3://b/x.png", "zip://y.cai::s3://b/z.zip"),
        (DECODE, "a.cai b.png", "a.cai", "b.png"),
        (DECODE, "a.cai old.png", "a.cai", "old.png"),
        (DECODE, "a.cai b.cai", "a.cai b.cai", None),
        (DECODE, "a.bin b.bin", "a.bin b.bin", None),
        (DECODE, "a.cai notes", "a.cai notes", None),
        (DECODE, "a.cai b.xyz", "a.cai", "b.xyz"),
        (DECODE, "folder new", "folder", "new"),
    ],
)  # fmt: skip
def test_last_word_is_the_output_unless_it_can_only_be_read(rules, words, sources, output):
    Path("folder").mkdir()
    for name in ("old.cai", "old.png", "notes", "notes.txt"):
        Path(name).write_text("")
    assert split_places(words.split(), None, **rules) == (sources.split(), output)
    # -o leaves all words to be read.
    assert split_places(words.split(), "out", **rules) == (words.split(), "out")


@pytest.mark.parametrize("words", ["a.png b.png c.cai", "folder c.cai"])
def test_several_files_do_not_go_into_one(words):
    Path("folder").mkdir()
    with pytest.raises(typer.BadParameter, match="name a folder"):
        split_places(words.split(), None, **ENCODE)
    Path("c.cai").mkdir()
    assert split_places(words.split(), None, **ENCODE)[1] == "c.cai"


@pytest.mark.parametrize(
    ("output", "is_file"),
    [
        *(("x.cai", True), ("x.jpeg", True), ("-", True), ("plain", True), ("x", False)),
        *(("x.d/", False), ("folder.d", False), ("s3://b/x.cai", True), ("s3://b.c", False)),
        *(("s3://b.c/x", False), ("/dev/null", True)),
    ],
)
def test_names_with_a_suffix_are_files_and_others_folders(output, is_file):
    Path("plain").write_text("")
    Path("folder.d").mkdir()
    assert names_a_file(output) == is_file


@pytest.mark.parametrize(
    ("output", "folder", "name"),
    [
        ("x.cai", ".", "x.cai"),
        ("/x.cai", "/", "x.cai"),
        ("a/b/x.cai", "a/b/", "x.cai"),
        ("s3://b/a/x.cai?region=r", "s3://b/a/?region=r", "x.cai"),
        ("zip://x.cai::file:///a.zip", "zip://::file:///a.zip", "x.cai"),
    ],
)
def test_files_have_a_folder_and_a_name(output, folder, name):
    assert split_name(output) == (folder, name)


def test_urls_are_told_from_paths():
    assert [is_url(word) for word in ("s3://b", "zip://::a", "file:///a", "s3:/b")] == [True] * 4
    assert [is_url(word) for word in ("C:/a", "a", "/a:/b", "-")] == [False] * 4
    Path("x1:").mkdir()
    assert local_paths(["x1:/", "a"], "") == [Path("x1:"), Path("a")]


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["encode", "s3://bucket/x.png"], "--engine ray"),
        (["encode", "a.png", "gs://bucket/x.cai"], "--engine ray"),
        (["encode", "a.png", "-o", "gs://bucket"], "--engine ray"),
        (["eval", "https://host/x.png"], "--engine ray"),
        (["decode", "s3://bucket/x.cai"], "--engine ray"),
        (["info", "s3://bucket/x.cai"], "this machine"),
    ],
)
def test_urls_say_what_they_need(run, images, words, advice):
    status, out, err = run(*words)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert " is a URL: " in err
    assert advice in err


@pytest.mark.parametrize(
    ("words", "suffix"),
    [
        (["encode", "a.png", "b.pgn"], ".cai"),
        (["encode", "a.png", "b.png"], ".cai"),
        (["encode", "a.png", "in/a.png", "in/c.cia"], ".cai"),
        (["encode", "in", "b.JPG"], ".cai"),
        (["decode", "x.cai", "y.cai"], ".png"),
        (["decode", "x.cai", "y.pgn"], ".png"),
    ],
)
def test_a_last_word_that_is_neither_there_nor_a_result_is_refused_before_work(
    run, images, words, suffix
):
    Path("x.cai").write_text("")
    before = sorted(Path().rglob("*"))
    status, out, err = run(*words)
    advice = f"to write to it, give it the suffix {suffix}, or name it with -o"
    assert (status, out, err) == (1, "", f"error: {words[-1]} does not exist; {advice}\n")
    assert sorted(Path().rglob("*")) == before


def test_any_name_is_written_where_it_is_an_option(run, images, checkpoint):
    assert run("encode", "a.png", "-o", "b.pgn", "--checkpoint", checkpoint)[0] == 0
    assert Path("b.pgn").read_bytes()[1:4] == b"CAI"
    # It is there now, so that it is read.
    assert "b.pgn" in run("encode", "a.png", "b.pgn", "--checkpoint", checkpoint)[2]
    assert run("encode", "a.png", "new.d/", "--checkpoint", checkpoint)[0] == 0
    assert Path("new.d/a.cai").is_file()


def test_one_file_goes_to_another_and_back(run, images, checkpoint):
    with_checkpoint = ("--checkpoint", checkpoint)
    assert run("encode", "a.png", "b.cai", *with_checkpoint)[0] == 0
    assert run("decode", "b.cai", "c.webp", *with_checkpoint)[0] == 0
    assert run("encode", "a.png", "new", *with_checkpoint)[0] == 0
    assert run("encode", "a.png", "in/deep/b.png", "out", *with_checkpoint)[0] == 0
    assert run("decode", "out", "back", *with_checkpoint)[0] == 0
    found = {str(path) for path in Path().rglob("*.*")} - {"a.png", "in/a.png", "in/deep/b.png"}
    assert found == {
        *("b.cai", "c.webp", "new/a.cai", "out/a.cai", "out/b.cai", "back/a.png", "back/b.png")
    }
    assert Path("new/a.cai").read_bytes() == Path("b.cai").read_bytes()


def test_words_mean_the_same_on_a_cluster(run, images, monkeypatch):
    calls = []

    def encode_corpus(sources, destination, choose, *, name, **_):
        calls.append((sources, destination, name))
        raise RuntimeError("enough")

    monkeypatch.setattr("compressai.cluster.encode_corpus", encode_corpus)
    for words in (["a.png", "in", "out"], ["a.png", "out"], ["a.png", "out/x.cai"]):
        run("encode", *words, "--engine", "ray")
    run("encode", "zip://::file:///a.zip", "s3://b/coded?region=r", "--engine", "ray")
    assert calls == [
        (["a.png", "in"], "out", None),
        (["a.png"], "out", None),
        (["a.png"], "out/", "x.cai"),
        (["zip://::file:///a.zip"], "s3://b/coded?region=r", None),
    ]
    assert run("encode", "a.png", "in/a.png", "--engine", "ray")[0] == 2
    assert run("encode", "in", "x.cai", "--engine", "ray")[0] == 2


# -- again ----------------------------------------------------------------------------------------


def report_of(run, *words):
    status, out, _ = run(*words, "--json")
    report = json.loads(out)
    return status, report["done"], report["skipped"], len(report["failed"])


def test_rerun_skips_what_is_up_to_date(run, images, checkpoint, checkpoints):
    encode = ["encode", "in", "out", "--checkpoint", checkpoint]
    assert report_of(run, *encode) == (0, 2, 0, 0)
    assert report_of(run, *encode) == (0, 0, 2, 0)
    Path("out/a.cai").unlink()
    assert report_of(run, *encode) == (0, 1, 1, 0)
    assert report_of(run, *encode, "--overwrite") == (0, 2, 0, 0)
    # What was coded otherwise is not what is asked for.
    for other in (["--plain"], ["--tile", 64]):
        assert report_of(run, *encode, *other) == (1, 0, 0, 2)
    other = ["encode", "in", "out", "--checkpoint", checkpoints / "1.safetensors"]
    assert report_of(run, *other) == (1, 0, 0, 2)
    assert report_of(run, *other, "--skip-existing") == (0, 0, 2, 0)

    decode = ["decode", "out", "back", "--checkpoint", checkpoint]
    assert report_of(run, *decode) == (0, 2, 0, 0)
    assert report_of(run, *decode) == (0, 0, 2, 0)
    assert report_of(run, *decode, "--region", "0,0,8,8") == (1, 0, 0, 2)


def test_results_older_than_their_sources_are_not_up_to_date(run, images, checkpoint):
    encode = ["encode", "in", "out", "--checkpoint", checkpoint]
    decode = ["decode", "out", "back", "--checkpoint", checkpoint]
    assert run(*encode)[0] == run(*decode)[0] == 0
    for path in ("out/a.cai", "back/a.png"):
        os.utime(path, (1, 1))
    status, _, err = run(*encode)
    assert status == 1
    assert "in/a.png: out/a.cai exists and is older" in err
    assert report_of(run, *encode) == (1, 0, 1, 1)
    os.utime("in/a.png", (1, 1))
    assert report_of(run, *encode) == (0, 0, 2, 0)
    assert report_of(run, *decode) == (0, 0, 2, 0)
    os.utime("back/a.png", (0, 0))
    assert report_of(run, *decode) == (1, 0, 1, 1)


def test_metadata_counts_for_being_up_to_date(run, checkpoint):
    Path("in").mkdir()
    sample = blurred_noise()
    exif = sample.getexif()
    exif[271] = "a maker"
    sample.save("in/a.jpg", exif=exif)
    sample.save("in/b.png")
    encode = ["encode", "in", "out", "--checkpoint", checkpoint]
    assert report_of(run, *encode) == (0, 2, 0, 0)
    assert report_of(run, *encode, "--keep-metadata") == (1, 0, 1, 1)
    assert report_of(run, *encode, "--keep-metadata", "--overwrite") == (0, 2, 0, 0)
    assert report_of(run, *encode, "--keep-metadata") == (0, 0, 2, 0)
    assert report_of(run, *encode) == (1, 0, 1, 1)


def test_images_beside_their_files_are_not_taken_for_decoded_ones(run, images, checkpoint):
    assert run("encode", "in", "--checkpoint", checkpoint)[0] == 0
    os.utime("in/a.png")
    assert report_of(run, "decode", "in", "--checkpoint", checkpoint) == (1, 0, 0, 2)


def test_single_files_are_skipped_on_demand(run, images, checkpoint):
    Path("b.cai").write_text("precious")
    encode = ["encode", "a.png", "b.cai", "--checkpoint", checkpoint]
    assert run(*encode)[0] == 1
    status, out, _ = run(*encode, "--skip-existing", "--json")
    assert (status, json.loads(out)["skipped"]) == (0, True)
    assert Path("b.cai").read_text() == "precious"


def test_corpora_skip_what_exists_on_demand(images, checkpoint, monkeypatch):
    pytest.importorskip("pyarrow")
    from compressai.cluster import encode_corpus
    from compressai.model_choice import choose_model

    Path("out/deep").mkdir(parents=True)
    for name in ("a.cai", "deep/b.cai"):
        Path("out", name).write_text("precious")
    report = encode_corpus(
        *(["in"], "out", lambda: choose_model(None, 3, "mse", checkpoint)),
        suffixes=[".png"],
        skip_existing=True,
    )
    assert (len(report.skipped), report.done, report.failed) == (2, [], [])
    assert Path("out/a.cai").read_text() == "precious"


def test_program_runs_as_a_module(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compressai", "--version"])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("compressai", run_name="__main__")
    assert (stop.value.code, capsys.readouterr().out) == (0, f"compressai {__version__}\n")
