# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Folders of frames: what an item is, in which order, and how wrong folders fail."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from compressai.datasets import VideoFolder
from compressai.datasets.video import VideoFolder as VideoFolderOfModule
from compressai.registry import DATASETS

TO_TENSOR = transforms.ToTensor()


def write_clip(root, name, frames, size=(8, 6)):
    """Frame ``i`` has the grey value ``i`` and, in its corner, random dots."""
    folder = root / "sequences" / name
    folder.mkdir(parents=True)
    for i in range(frames):
        pixels = np.full((size[1], size[0], 3), i, np.uint8)
        Image.fromarray(pixels).save(folder / f"im{i:02}.png")
    return folder


@pytest.fixture
def root(tmp_path):
    (tmp_path / "train.list").write_text("00001/0001\n\n00001/0002\n")
    (tmp_path / "test.list").write_text("")
    write_clip(tmp_path, "00001/0001", 7)
    write_clip(tmp_path, "00001/0002", 4)
    return tmp_path


def numbers(item):
    """Numbers of the frames that an item holds."""
    return [round(float(frame.max()) * 255) for frame in item]


def test_dataset_is_registered_and_in_its_module():
    assert DATASETS["VideoFolder"] is VideoFolder is VideoFolderOfModule


def test_length_is_that_of_the_list(root):
    assert len(VideoFolder(root, transform=TO_TENSOR)) == 2
    assert len(VideoFolder(str(root), transform=TO_TENSOR, split="test")) == 0


def test_item_is_the_first_three_frames(root):
    item = VideoFolder(root, transform=TO_TENSOR)[0]
    assert [tuple(frame.shape) for frame in item] == [(3, 6, 8)] * 3
    assert numbers(item) == [0, 1, 2]


def test_random_interval_stays_within_the_clip(root):
    dataset = VideoFolder(root, rnd_interval=True, transform=TO_TENSOR)
    random.seed(0)
    drawn = {tuple(numbers(dataset[0])) for _ in range(50)}
    assert drawn == {(0, 1, 2), (0, 2, 4), (0, 3, 6)}
    assert {tuple(numbers(dataset[1])) for _ in range(20)} == {(0, 1, 2)}


def test_random_order_reverses_some_items(root):
    dataset = VideoFolder(root, rnd_temp_order=True, transform=TO_TENSOR)
    random.seed(0)
    assert {tuple(numbers(dataset[0])) for _ in range(20)} == {(0, 1, 2), (2, 1, 0)}


def test_crop_is_the_same_for_all_frames(root):
    folder = root / "sequences" / "00001/0001"
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for path in folder.iterdir():
        Image.fromarray(noise).save(path)
    crop = transforms.Compose([TO_TENSOR, transforms.RandomCrop(3)])
    first, *others = VideoFolder(root, transform=crop)[0]
    assert first.shape == (3, 3, 3)
    assert all(torch.equal(first, frame) for frame in others)


def test_missing_parts_are_runtime_errors_in_order(tmp_path):
    with pytest.raises(RuntimeError, match="transform"):
        VideoFolder(tmp_path)
    with pytest.raises(RuntimeError, match=r"train\.list"):
        VideoFolder(tmp_path, transform=TO_TENSOR)
    (tmp_path / "train.list").touch()
    with pytest.raises(RuntimeError, match="sequences"):
        VideoFolder(tmp_path, transform=TO_TENSOR)


def test_bad_clips_are_errors_that_name_the_folder(root):
    (root / "train.list").write_text("gone\nshort\nmixed\n")
    write_clip(root, "short", 2)
    write_clip(root, "mixed", 2)
    Image.new("RGB", (4, 4)).save(root / "sequences" / "mixed" / "im99.png")
    dataset = VideoFolder(root, transform=TO_TENSOR)
    for index, message in enumerate(("gone.*does not exist", "3 frames.*short", "mixed.*size")):
        with pytest.raises(RuntimeError, match=message):
            dataset[index]


@pytest.mark.parametrize("transform", [lambda x: x, lambda x: torch.from_numpy(x)])
def test_transform_must_give_a_tensor_of_nine_channels(root, transform):
    with pytest.raises(RuntimeError, match=r"\(9, H, W\).*ToTensor"):
        VideoFolder(root, transform=transform)[0]
