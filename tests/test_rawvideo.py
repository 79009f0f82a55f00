# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Raw video: what names tell, what frames hold, and how wrong files fail."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compressai import datasets
from compressai.datasets import RawVideoSequence, VideoFormat, rawvideo
from compressai.datasets.rawvideo import get_num_frms, get_raw_video_file_info, make_dtype

DEPTHS = (8, 10, 12, 14, 16)
NONE = {"chroma_sub": None, "endianness": None}


def described(width, height, rate, depth, format, extension="yuv", **more):
    return {
        "width": width,
        "height": height,
        "framerate": Fraction(rate),
        "bitdepth": depth,
        "format": format,
        "extension": extension,
        **NONE,
        **more,
    }


@pytest.mark.parametrize(
    ("name", "info"),
    [
        (
            "C_RaceHorses_2frames_832x480_30Hz_8bit_P420.yuv",
            described(832, 480, 30, 8, VideoFormat.YUV420),
        ),
        ("a_416x240_50fps_10bit_420.yuv", described(416, 240, 50, 10, VideoFormat.YUV420)),
        (
            "foo_1920x1080_60Hz_10bit_yuv420p10LE.yuv",
            described(1920, 1080, 60, 10, VideoFormat.YUV420, endianness="le"),
        ),
        ("foo_64x64_60Hz_8bit_y444.yuv", described(64, 64, 60, 8, VideoFormat.YUV444)),
        (
            "foo_64x64_29.97fps_8bit_p420.rgb",
            described(64, 64, Fraction(30000, 1001), 8, VideoFormat.YUV420, "rgb"),
        ),
        ("x_64x64_30Hz_8bit_P420_0-10.yuv", described(64, 64, 30, 8, VideoFormat.YUV420)),
        ("foo_64x64_30Hz_8bit_yuv400.yuv", described(64, 64, 30, 8, VideoFormat.YUV400)),
        ("foo_64x64_120Hz_P420.yuv", described(64, 64, 120, 8, VideoFormat.YUV420)),
        # These are errors, or half understood, in CompressAI.
        (
            "foo_1920x1080_23.976fps_10bit_yuv420p10le.yuv",
            described(1920, 1080, "24000/1001", 10, VideoFormat.YUV420, endianness="le"),
        ),
        (
            "foo_1920x1080_60Hz_I420_10LE.yuv",
            described(1920, 1080, 60, 10, VideoFormat.YUV420, endianness="le"),
        ),
        ("foo_1920x1080_60Hz_P422.yuv", described(1920, 1080, 60, 8, VideoFormat.YUV422)),
        ("foo_64x64_60Hz_8bit_444.yuv", described(64, 64, 60, 8, VideoFormat.YUV444)),
        ("foo_64x64_30Hz_8bit_y42B.yuv", described(64, 64, 30, 8, VideoFormat.YUV422)),
        ("ducks_64x64_25hz_8bit_i420.yuv", described(64, 64, 25, 8, VideoFormat.YUV420)),
        ("foo_64x64_12.5fps_rgb.raw", described(64, 64, "25/2", 8, VideoFormat.RGB, "raw")),
        (
            "Beauty_1920x1080_120fps_420_8bit_YUV.yuv",
            described(1920, 1080, 120, 8, VideoFormat.YUV420),
        ),
        ("1280x720/foo_64x64_30Hz_P420.yuv", described(64, 64, 30, 8, VideoFormat.YUV420)),
        ("noinfo.bin", {}),
        ("noinfo.yuv", {"extension": "yuv", "bitdepth": 8, **NONE}),
    ],
)
def test_name_tells_what_is_in_it(name, info):
    assert get_raw_video_file_info(name) == info


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("foo_30Hz_8bit_P420.yuv", {"width", "height"}),
        ("foo_64x64_8bit_P420.yuv", {"framerate"}),
        ("clip_64x64_30Hz_8bit_UYVY.yuv", {"format"}),
        ("foo_64x64_30Hz_8bit_P420", {"extension"}),
        ("frames_64x64x3_30Hz_P420.yuv", {"width", "height"}),
    ],
)
def test_what_a_name_does_not_tell_is_left_out(name, missing):
    everything = set(described(1, 1, 1, 8, VideoFormat.YUV420))
    assert everything - set(get_raw_video_file_info(name)) == missing


def test_two_different_depths_in_a_name_are_an_error(tmp_path):
    name = "a_2x2_30Hz_8bit_yuv420p10.yuv"
    with pytest.raises(ValueError, match=r"\[8, 10\]"):
        get_raw_video_file_info(name)
    (tmp_path / name).write_bytes(bytes(12))
    with pytest.raises(ValueError, match=r"\[8, 10\]"):
        RawVideoSequence.from_file(tmp_path / name)
    assert len(RawVideoSequence.from_file(tmp_path / name, bitdepth=8)) == 2


def test_tables_are_those_of_compressai():
    assert rawvideo.file_extensions == {"yuv", "rgb", "raw"}
    assert rawvideo.subsampling[VideoFormat.YUV422] == (2, 1)
    assert rawvideo.subsampling[VideoFormat.YUV400] == (0, 0)
    assert rawvideo.framerate_to_fraction["59.94"] == Fraction(60000, 1001)
    assert rawvideo.framerate_to_fraction["23.98"] == Fraction(24000, 1001)
    assert rawvideo.bitdepth_to_dtype == {8: np.uint8, **dict.fromkeys(DEPTHS[1:], np.uint16)}
    assert VideoFormat("yuv420") is VideoFormat.YUV420
    keys = "yuv400 yuv420 420 p420 i420 yuv422 p422 i422 y42B yuv444 p444 y444"
    assert set(keys.split()) <= set(datasets.video_formats)


@pytest.mark.parametrize(
    ("format", "chroma"),
    [("yuv400", (0, 0)), ("yuv420", (3, 4)), ("yuv422", (5, 4)), ("yuv444", (5, 7))],
)
def test_chroma_of_odd_sizes_is_rounded_up(format, chroma):
    dtype = make_dtype(VideoFormat(format), np.uint8, width=7, height=5)
    assert {name: dtype[name].shape for name in dtype.names} == {
        "y": (5, 7),
        "u": chroma,
        "v": chroma,
    }


def test_rgb_has_three_full_planes():
    dtype = make_dtype("rgb", np.uint16, width=7, height=5)
    assert [(name, dtype[name].shape) for name in dtype.names] == [(c, (5, 7)) for c in "rgb"]


@pytest.mark.parametrize("sides", [(0, 2), (2, -1)])
def test_sizes_must_be_positive(sides):
    with pytest.raises(ValueError, match="positive"):
        make_dtype("yuv420", np.uint8, *sides)


@given(
    format=st.sampled_from(VideoFormat),
    depth=st.sampled_from(DEPTHS),
    width=st.integers(1, 9),
    height=st.integers(1, 9),
    frames=st.integers(0, 4),
    spare=st.integers(0, 5),
)
def test_frames_are_counted_right_for_every_format_and_depth(
    format, depth, width, height, frames, spare
):
    value_type = rawvideo.bitdepth_to_dtype[depth]
    size = make_dtype(format, value_type, width, height).itemsize
    spare = min(spare, size - 1)
    assert get_num_frms(frames * size + spare, width, height, format, value_type) == frames


@pytest.mark.parametrize("format", VideoFormat)
@pytest.mark.parametrize("depth", DEPTHS)
def test_frames_of_a_file_are_what_was_written(tmp_path, format, depth):
    value_type = rawvideo.bitdepth_to_dtype[depth]
    dtype = make_dtype(format, value_type, 6, 4)
    frames = np.zeros(3, dtype)
    rng = np.random.default_rng(depth)
    for name in dtype.names:
        frames[name] = rng.integers(0, 2**depth, frames[name].shape)
    path = tmp_path / f"clip_6x4_25Hz_{depth}bit_{format.value}.yuv"
    path.write_bytes(frames.tobytes())

    sequence = RawVideoSequence.from_file(str(path))
    assert isinstance(sequence.data, np.memmap)
    assert (len(sequence), sequence.total_frms) == (3, 3)
    assert (sequence.width, sequence.height, sequence.bitdepth) == (6, 4, depth)
    assert (sequence.format, sequence.framerate) == (format, 25)
    for frame, written in zip(sequence, frames, strict=True):
        assert all((frame[name] == written[name]).all() for name in dtype.names)
    assert (sequence[-1] == frames[2]).all()
    assert len(sequence[1:]) == 2

    other = tmp_path / "other"
    other.write_bytes(frames[:1].tobytes())
    assert len(RawVideoSequence.new_like(sequence, other)) == 1


def test_frames_cannot_be_changed(tmp_path):
    path = tmp_path / "clip_2x2_25Hz_yuv420.yuv"
    path.write_bytes(bytes(6))
    frame = RawVideoSequence.from_file(path)[0]
    with pytest.raises(ValueError, match="read-only"):
        frame["y"][0, 0] = 1


def test_byte_order_of_the_name_is_that_of_the_samples(tmp_path):
    values = np.arange(6, dtype=np.uint16) * 100
    for order, letters in (("<", "LE"), (">", "BE")):
        path = tmp_path / f"clip_2x2_25Hz_yuv420p10{letters}.yuv"
        path.write_bytes(values.astype(f"{order}u2").tobytes())
        assert RawVideoSequence.from_file(path)[0]["y"].tolist() == [[0, 100], [200, 300]]


def test_given_values_go_before_those_of_the_name(tmp_path):
    path = tmp_path / "clip_8x8_25Hz_yuv444.yuv"
    path.write_bytes(bytes(12))
    sequence = RawVideoSequence.from_file(path, width=2, height=2, format="420", framerate=50)
    assert (len(sequence), sequence.format, sequence.framerate) == (2, VideoFormat.YUV420, 50)
    unnamed = tmp_path / "clip"
    unnamed.write_bytes(bytes(12))
    sequence = RawVideoSequence.from_file(unnamed, 2, 2, 8, VideoFormat.YUV420)
    assert (len(sequence), sequence.framerate) == (2, None)


def test_unknown_size_or_format_is_a_runtime_error_that_names_it(tmp_path):
    path = tmp_path / "clip_8bit.yuv"
    path.write_bytes(bytes(12))
    with pytest.raises(RuntimeError, match="width, height, format"):
        RawVideoSequence.from_file(path)


@pytest.mark.parametrize("size", [1, 5, 7, 13])
def test_part_of_a_frame_is_an_error(tmp_path, size):
    path = tmp_path / "clip_2x2_25Hz_yuv420.yuv"
    path.write_bytes(bytes(size))
    with pytest.raises(ValueError, match=f"{size} bytes, no multiple of the 6"):
        RawVideoSequence.from_file(path)


def test_empty_file_has_no_frames(tmp_path):
    path = tmp_path / "clip_2x2_25Hz_yuv420.yuv"
    path.touch()
    assert len(RawVideoSequence.from_file(path)) == 0


def test_missing_file_is_told_as_such(tmp_path):
    with pytest.raises(FileNotFoundError):
        RawVideoSequence.from_file(tmp_path / "clip_2x2_25Hz_yuv420.yuv")


@pytest.mark.parametrize(
    "wrong", [{"bitdepth": 9}, {"format": "nv12"}, {"format": None}, {"endianness": "big"}]
)
def test_unknown_parameters_are_errors_that_name_them(wrong):
    right = {"width": 2, "height": 2, "bitdepth": 8, "format": "yuv420", "framerate": 25}
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        RawVideoSequence(np.zeros(6, np.uint8), **{**right, **wrong})


def test_closed_sequence_says_so():
    sequence = RawVideoSequence(np.zeros(6, np.uint8), 2, 2, 8, "yuv420", 25)
    sequence.close()
    sequence.close()
    for use in (len, lambda s: s[0]):
        with pytest.raises(ValueError, match="closed"):
            use(sequence)
