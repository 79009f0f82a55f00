# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Colour conversion and chroma resampling: reference numbers, exact formulas, errors."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import Compose, ToTensor

from compressai.transforms import RGB2YCbCr, YCbCr2RGB, YUV420To444, YUV444To420
from compressai.transforms.functional import (
    YCBCR_WEIGHTS,
    rgb2ycbcr,
    ycbcr2rgb,
    yuv_420_to_444,
    yuv_444_to_420,
)

GOLDEN = json.loads((Path(__file__).parent / "golden" / "training_vectors.json").read_text())
MODES = ("bilinear", "bicubic", "nearest")


def ramp(shape, a, b, amp, off):
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (off + amp * torch.sin(a * n + b)).float().reshape(shape)


def pixels(rows):
    return torch.tensor(rows).T.reshape(3, 1, -1)


@pytest.fixture(scope="module")
def planes():
    y = ramp((1, 1, 4, 4), 0.37, 0, 0.5, 0.5)
    return (y, *(ramp((1, 1, 2, 2), 0.37, b, 0.5, 0.5) for b in (1, 2)))


@pytest.mark.parametrize("convert", [rgb2ycbcr, ycbcr2rgb])
def test_conversion_equals_the_reference(convert):
    golden = GOLDEN[convert.__name__]
    assert torch.allclose(convert(pixels(golden["in"])), pixels(golden["out"]), atol=1e-6)


@given(st.tuples(*[st.fractions(0, 1, max_denominator=255)] * 3))
def test_rgb2ycbcr_equals_bt709_in_exact_arithmetic(rgb):
    k_r, k_b = Fraction("0.2126"), Fraction("0.0722")
    red, green, blue = rgb
    y = k_r * red + (1 - k_r - k_b) * green + k_b * blue
    half = Fraction(1, 2)
    exact = (y, half + half * (blue - y) / (1 - k_b), half + half * (red - y) / (1 - k_r))
    given_pixel = torch.tensor([float(c) for c in rgb], dtype=torch.float64).reshape(3, 1, 1)
    expected = torch.tensor([float(c) for c in exact], dtype=torch.float64)
    assert torch.allclose(rgb2ycbcr(given_pixel).flatten(), expected, atol=1e-12)


def test_weights_are_those_of_bt709():
    assert YCBCR_WEIGHTS == {"ITU-R_BT.709": (0.2126, 0.7152, 0.0722)}


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("convert", [rgb2ycbcr, ycbcr2rgb])
def test_conversion_keeps_shape_and_dtype(convert, dtype, shape):
    out = convert(torch.rand(shape, dtype=torch.float32).to(dtype))
    assert (out.shape, out.dtype) == (shape, dtype)


def test_conversions_invert_each_other():
    x = torch.rand(2, 3, 16, 16)
    assert torch.allclose(ycbcr2rgb(rgb2ycbcr(x)), x, atol=1e-5)
    assert torch.allclose(rgb2ycbcr(ycbcr2rgb(x)), x, atol=1e-5)


def test_conversion_does_not_clamp():
    assert rgb2ycbcr(torch.full((3, 1, 1), 2.0))[0].item() == pytest.approx(2)
    assert ycbcr2rgb(pixels([[1.0, 1.0, 1.0]])).max() > 1


@pytest.mark.parametrize("convert", [rgb2ycbcr, ycbcr2rgb])
def test_conversion_is_differentiable(convert):
    x = torch.rand(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convert, (x,))


@pytest.mark.parametrize("convert", [rgb2ycbcr, ycbcr2rgb])
@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((3, 4, 4), dtype=np.float32),
        torch.rand(4, 4),
        torch.rand(1, 1, 3, 4, 4),
        torch.rand(4, 4, 4),
        torch.rand(1, 4, 4, 4),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
    ],
    ids=["array", "rank 2", "rank 5", "4 channels", "batch of 4 channels", "integers"],
)
def test_conversion_refuses_bad_input(convert, bad):
    with pytest.raises(ValueError, match="expected"):
        convert(bad)


def test_444_to_420_equals_the_reference():
    x = ramp((1, 3, 4, 4), 0.37, 0, 0.5, 0.5)
    y, u, v = yuv_444_to_420(x)
    assert torch.equal(y, x[:, :1])
    for plane, name in ((u, "u"), (v, "v")):
        expected = torch.tensor(GOLDEN["yuv_444_to_420"][name])
        assert torch.allclose(plane.flatten(), expected, atol=1e-6)


def test_444_to_420_takes_planes_and_drops_odd_edges():
    x = torch.rand(2, 3, 7, 9)
    from_tensor, from_planes = yuv_444_to_420(x), yuv_444_to_420(x.chunk(3, 1))
    for one, other in zip(from_tensor, from_planes):
        assert torch.equal(one, other)
    assert [tuple(p.shape) for p in from_tensor] == [(2, 1, 7, 9), (2, 1, 3, 4), (2, 1, 3, 4)]
    assert torch.allclose(from_tensor[1][0, 0, 0, 0], x[0, 1, :2, :2].mean())


@pytest.mark.parametrize("mode", MODES)
def test_420_to_444_equals_the_reference(planes, mode):
    out = yuv_420_to_444(planes, mode=mode)
    expected = torch.tensor(GOLDEN["yuv_420_to_444"]["u_plane"][mode])
    assert out.shape == (1, 3, 4, 4)
    assert torch.equal(out[:, :1], planes[0])
    assert torch.allclose(out[0, 1].flatten(), expected, atol=1e-5)


def test_420_to_444_returns_planes_on_demand(planes):
    out = yuv_420_to_444(planes, return_tuple=True)
    assert isinstance(out, tuple)
    assert torch.equal(torch.cat(out, 1), yuv_420_to_444(planes))


@pytest.mark.parametrize(
    "call",
    [
        lambda p: yuv_444_to_420(torch.rand(1, 3, 4, 4), mode="nearest"),
        lambda p: yuv_444_to_420(torch.rand(1, 4, 4, 4)),
        lambda p: yuv_444_to_420(torch.rand(3, 4, 4)),
        lambda p: yuv_444_to_420(p[:2]),
        lambda p: yuv_420_to_444(p, mode="avg_pool"),
        lambda p: yuv_420_to_444(p[:2]),
        lambda p: yuv_420_to_444((*p, p[0])),
        lambda p: yuv_420_to_444(torch.rand(3, 1, 4, 4)),
        lambda p: YUV444To420(mode="bilinear"),
        lambda p: YUV420To444(mode="lanczos"),
    ],
)
def test_resampling_refuses_bad_input(planes, call):
    with pytest.raises(ValueError, match=r"mode must be|yuv must be"):
        call(planes)


def test_420_to_444_of_an_odd_luma_size_says_which_sizes():
    x = torch.rand(1, 3, 5, 4)
    with pytest.raises(RuntimeError, match="twice the size"):
        yuv_420_to_444(yuv_444_to_420(x))


def test_transform_objects_do_what_the_functions_do(planes):
    x = torch.rand(1, 3, 4, 4)
    assert torch.equal(RGB2YCbCr()(x), rgb2ycbcr(x))
    assert torch.equal(YCbCr2RGB()(x), ycbcr2rgb(x))
    assert torch.equal(YUV444To420()(x)[1], yuv_444_to_420(x)[1])


@pytest.mark.parametrize("mode", MODES)
def test_mode_of_the_upsampling_transform_is_used(planes, mode):
    assert torch.equal(YUV420To444(mode=mode)(planes), yuv_420_to_444(planes, mode=mode))
    assert isinstance(YUV420To444(mode=mode, return_tuple=True)(planes), tuple)


def test_representations():
    assert repr(RGB2YCbCr()) == "RGB2YCbCr()"
    assert repr(YCbCr2RGB()) == "YCbCr2RGB()"
    assert repr(YUV444To420()) == "YUV444To420()"
    assert repr(YUV420To444(return_tuple=True)) == "YUV420To444(return_tuple=True)"


def test_transforms_work_in_a_torchvision_pipeline():
    sample = Image.new("RGB", (6, 4), (255, 255, 255))
    out = Compose([ToTensor(), RGB2YCbCr()])(sample)
    assert torch.allclose(out[:, 0, 0], torch.tensor([1.0, 0.5, 0.5]), atol=1e-6)
