# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded videos that are damaged, hostile, or of CompressAI 1.2."""

from __future__ import annotations

import dataclasses
import io
import struct

import numpy as np
import pytest
import torch
from coded_videos import (
    CHECKS,
    HEADER,
    KEY,
    PREDICTED,
    decoded,
    encoded,
    old_file,
    records,
    same,
    signed,
    written,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from video_clips import clip, video_net

from compressai.bitstream import (
    BitstreamError,
    CodedFrame,
    DamagedFileError,
    FrameCoder,
    UnsupportedFileError,
    WrongWeightsError,
    decode_video,
    fingerprint,
    open_video,
)
from compressai.bitstream.legacy_video import (
    LEGACY_MULTIPLE,
    LegacyVideoReader,
    write_legacy_frame,
)
from compressai.bitstream.video_codec import frame_to_rgb, to_frame
from compressai.datasets import RawVideoSequence

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def net():
    return video_net()


# -- damage ---------------------------------------------------------------------------------------


def test_other_weights_are_refused(coded):
    with pytest.raises(WrongWeightsError, match="fingerprints"):
        decoded(video_net(seed=1), coded)


def test_too_large_frames_are_refused_before_memory_is_taken(net):
    huge = dataclasses.replace(HEADER, width=2**20, height=2**20)
    with pytest.raises(UnsupportedFileError, match="max_pixels"):
        decoded(net, written(KEY, header=huge))


def test_damaged_frame_is_named(net, coded):
    _, end = list(records(coded))[1]
    changed = bytearray(coded)
    changed[end - 10] ^= 1
    frames = decode_video(net, open_video(io.BytesIO(bytes(changed))))
    next(frames)
    with pytest.raises(DamagedFileError, match="frame 1"):
        next(frames)


def test_damage_ends_at_the_next_key_frame(net, coded):
    intact = decoded(net, coded)
    _, end = list(records(coded))[1]
    changed = bytearray(coded)
    changed[end - 10] ^= 1
    lost = {}
    frames = decoded(net, bytes(changed), conceal=True, on_loss=lost.__setitem__)
    assert list(lost) == [1, 2]
    assert [same(*pair) for pair in zip(frames, intact, strict=True)] == [True, False, False] + [
        True
    ] * 2
    assert same(frames[2], frames[0])


def test_swapped_frames_are_noticed(net, coded):
    (a, b), (_, c) = list(records(coded))[1:3]
    swapped = coded[:a] + coded[b:c] + coded[a:b] + coded[c:]
    with pytest.raises(DamagedFileError, match="frame 1"):
        decoded(net, swapped)


def test_frame_of_another_video_is_noticed(net, sequence, coded, tmp_path):
    other_clip = clip(tmp_path, frames=5, width=64)
    other = encoded(net, RawVideoSequence.from_file(other_clip), gop=3)
    pairs = list(zip(records(coded), records(other), strict=True))
    for number, ((a, b), (c, d)) in enumerate(pairs):
        spliced = coded[:a] + other[c:d] + coded[b:]
        with pytest.raises(DamagedFileError, match=f"frame {number}.*place or file"):
            decoded(net, spliced)


def test_lost_first_frame_is_grey_until_a_key_frame(net, coded):
    changed = bytearray(coded)
    changed[next(records(coded))[1] - 10] ^= 1
    lost = {}
    frames = decoded(net, bytes(changed), conceal=True, on_loss=lost.__setitem__)
    assert list(lost) == [0, 1, 2]
    assert {*np.unique(frames[0]["y"]), *np.unique(frames[0]["u"])} == {128}
    assert same(frames[4], decoded(net, coded)[4])


def test_truncated_file_gives_the_frames_before(net, coded):
    start, _ = list(records(coded))[2]
    for cut in (start, start + 3, start + 20):
        with pytest.raises(DamagedFileError, match=r"frame 2.*truncated"):
            decoded(net, coded[:cut])
        lost = {}
        frames = decoded(net, coded[:cut], conceal=True, on_loss=lost.__setitem__)
        assert (len(frames), list(lost)) == (2, [2])


def test_promised_frames_are_checked_against_the_limit(net, sequence, coded):
    reader = LegacyVideoReader(io.BytesIO(old_file(80, 96, 2**32 - 1)))
    assert reader.header.frames == 2**32 - 1
    with pytest.raises(UnsupportedFileError, match="more than the limit of 1048576"):
        next(decode_video(net, reader, conceal=True))
    with pytest.raises(UnsupportedFileError, match="raise max_frames"):
        decoded(net, coded, max_frames=4)
    assert len(decoded(net, coded, max_frames=5)) == 5
    with pytest.raises(ValueError, match="raise max_frames"):
        encoded(net, sequence, max_frames=4)


def test_million_promised_frames_do_not_make_a_large_video(net):
    reader = LegacyVideoReader(io.BytesIO(old_file(80, 96, 2**32 - 1)))
    assert list(decode_video(net, reader, conceal=True, max_frames=2**32)) == []


def empty_records(count, header):
    """A file whose checksums fit, of records that hold no strings."""
    start = written(header=header)
    record = struct.pack("<IB", 0, 1) + bytes(CHECKS)
    return start + b"".join(signed(record, number, start) for number in range(count))


def test_small_file_of_lost_frames_does_not_make_a_large_video(net):
    header = dataclasses.replace(HEADER, frames=1000, fingerprint=fingerprint(net))
    lost = {}
    options = {"conceal": True, "max_pixels": 128 * 128}
    frames = decoded(net, empty_records(1000, header), on_loss=lost.__setitem__, **options)
    area = header.width * header.height
    assert len(frames) == 128 * 128 // area == 2
    assert list(lost) == [0, 1, 2]
    assert "decoding ends here" in str(lost[2])


def test_decoded_frames_pay_for_concealed_ones(net, coded):
    damaged = bytearray(coded)
    for start, end in list(records(coded))[1:3]:
        damaged[start + 30 : end] = bytes(end - start - 30)
    options = {"conceal": True, "max_pixels": 128 * 128}
    assert len(decoded(net, bytes(damaged), **options)) == 5


# -- anything -------------------------------------------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_byte_is_noticed(net, coded, data):
    position = data.draw(st.integers(0, len(coded) - 1))
    changed = bytearray(coded)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BitstreamError):
        decoded(net, bytes(changed))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(strings=st.lists(st.binary(max_size=40), min_size=2, max_size=2))
def test_strings_of_anybody_end_in_a_frame_or_an_error(net, strings):
    coder = FrameCoder(net, 80, 96)
    try:
        x_hat = coder.decode(CodedFrame(True, (tuple(strings),)))
    except DamagedFileError:
        return
    assert x_hat.shape == (1, 3, 80, 96)


def test_predicted_frame_without_reference_is_damage(net):
    with pytest.raises(DamagedFileError, match="predicted from is missing"):
        FrameCoder(net, 80, 96).decode(PREDICTED)


# -- files of CompressAI 1.2 ----------------------------------------------------------------------


def test_old_files_are_read(net, sequence):
    file = io.BytesIO(old_file(80, 96, 3))
    file.seek(0, io.SEEK_END)
    coder = FrameCoder(net, 80, 96, centred=LEGACY_MULTIPLE)
    assert coder.pad(torch.ones(1, 3, 80, 96))[0, 0, 24:104, 16:112].all()
    reconstructions = []
    for number in range(3):
        frame, x_hat = coder.encode(frame_to_rgb(sequence[number], sequence), number == 0)
        write_legacy_frame(file, frame, 80, 96)
        reconstructions.append(x_hat)
    content = file.getvalue()
    assert content[15:27] == struct.pack(">III", 1, 1, 2)
    reader = open_video(io.BytesIO(content))
    header = reader.header
    assert (header.model, header.metric, header.quality) == ("ssf2020", "mse", 3)
    assert (header.height, header.width, header.frames) == (80, 96, 3)
    for frame, x_hat in zip(decode_video(net, reader), reconstructions, strict=True):
        assert same(frame, to_frame(x_hat, header))
    bare = LegacyVideoReader(io.BytesIO(content[2:]), names=("mse", 3))
    assert bare.header == header

    for cut in (1, 5, 14, 20, len(content) - 1):
        with pytest.raises(BitstreamError):
            decoded(net, content[:cut])


@pytest.mark.parametrize(
    "content",
    [
        old_file(80, 96, 1, b"\x0d\x20"),
        old_file(0, 96, 1),
        old_file(80, 96, 0),
        old_file(80, 96, 1)[:10] + b"\x09" + old_file(80, 96, 1)[11:],
        old_file(80, 96, 1) + struct.pack(">IIIII", 2, 1, 2, 0, 0),
        old_file(80, 96, 1) + struct.pack(">IIII", 1, 1, 1, 0),
    ],
)
def test_impossible_old_files_are_damage(net, content):
    with pytest.raises(DamagedFileError):
        decoded(net, content)
