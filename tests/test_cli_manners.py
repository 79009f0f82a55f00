# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How much the program says: a line, more, or nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("folder")


def test_single_file_is_one_line(run, photo, checkpoint: Path) -> None:
    status, out, err = run("encode", "photo.png", "--checkpoint", checkpoint)
    assert (status, err) == (0, "")
    size, before = Path("photo.cai").stat().st_size, Path("photo.png").stat().st_size
    assert out.startswith(f"photo.png -> photo.cai: 70 x 50, {size} bytes, ")
    assert out.rstrip().endswith(f"{1 - size / before:.1%} saved, by torch")
    assert out.count("\n") == 1
    _, out, _ = run("decode", "photo.cai", "back.png", "--checkpoint", checkpoint)
    assert out == "photo.cai -> back.png: 70 x 50, by torch\n"


def test_verbose_says_all_and_quiet_nothing_but_errors(run, photo, checkpoint: Path) -> None:
    _, out, _ = run("encode", "photo.png", "--checkpoint", checkpoint, "-v")
    told = dict(line.split("  ", 1) for line in out.splitlines())
    assert told["model"].strip() == "mbt2018-mean"
    assert run("encode", "photo.png", "one.cai", "--checkpoint", checkpoint, "--quiet") == (
        0,
        "",
        "",
    )
    # With random weights, which are noted otherwise.
    model = ["--model", "bmshj2018-factorized", "-q", "1"]
    assert "RANDOM" in run("encode", "photo.png", "two.cai", *model)[2]
    assert run("encode", "photo.png", "three.cai", *model, "--quiet") == (0, "", "")
    assert "RANDOM" in run("encode", "photo.png", "four.cai", *model)[2]
    status, out, err = run("encode", "photo.png", "one.cai", "--checkpoint", checkpoint, "--quiet")
    assert (status, out) == (1, "")
    assert "one.cai exists" in err


def test_summary_of_a_folder_says_what_is_saved(run, photo, checkpoint: Path) -> None:
    Path("in").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy("photo.png", Path("in", name))
    before = 2 * Path("photo.png").stat().st_size
    arguments = ["encode", "in", "out", "--checkpoint", checkpoint, "--overwrite"]
    _, out, _ = run(*arguments, "--json")
    report = json.loads(out)
    size = sum(path.stat().st_size for path in Path("out").iterdir())
    assert (report["bytes"], report["source_bytes"]) == (size, before)
    assert report["saving"] == pytest.approx(1 - size / before)
    _, out, _ = run(*arguments, "-v")
    assert f"saving                 {1 - size / before:.1%}" in out
    assert out.startswith("in/a.png -> out/a.cai: ")
    assert run(*arguments, "--quiet") == (0, "", "")


def test_sheet_shows_every_image_and_why_it_does_not(run, photo, checkpoint: Path) -> None:
    Path("in").mkdir()
    shutil.copy("photo.png", "in/<b>.png")
    assert run("encode", "photo.png", "in/a.cai", "--checkpoint", checkpoint)[0] == 0
    arguments = ["view", "in", "-o", "sheet.html", "--checkpoint", checkpoint]
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    size = sum(path.stat().st_size for path in Path("in").iterdir())
    assert out == f"sheet.html: 2 images, {size} bytes\n"
    page = Path("sheet.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "in/&lt;b&gt;.png" in page
    assert "<b>" not in page
    assert f"70 x 50, {Path('in/a.cai').stat().st_size} bytes" in page
    assert run(*arguments)[0] == 1

    Path("in/broken.cai").write_bytes(b"nothing")
    status, out, err = run(*arguments, "--overwrite", "--json")
    assert status == 1
    report = json.loads(out)
    assert [facts["model"] for facts in report["images"]] == [None, "mbt2018-mean"]
    assert [failure["file"] for failure in report["failed"]] == ["in/broken.cai"]
    assert "in/broken.cai" in Path("sheet.html").read_text()
    assert run("view", "in", "-o", "sheet.png")[0] == 2
