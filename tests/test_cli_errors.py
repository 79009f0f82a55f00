# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What ``compressai encode`` and ``decode`` refuse, in which words, and what they leave then."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from program import files, run_elsewhere

from compressai import model_choice
from compressai.bitstream import read_coded
from compressai.cli import main
from compressai.cli.messages import explain, print_report
from compressai.cli.pipeline import Stages
from compressai.cli.pipeline import run as run_stages
from compressai.cli.tasks import Plan, Task

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_missing_files_and_empty_folders_are_told_in_words(run, command):
    extra = [] if command == "info" else ["-o", "x.png"]
    message = "error: nofile.png does not exist\n"
    assert run(command, "nofile.png", *extra) == (1, "", message)
    Path("folder").mkdir()
    status, out, err = run(command, "folder")
    assert (status, out) == (1, "")
    assert err.startswith("error: there is no ")
    assert err.endswith("image in folder\n")


@pytest.mark.parametrize("command", ["encode", "decode", "info"])
def test_files_of_other_kinds_are_refused_and_leave_nothing(run, command):
    Path("text.txt").write_text("no image of any kind")
    status, out, err = run(command, "text.txt")
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert files() == ["text.txt"]


def test_missing_checkpoints_are_told_in_words(run, photo):
    status, _, err = run("encode", "photo.png", "--checkpoint", "none.safetensors")
    assert (status, err) == (1, "error: none.safetensors does not exist\n")


def test_damaged_files_are_refused_and_leave_nothing(run, photo, checkpoint):
    run("encode", "photo.png", "--checkpoint", checkpoint)
    content = Path("photo.cai").read_bytes()
    Path("photo.cai").write_bytes(content[:-9] + b"\0" + content[-8:])
    for command in (["info"], ["decode", "-o", "back.png", "--checkpoint", checkpoint]):
        status, out, err = run(*command, "photo.cai")
        assert (status, out) == (1, "")
        assert "checksum" in err
    assert files() == ["photo.cai", "photo.png"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["encode"],
        ["nonsense"],
        ["decode", "x.cai", "--nonsense"],
        ["encode", "photo.png", "-q", "three"],
        ["encode", "photo.png", "--max-pixels", "0"],
        ["encode", "photo.png", "--precision", "fp64"],
        ["encode", "photo.png", "--tile", "large"],
        ["decode", "x.cai", "--region", "1,2,3"],
        ["encode", "photo.png", "--metric", "mse", "--checkpoint", "x"],
    ],
)
def test_wrong_command_lines_end_with_status_2(run, photo, arguments):
    assert run(*arguments)[0] == 2
    assert files() == ["photo.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nonsense"], "model must be one of"),
        (["-q", "101"], "quality of this model must be in 0 ... 100, got 101"),
        (["--metric", "psnr"], "metric must be one of"),
        (["--max-pixels", "8191"], "limit of 8191"),
        (["--device", "nonsense"], "nonsense"),
    ],
)
def test_impossible_wishes_end_with_status_1(run, photo, arguments, message):
    status, out, err = run("encode", "photo.png", *arguments)
    assert (status, out) == (1, "")
    assert message in err
    assert files() == ["photo.png"]


def test_missing_extras_are_told_in_words(run, photo, monkeypatch):
    def build(*_, **__):
        raise ImportError("run: pip install 'compressai-torch[attn]'")

    monkeypatch.setitem(model_choice.image_models, "tcm", build)
    status, _, err = run("encode", "photo.png", "--model", "tcm")
    assert (status, err) == (1, "error: run: pip install 'compressai-torch[attn]'\n")


def test_limit_of_pixels_holds_for_decoding(run, photo, checkpoint):
    run("encode", "photo.png", "--checkpoint", checkpoint)
    limited = ["decode", "photo.cai", "-o", "b.png", "--checkpoint", checkpoint, "--max-pixels"]
    assert run(*limited, 8191)[0] == 1
    assert run(*limited, 8192)[0] == 0


def test_debug_shows_where_an_error_comes_from(capsys):
    with pytest.raises(FileNotFoundError, match="No such file"):
        main(["--debug", "info", "nofile.cai"])


def test_control_codes_in_names_do_not_reach_the_terminal(run):
    status, _, err = run("info", "evil\x1b[2J\nname")
    assert status == 1
    assert "\x1b" not in err
    assert err.count("\n") == 1


def test_markup_in_names_is_shown_as_it_is(run):
    assert "[bold]x[/bold].cai does not exist" in run("info", "[bold]x[/bold].cai")[2]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.png"), "a.png does not exist"),
        (IsADirectoryError(21, "Is a directory", "a"), "a is a folder"),
        (PermissionError(13, "Permission denied", "a"), "a: Permission denied"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("why"), "why"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_errors_are_explained_without_numbers(error, text):
    assert explain(error) == text


# -- interruptions, and streams that are closed ---------------------------------------------------


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_interruptions_say_how_many_are_done(capsys, stop):
    def read(task):
        if task.source.name == "1":
            raise stop
        return task

    stages = Stages(read, lambda _, source: source, lambda *_: {"width": 1, "height": 1})
    tasks = [Task(Path(f"{i}"), Path(f"{i}.out")) for i in range(9)]
    with pytest.raises(stop):
        run_stages(
            *(Plan(tasks, is_job=True), stages), jobs=1, title="encode", as_json=True, debug=False
        )
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"note: encode: interrupted, [1-9] of 9 are done\n", err)


def closed(*words, streams, **options):
    """The program in a process of its own, some of whose streams are closed."""

    def close():
        for stream in streams:
            os.close(stream)

    return run_elsewhere(*words, preexec_fn=close, **options)


def test_closed_output_is_told_in_words_and_gets_into_no_file(photo, checkpoint):
    encode = ["encode", "photo.png", "--checkpoint", checkpoint]
    done = closed(*encode, "-o", "-", streams=[1])
    assert (done.returncode, done.stderr) == (
        *(1, "error: standard output is closed: name a file with -o\n"),
    )
    done = closed(*encode, "photo.cai", streams=[0, 1, 2])
    assert (done.returncode, files()) == (0, ["photo.cai", "photo.png"])
    assert read_coded("photo.cai").width == 70


def test_closed_streams_are_told_in_words(run, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    assert run("info", "-") == (1, "", "error: standard input is closed: name a file\n")


def test_results_are_not_lost_without_a_word_where_output_is_closed(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(ValueError, match="standard output is closed"):
        print_report({"a": 1}, as_json=True)
    print_report({"a": 1}, as_json=False)
