# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Colours and chroma against other libraries; frames of every format and depth there and back."""

from __future__ import annotations

import importlib
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from compressai.datasets import VideoFormat, make_dtype
from compressai.datasets.rawvideo import bitdepth_to_dtype
from compressai.transforms import (
    frame_to_planes,
    planes_to_frame,
    planes_to_rgb,
    rgb_to_planes,
)
from compressai.transforms.functional import (
    rgb2ycbcr,
    ycbcr2rgb,
    yuv_420_to_444,
    yuv_444_to_420,
)

PILLOW = {"bilinear": Image.Resampling.BILINEAR, "nearest": Image.Resampling.NEAREST}


def sample(height=6, width=8, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((1, 3, height, width), generator=generator, dtype=dtype)


def pillow_resized(plane, size, resampling):
    image = Image.fromarray(plane[0, 0].numpy()).resize(size[::-1], resampling)
    return torch.from_numpy(np.asarray(image).copy())[None, None]


def keys_cubic(x, a=-0.75):
    """The kernel of Keys 1981 with the slope that OpenCV and PyTorch use."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def doubled_cubic(row):
    out = []
    for i in range(2 * len(row)):
        position = (i + 0.5) / 2 - 0.5
        taps = [int(np.floor(position)) + k for k in (-1, 0, 1, 2)]
        values = [row[min(max(tap, 0), len(row) - 1)] for tap in taps]
        out.append(sum(v * keys_cubic(position - t) for v, t in zip(values, taps)))
    return np.array(out)


@pytest.fixture(scope="module")
def colour():
    """The library; slow to import, and not needed to collect tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("colour")


class TestAgainstOtherLibraries:
    def test_rgb2ycbcr_equals_colour_science(self, colour):
        x = sample(dtype=torch.float64)
        pixels = x[0].permute(1, 2, 0).numpy()
        weights = colour.WEIGHTS_YCBCR["ITU-R BT.709"]
        expected = colour.RGB_to_YCbCr(pixels, K=weights, in_legal=False, out_legal=False)
        ours = rgb2ycbcr(x)[0].permute(1, 2, 0).numpy()
        assert np.abs(ours - expected - np.array([0, 0.5, 0.5])).max() < 1e-12

    def test_ycbcr2rgb_equals_colour_science(self, colour):
        x = sample(seed=1, dtype=torch.float64)
        ycbcr = x[0].permute(1, 2, 0).numpy() - np.array([0, 0.5, 0.5])
        weights = colour.WEIGHTS_YCBCR["ITU-R BT.709"]
        expected = colour.YCbCr_to_RGB(
            ycbcr, K=weights, in_legal=False, out_legal=False, clamp_int=False
        )
        ours = ycbcr2rgb(x)[0].permute(1, 2, 0).numpy()
        assert np.abs(ours - expected).max() < 1e-12

    def test_halved_chroma_equals_the_box_filter_of_pillow(self):
        y, u, v = sample(seed=2).split(1, dim=1)
        ours = yuv_444_to_420((y, u, v))
        assert ours[0] is y
        for plane, half in ((u, ours[1]), (v, ours[2])):
            expected = pillow_resized(plane, (3, 4), Image.Resampling.BOX)
            assert torch.allclose(half, expected, atol=1e-6)

    @pytest.mark.parametrize("mode", PILLOW)
    def test_doubled_chroma_equals_pillow(self, mode):
        y, u, v = sample(8, 12)[:, :1], sample(4, 6, 1)[:, :1], sample(4, 6, 2)[:, :1]
        ours = yuv_420_to_444((y, u, v), mode=mode)
        for i, plane in ((1, u), (2, v)):
            expected = pillow_resized(plane, (8, 12), PILLOW[mode])
            assert torch.allclose(ours[:, i : i + 1], expected, atol=1e-6)

    def test_bicubic_chroma_equals_the_kernel_of_keys(self):
        u = sample(4, 6, 3, torch.float64)[:, :1]
        y = torch.zeros(1, 1, 8, 12, dtype=torch.float64)
        ours = yuv_420_to_444((y, u, u), mode="bicubic")[0, 1].numpy()
        expected = np.apply_along_axis(doubled_cubic, 1, u[0, 0].numpy())
        expected = np.apply_along_axis(doubled_cubic, 0, expected)
        assert np.abs(ours - expected).max() < 1e-12


@given(
    format=st.sampled_from(VideoFormat),
    depth=st.sampled_from(sorted(bitdepth_to_dtype)),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_code_values_survive_the_way_through_tensors(format, depth, height, width, seed):
    dtype = make_dtype(format, bitdepth_to_dtype[depth], width, height)
    frame = np.zeros((), dtype)
    rng = np.random.default_rng(seed)
    for name in dtype.names:
        frame[name] = rng.integers(0, 2**depth, dtype[name].shape)
    planes = frame_to_planes(frame, 2**depth - 1)
    assert all(plane.dtype == torch.float32 for plane in planes)
    assert planes_to_frame(planes, format, depth, bitdepth_to_dtype[depth]) == frame


@given(st.sampled_from(VideoFormat), st.integers(1, 9), st.integers(1, 9))
def test_planes_of_an_image_have_the_sizes_of_the_format(format, height, width):
    planes = rgb_to_planes(sample(height, width), format)
    dtype = make_dtype(format, np.uint8, width, height)
    assert [tuple(p.shape[-2:]) for p in planes] == [dtype[name].shape for name in dtype.names]
    assert planes_to_rgb(planes, format).shape == (1, 3, height, width)


@pytest.mark.parametrize("format", [VideoFormat.YUV444, VideoFormat.RGB])
def test_full_resolution_loses_nothing(format):
    x = sample(5, 7)
    assert torch.allclose(planes_to_rgb(rgb_to_planes(x, format), format), x, atol=1e-5)


@pytest.mark.parametrize("format", VideoFormat)
@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 1)])
def test_one_colour_survives_in_every_format(format, size):
    grey = format is VideoFormat.YUV400
    colours = torch.tensor([0.5, 0.5, 0.5] if grey else [0.8, 0.1, 0.4]).reshape(1, 3, 1, 1)
    x = colours.expand(1, 3, *size)
    for mode in ("bilinear", "bicubic", "nearest"):
        again = planes_to_rgb(rgb_to_planes(x, format), format, mode)
        assert torch.allclose(again, x, atol=1e-5)


def test_even_sizes_of_420_equal_the_functional_transforms():
    x = sample(6, 8)
    planes = rgb_to_planes(x, VideoFormat.YUV420)
    for ours, theirs in zip(planes, yuv_444_to_420(rgb2ycbcr(x)), strict=True):
        assert torch.equal(ours, theirs)
    again = planes_to_rgb(planes, VideoFormat.YUV420, "bicubic")
    assert torch.equal(again, ycbcr2rgb(yuv_420_to_444(planes, mode="bicubic")))


def test_values_are_rounded_and_clamped():
    planes = [torch.tensor([[[[-0.5, 0.4 / 255, 0.6 / 255, 1.5]]]])] * 3
    frame = planes_to_frame(planes, VideoFormat.YUV444, 8, np.uint8)
    assert frame["y"].tolist() == [[0, 0, 1, 255]]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_planes_that_do_not_fit_are_an_error(mode):
    planes = rgb_to_planes(sample(), VideoFormat.YUV420)
    for wrong in (planes[:2], planes[::-1]):
        with pytest.raises(ValueError, match="planes must be three of yuv420"):
            planes_to_rgb(wrong, VideoFormat.YUV420, mode)
    with pytest.raises(ValueError, match="mode"):
        planes_to_rgb(planes, VideoFormat.YUV420, "area")
