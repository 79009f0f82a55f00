# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Several files at once, folders, pipes: which results there are, and what failures say."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import threading
from pathlib import Path

import pytest
import torch
import typer
from PIL import Image
from program import blurred_noise, run_elsewhere, save_tiny

from compressai._files import result_names
from compressai.bitstream import parse_coded, read_coded
from compressai.cli import pipeline
from compressai.cli.pipeline import Stages
from compressai.cli.tasks import Plan, Task
from compressai.model_choice import ModelCache

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture
def tree():
    """Images in folders, and things that are none."""
    for seed, name in enumerate(("in/a.png", "in/deep/b.jpg", "in/deep/er/c.webp", "in/D.PNG")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        blurred_noise((64 + seed, 40), seed).save(name)
    Path("in/notes.txt").write_text("no image")
    Path("in/.hidden.png").write_bytes(b"")
    Path("in/.cache").mkdir()
    Path("in/.cache/x.png").write_bytes(b"")
    return Path("in")


def found(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))


# -- folders --------------------------------------------------------------------------------------


def test_folders_are_mirrored_there_and_back(run, tree, checkpoint):
    encode = ["encode", tree, "-o", "coded", "--checkpoint", checkpoint]
    status, out, err = run(*encode, "--json")
    assert (status, err) == (0, "")
    assert found("coded") == ["D.cai", "a.cai", "deep/b.cai", "deep/er/c.cai"]
    report = json.loads(out)
    assert (report["done"], report["failed"]) == (4, [])
    assert report["images_per_second"] > 0
    assert report["bytes"] == sum(p.stat().st_size for p in Path("coded").rglob("*.cai"))
    assert [r["file"] for r in report["files"]] == [
        *("coded/D.cai", "coded/a.cai", "coded/deep/b.cai", "coded/deep/er/c.cai")
    ]
    decode = ["decode", "coded", "-o", "back", "--format", "webp", "--checkpoint", checkpoint]
    assert run(*decode)[0] == 0
    assert found("back") == ["D.webp", "a.webp", "deep/b.webp", "deep/er/c.webp"]
    with Image.open("back/deep/b.webp") as sample:
        assert sample.size == (65, 40)


def test_without_output_results_lie_beside_their_sources(run, tree, checkpoint):
    status, out, _ = run("encode", tree, "--checkpoint", checkpoint)
    assert status == 0
    assert Path("in/deep/er/c.cai").is_file()
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert lines["done"].strip() == "4"
    assert float(lines["images per second"]) > 0


def test_files_of_a_job_are_those_of_single_runs(run, tree, checkpoint):
    assert run("encode", tree, "-o", "coded", "-j", 3, "--checkpoint", checkpoint)[0] == 0
    for source, name in (("in/a.png", "a.cai"), ("in/deep/b.jpg", "deep/b.cai")):
        assert run("encode", source, "-o", "one.cai", "--checkpoint", checkpoint)[0] == 0
        assert Path("one.cai").read_bytes() == Path("coded", name).read_bytes()
        Path("one.cai").unlink()


def test_one_file_can_go_into_a_folder(run, tree, checkpoint):
    Path("coded").mkdir()
    assert run("encode", "in/a.png", "-o", "coded", "--checkpoint", checkpoint)[0] == 0
    assert found("coded") == ["a.cai"]


def test_job_goes_on_after_bad_files_and_lists_them_at_the_end(run, tree, checkpoint):
    Path("in/bad.png").write_text("no image at all")
    Path("in/deep/cut.jpg").write_bytes(Path("in/deep/b.jpg").read_bytes()[:300])
    encode = ["encode", tree, "missing.png", "-o", "coded", "--checkpoint", checkpoint]
    status, out, err = run(*encode, "--json")
    assert status == 1
    assert found("coded") == ["D.cai", "a.cai", "deep/b.cai", "deep/er/c.cai"]
    failed = {failure["file"]: failure["error"] for failure in json.loads(out)["failed"]}
    assert set(failed) == {"in/bad.png", "in/deep/cut.jpg", "missing.png"}
    errors = err.splitlines()
    assert len(errors) == 3
    assert all(line.startswith("error: ") for line in errors)
    assert errors[-1] == "error: missing.png does not exist"

    content = Path("coded/a.cai").read_bytes()
    Path("coded/a.cai").write_bytes(content[:-9])
    status, out, err = run("decode", "coded", "-o", "back", "--checkpoint", checkpoint)
    assert status == 1
    assert "coded/a.cai" in err
    assert found("back") == ["D.png", "deep/b.png", "deep/er/c.png"]
    assert "Traceback" not in err
    status, out, err = run("info", "coded", "--json")
    assert status == 1
    assert [len(json.loads(out)[key]) for key in ("files", "failed")] == [3, 1]


def test_debug_shows_tracebacks_of_each_failure_and_goes_on(run, tree, checkpoint):
    Path("in/bad.png").write_text("no image at all")
    Path("in/worse.png").write_text("no image at all")
    status, _, err = run("--debug", "encode", tree, "--checkpoint", checkpoint)
    assert status == 1
    assert err.count("Traceback") >= 2
    assert Path("in/a.cai").is_file()


def test_notes_that_are_true_of_many_files_are_told_once(run, tree, checkpoint):
    run("encode", tree, "-o", "coded", "--checkpoint", checkpoint)
    decode = ["decode", "coded", "-o", "back", "--format", "jpg", "--checkpoint", checkpoint]
    status, _, err = run(*decode, "-j", 1)
    assert status == 0
    assert err.splitlines() == [
        "note: back/D.jpg: JPEG files are lossy",
        "note: the same of 3 more: JPEG files are lossy",
    ]


def test_results_that_exist_are_kept_unless_asked(run, tree, checkpoint):
    Path("coded/deep").mkdir(parents=True)
    Path("coded/deep/b.cai").write_text("precious")
    encode = ["encode", tree, "-o", "coded", "--checkpoint", checkpoint]
    status, _, err = run(*encode)
    assert status == 1
    assert err.count("\n") == 1
    assert "give --overwrite" in err
    assert Path("coded/deep/b.cai").read_text() == "precious"
    assert len(found("coded")) == 4
    assert run(*encode, "--overwrite")[0] == 0
    assert read_coded("coded/deep/b.cai").width == 65


def test_images_that_differ_in_suffix_only_keep_it(run, tree, checkpoint):
    blurred_noise().save("in/a.bmp")
    assert run("encode", tree, "-o", "coded", "--checkpoint", checkpoint)[0] == 0
    assert read_coded("coded/a.bmp.cai").width == 70
    assert read_coded("coded/a.png.cai").width == 64
    assert not Path("coded/a.cai").exists()
    assert Path("coded/D.cai").exists()


def test_files_of_the_same_name_from_two_folders_are_refused_but_for_the_first(
    run, tree, checkpoint
):
    Path("other").mkdir()
    blurred_noise().save("other/a.png")
    status, _, err = run("encode", tree, "other", "-o", "coded", "--checkpoint", checkpoint)
    assert status == 1
    assert "is also that of in/a.png" in err
    assert read_coded("coded/a.cai").width == 64


@pytest.mark.parametrize(
    ("names", "results"),
    [
        (["a.png", "b/a.jpg", "c"], ["a.cai", "b/a.cai", "c.cai"]),
        (["a.png", "a.jpg"], ["a.png.cai", "a.jpg.cai"]),
        # What the longer name of one would be is that of another.
        (
            ["a.jpg", "a.jpg.png", "a.png"],
            ["a.jpg.cai", "a.jpg.png.cai", "a.png.cai"],
        ),
        (["a.png", "a.png"], ["a.cai", "a.cai"]),
    ],
)
def test_names_of_results_are_different_wherever_those_of_sources_are(names, results):
    assert result_names(names, ".cai") == results
    assert result_names(names[::-1], ".cai") == results[::-1]


@pytest.fixture
def no_files():
    """What lies in folders under the names of images and is no file."""
    folder = Path("odd")
    folder.mkdir()
    for suffix in (".png", ".cai"):
        os.mkfifo(folder / f"pipe{suffix}")
        (folder / f"loop{suffix}").symlink_to(f"loop{suffix}")
        (folder / f"null{suffix}").symlink_to("/dev/zero")
        (folder / f"gone{suffix}").symlink_to("nowhere")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(folder / f"socket{suffix}"))
        (folder / f"folder{suffix}").mkdir()
    return folder


REASONS = {
    "pipe": "a named pipe, not a regular file",
    "loop": "Too many levels of symbolic links",
    "null": "a device, not a regular file",
    "gone": "does not exist",
    "socket": "a socket, not a regular file",
}


@pytest.mark.parametrize(("command", "suffix"), [("encode", ".png"), ("decode", ".cai")])
def test_what_is_no_regular_file_is_listed_and_the_rest_is_done(
    run, tree, checkpoint, no_files, command, suffix
):
    if command == "encode":
        blurred_noise((64, 64)).save("odd/real.png")
    else:
        blurred_noise((64, 64)).save("p.png")
        run("encode", "p.png", "-o", "odd/real.cai", "--checkpoint", checkpoint)
    status, out, err = run(command, "odd", "-o", "done", "--json", "--checkpoint", checkpoint)
    assert status == 1
    report = json.loads(out)
    assert report["done"] == 1
    failed = {failure["file"]: failure["error"] for failure in report["failed"]}
    assert set(failed) == {f"odd/{name}{suffix}" for name in REASONS}
    for name, reason in REASONS.items():
        assert reason in failed[f"odd/{name}{suffix}"]
        status, _, err = run(command, f"odd/{name}{suffix}", "-o", "x", "--checkpoint", checkpoint)
        assert status == 1
        assert reason in err
        assert "damaged" not in err


@pytest.mark.parametrize("name", REASONS)
def test_info_of_no_regular_file_says_what_it_is(run, no_files, name):
    status, _, err = run("info", f"odd/{name}.cai")
    assert (status, err.count("\n")) == (1, 1)
    assert REASONS[name] in err


def test_folders_that_cannot_be_read_are_listed(run, tree, checkpoint, monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", "in/deep"))
        yield str(top), ["deep"], ["a.png"]

    monkeypatch.setattr("os.walk", walk)
    status, _, err = run("encode", tree, "-o", "coded", "--checkpoint", checkpoint)
    assert (status, err) == (1, "error: in/deep: Permission denied\n")
    assert found("coded") == ["a.cai"]


def test_info_of_several_files_is_a_table(run, tree, checkpoint):
    run("encode", tree, "-o", "coded", "--checkpoint", checkpoint)
    status, out, err = run("info", "coded/a.cai", "coded/deep")
    assert (status, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == [
        *("file", "coded/a.cai", "coded/deep/b.cai", "coded/deep/er/c.cai")
    ]
    assert "65 x 40" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["in", "-", "-o", "x"],
        ["in", "-o", "-"],
        ["in", "-o", "file"],
        ["in/a.png", "in/D.PNG", "-o", "file"],
        ["in", "-j", "0"],
    ],
)
def test_wishes_that_contradict_each_other_are_wrong_command_lines(run, tree, arguments):
    Path("file").write_text("precious")
    before = found(".")
    assert run("encode", *arguments)[0] == 2
    assert found(".") == before


# -- standard input and output --------------------------------------------------------------------


def test_images_go_through_pipes(checkpoint):
    photo = blurred_noise()
    content = io.BytesIO()
    photo.save(content, "PNG")
    encode = ["encode", "-", "--json", "--checkpoint", checkpoint]
    done = run_elsewhere(*encode, text=False, input=content.getvalue())
    assert done.returncode == 0, done.stderr
    assert parse_coded(done.stdout).width == 70
    # What is told about the file is not in the way of the file.
    assert json.loads(done.stderr)["bytes"] == len(done.stdout)
    decode = ["decode", "-", "--format", "ppm", "--checkpoint", checkpoint]
    back = run_elsewhere(*decode, text=False, input=done.stdout)
    assert back.returncode == 0, back.stderr
    with Image.open(io.BytesIO(back.stdout)) as sample:
        assert (sample.format, sample.size) == ("PPM", photo.size)
    info = run_elsewhere("info", "-", "--json", text=False, input=done.stdout)
    assert json.loads(info.stdout)["width"] == 70


def test_damaged_images_from_pipes_give_no_output(checkpoint):
    done = run_elsewhere("encode", "-", "--checkpoint", checkpoint, text=False, input=b"nonsense")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: ")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="the system has no /dev/zero")
@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_standard_input_without_an_end_is_left_after_its_start(command):
    with open("/dev/zero", "rb") as endless:
        done = run_elsewhere(command, "-", text=False, stdin=endless, timeout=60)
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.match(rb"error: .* no (coded )?image", done.stderr)


def test_file_from_standard_input_can_have_a_name(run, checkpoint, monkeypatch):
    content = io.BytesIO()
    blurred_noise().save(content, "PNG")
    content.seek(0)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(content))
    assert run("encode", "-", "-o", "x.cai", "--checkpoint", checkpoint)[0] == 0
    assert read_coded("x.cai").width == 70


def test_coded_images_are_not_sent_to_terminals(run, checkpoint, monkeypatch):
    blurred_noise().save("photo.png")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    status, out, err = run("encode", "photo.png", "-o", "-", "--checkpoint", checkpoint)
    assert (status, out) == (1, "")
    assert "terminal" in err


# -- the pipeline ---------------------------------------------------------------------------------


def tasks(count):
    return Plan([Task(Path(f"{i}"), Path(f"{i}.out")) for i in range(count)], is_job=True)


def facts(task):
    return {"file": str(task.source), "width": 2, "height": 3}


def test_reading_coding_and_writing_overlap(run, capsys):
    """Each waits for a later file to be where it can only be if they run at the same time."""
    reading, coding = threading.Barrier(2), threading.Barrier(3)

    def read(task):
        if task.source.name == "1":
            reading.wait(20)  # with the coding of 0
        if task.source.name == "3":
            coding.wait(20)  # with the coding of 1 and of 2
        return task

    def code(task, source):
        if task.source.name == "0":
            reading.wait(20)
        if task.source.name in ("1", "2"):
            coding.wait(20)
        return source

    stages = Stages(read, code, lambda task, _: facts(task))
    pipeline.run(tasks(4), stages, jobs=2, title="test", as_json=True, debug=False)
    assert json.loads(capsys.readouterr().out)["done"] == 4


def test_only_a_few_images_are_read_ahead(capsys):
    lock, alive, most = threading.Lock(), 0, 0

    def read(task):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return task

    def write(task, _):
        nonlocal alive
        with lock:
            alive -= 1
        return facts(task)

    stages = Stages(read, lambda _, source: source, write)
    pipeline.run(tasks(60), stages, jobs=2, title="test", as_json=True, debug=False)
    report = json.loads(capsys.readouterr().out)
    assert [int(entry["file"]) for entry in report["files"]] == list(range(60))
    assert most <= 6


@pytest.mark.parametrize("jobs", [1, 2, 6])
def test_images_are_read_ahead_by_their_bytes(jobs, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "_MOST_HELD", 100)
    sizes = [60, 30, 10, 99, 101, 250, 1, 50, 50, 50]
    lock, alive, most = threading.Lock(), [], 0

    def size_of(task):
        return sizes[int(task.source.name)]

    def read(task):
        nonlocal most
        with lock:
            alive.append(size_of(task))
            if len(alive) > 1:
                most = max(most, sum(alive))
        return task

    def write(task, _):
        with lock:
            alive.remove(size_of(task))
        return facts(task)

    stages = Stages(read, lambda _, source: source, write, held=size_of)
    pipeline.run(tasks(10), stages, jobs=jobs, title="test", as_json=True, debug=False)
    assert json.loads(capsys.readouterr().out)["done"] == 10
    assert most <= 100


def test_activations_of_all_jobs_share_their_memory(monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "_MOST_CODING", 100)
    lock, alive, most = threading.Lock(), [], 0

    def code(task, source):
        nonlocal most
        with lock:
            alive.append(task)
            most = max(most, len(alive))
        with lock:
            alive.remove(task)
        return source

    stages = Stages(lambda task: task, code, lambda task, _: facts(task), needed=lambda *_: 40)
    pipeline.run(tasks(12), stages, jobs=6, title="test", as_json=True, debug=False)
    assert json.loads(capsys.readouterr().out)["done"] == 12
    assert most <= 2


def test_files_whose_size_cannot_be_found_fail_where_they_are_read(capsys):
    def fail(task):
        raise ValueError(f"{task.source} is no image")

    stages = Stages(fail, fail, fail, held=fail)
    with pytest.raises(typer.Exit):
        pipeline.run(tasks(3), stages, jobs=2, title="test", as_json=True, debug=False)
    assert len(json.loads(capsys.readouterr().out)["failed"]) == 3


def test_mistakes_in_the_program_are_not_taken_for_bad_files():
    def code(task, source):
        raise KeyError("a mistake")

    stages = Stages(lambda task: task, code, lambda task, _: facts(task))
    with pytest.raises(KeyError):
        pipeline.run(tasks(9), stages, jobs=2, title="test", as_json=True, debug=False)


def test_number_of_threads_is_shared_out_and_given_back(monkeypatch, capsys):
    for name in ("usable_cores", "allowed_threads"):
        monkeypatch.setattr(pipeline, name, lambda: 4)
    torch.set_num_threads(4)
    seen = set()

    def code(task, source):
        seen.add(torch.get_num_threads())
        return source

    stages = Stages(lambda task: task, code, lambda task, _: facts(task))
    pipeline.run(tasks(8), stages, jobs=2, title="test", as_json=True, debug=False)
    assert seen == {2}
    assert torch.get_num_threads() == 4
    assert [pipeline.default_jobs(files) for files in (1, 3, 100)] == [1, 3, 4]


# -- models are loaded once -----------------------------------------------------------------------


def test_models_are_loaded_once_and_again_when_their_file_changes(checkpoint, folder):
    path = folder / "mine.safetensors"
    save_tiny(path)
    cache = ModelCache()
    nets = []

    def choose():
        nets.append(cache.choose_model(None, 3, "mse", path).net)

    threads = [threading.Thread(target=choose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(net) for net in nets}) == 1
    save_tiny(path, seed=1)
    choose()
    assert nets[-1] is not nets[0]


def test_cache_keeps_the_models_that_were_used_last(folder):
    for seed in range(3):
        save_tiny(folder / f"{seed}", seed)
    cache = ModelCache(size=2)

    def get(seed):
        return cache.choose_model(None, 3, "mse", folder / f"{seed}").net

    first, second = get(0), get(1)
    assert get(0) is first
    get(2)
    assert get(0) is first
    assert get(1) is not second


def test_models_of_coded_images_are_shared(run, checkpoint):
    blurred_noise().save("a.png")
    run("encode", "a.png", "--checkpoint", checkpoint)
    cache = ModelCache()
    coded = read_coded("a.cai")
    assert cache.model_of(coded, checkpoint) is cache.model_of(coded, checkpoint)
