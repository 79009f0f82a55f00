# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What CompressAI 1.2 promises of colour transforms and datasets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from compressai.datasets import ImageFolder, VideoFolder
from compressai.transforms import RGB2YCbCr, YCbCr2RGB, YUV420To444, YUV444To420
from compressai.transforms.functional import (
    rgb2ycbcr,
    ycbcr2rgb,
    yuv_420_to_444,
    yuv_444_to_420,
)

CONVERSIONS = [rgb2ycbcr, ycbcr2rgb]


class TestColours:
    @pytest.mark.parametrize("convert", CONVERSIONS)
    @pytest.mark.parametrize(
        "wrong",
        [
            np.zeros((3, 8, 8)),
            torch.rand(8, 8),
            torch.rand(1, 4, 8, 8),
            torch.zeros(3, 8, 8, dtype=torch.uint8),
        ],
    )
    def test_other_input_is_refused(self, convert, wrong):
        with pytest.raises(ValueError):
            convert(wrong)

    @pytest.mark.parametrize("convert", CONVERSIONS)
    @pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 8), (4, 3, 7, 5)])
    def test_size_and_type_are_kept(self, convert, shape):
        x = torch.rand(shape)
        assert (convert(x).shape, convert(x).dtype) == (x.shape, x.dtype)

    def test_both_round_trips(self):
        x = torch.rand(2, 3, 16, 16)
        for a, b in (CONVERSIONS, CONVERSIONS[::-1]):
            assert torch.allclose(b(a(x)), x, atol=1e-5)

    def test_444_to_420(self):
        x = torch.rand(1, 3, 32, 48)
        for given in (x, x.chunk(3, dim=1)):
            y, u, v = yuv_444_to_420(given)
            assert torch.equal(y, x[:, :1])
            assert u.shape == v.shape == (1, 1, 16, 24)
        with pytest.raises(ValueError):
            yuv_444_to_420(x, mode="toto")

    def test_420_to_444(self):
        y, u, v = torch.rand(1, 1, 32, 48), torch.rand(1, 1, 16, 24), torch.rand(1, 1, 16, 24)
        out = yuv_420_to_444((y, u, v))
        assert out.shape == (1, 3, 32, 48)
        assert torch.equal(out[:, :1], y)
        assert [tuple(p.shape) for p in yuv_420_to_444((y, u, v), return_tuple=True)] == [
            (1, 1, 32, 48)
        ] * 3
        for wrong in ((y, u), (y, u, v, v)):
            with pytest.raises(ValueError):
                yuv_420_to_444(wrong)
        with pytest.raises(ValueError):
            yuv_420_to_444((y, u, v), mode="toto")

    def test_classes_run_and_have_a_text(self):
        x = torch.rand(1, 3, 32, 32)
        for transform in (RGB2YCbCr(), YCbCr2RGB(), YUV444To420()):
            transform(x)
            assert repr(transform) == f"{type(transform).__name__}()"
        assert YUV420To444()(YUV444To420()(x)).shape == x.shape
        assert repr(YUV420To444(return_tuple=True)) == "YUV420To444(return_tuple=True)"


class TestImageFolder:
    def test_empty_splits(self, tmp_path):
        for split in ("train", "test"):
            (tmp_path / split).mkdir()
        assert [len(ImageFolder(tmp_path, split=s)) for s in ("train", "test")] == [0, 0]

    def test_files_are_counted_not_opened(self, tmp_path):
        (tmp_path / "train").mkdir()
        for i in range(3):
            (tmp_path / "train" / f"img{i}.jpg").touch()
        assert len(ImageFolder(tmp_path, split="train")) == 3

    def test_missing_split(self, tmp_path):
        (tmp_path / "train").mkdir()
        with pytest.raises(RuntimeError):
            ImageFolder(tmp_path, split="test")

    def test_items(self, tmp_path):
        (tmp_path / "train").mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / "train" / "img0.png")
        assert isinstance(ImageFolder(tmp_path, split="train")[0], Image.Image)
        crop = transforms.Compose([transforms.CenterCrop((16, 16)), transforms.ToTensor()])
        assert ImageFolder(tmp_path, crop)[0].shape == (3, 16, 16)


class TestVideoFolder:
    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "sequences").mkdir()
        (tmp_path / "train.list").touch()
        return tmp_path

    def test_empty_list(self, root):
        assert len(VideoFolder(root, transform=transforms.ToTensor(), split="train")) == 0

    def test_names_are_counted_not_opened(self, root):
        (root / "train.list").write_text("clip0\nclip1\n")
        assert len(VideoFolder(root, transform=transforms.ToTensor(), split="train")) == 2

    def test_missing_parts(self, root):
        with pytest.raises(RuntimeError):
            VideoFolder(root)
        with pytest.raises(RuntimeError):
            VideoFolder(root, transform=transforms.ToTensor(), split="test")

    def test_first_frame_is_a_tensor(self, root):
        (root / "train.list").write_text("clip0\n")
        (root / "sequences" / "clip0").mkdir()
        for i in range(3):
            Image.new("RGB", (32, 32)).save(root / "sequences" / "clip0" / f"{i}.png")
        item = VideoFolder(root, transform=transforms.ToTensor())[0]
        assert isinstance(item, tuple)
        assert isinstance(item[0], torch.Tensor)
