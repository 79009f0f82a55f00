# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which images of a folder a run trains and tests on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from training_runs import run

from compressai.training.images import split_images

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def fill(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (len(name), 90, 10)).save(folder / name)


def names_of(found: dict[str, list[Path]], root: Path) -> dict[str, list[str]]:
    return {part: [str(path.relative_to(root)) for path in paths] for part, paths in found.items()}


def test_folders_below_the_parts_are_entered_but_hidden_ones(tmp_path: Path) -> None:
    fill(tmp_path, ["train/b.png", "train/a/x.png", "train/.git/y.png", "test/deep/er/z.png"])
    (tmp_path / "train/a/notes.txt").write_text("no image")
    found = names_of(split_images(tmp_path), tmp_path)
    assert found == {"train": ["train/a/x.png", "train/b.png"], "test": ["test/deep/er/z.png"]}


@pytest.mark.parametrize("below", ["", "train/"])
def test_a_part_of_an_unsplit_folder_is_tested_on(tmp_path: Path, below: str) -> None:
    fill(tmp_path, [f"{below}{folder}/{i:02}.png" for folder in "ab" for i in range(20)])
    found = split_images(tmp_path, 0.25)
    assert (len(found["train"]), len(found["test"])) == (30, 10)
    assert not set(found["train"]) & set(found["test"])
    assert all(paths == sorted(paths) for paths in found.values())
    assert {path.parent.name for path in found["test"]} == {"a", "b"}
    assert found == split_images(tmp_path, 0.25)
    assert len(split_images(tmp_path)["test"]) == 4
    # The part does not change much where an image more comes in.
    fill(tmp_path, [f"{below}c.png"])
    again = split_images(tmp_path, 0.25)
    assert len(set(found["test"]) ^ set(again["test"])) <= 2


def test_what_is_no_folder_to_train_on_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no folder"):
        split_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there are no images to train on in"):
        split_images(tmp_path)
    fill(tmp_path, ["one.png"])
    with pytest.raises(ValueError, match="there are no images to train on in"):
        split_images(tmp_path)
    for share in (0, 1, -0.5):
        with pytest.raises(ValueError, match="--val-fraction must be between 0 and 1, got"):
            split_images(tmp_path, share)
    fill(tmp_path, ["test/two.png"])
    with pytest.raises(ValueError, match="has test/ but no train/"):
        split_images(tmp_path)
    fill(tmp_path, ["train/three.png"])
    with pytest.raises(ValueError, match="--val-fraction must not be given"):
        split_images(tmp_path, 0.5)


def test_run_on_a_folder_of_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(tmp_path, [f"images/{folder}/{i}.png" for folder in "ab" for i in range(3)])
    arguments = ["--val-fraction", "0.34", "--epochs", "1", "--no-save"]
    run(tmp_path / "images", tmp_path / "run", *arguments)
    assert "[0/4 (0%)]" in capsys.readouterr().out
