# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The layout of coded videos: what is written is read, and nothing else."""

from __future__ import annotations

import dataclasses
import io
import struct

import google_crc32c
import numpy as np
import pytest
import torch
from coded_videos import (
    CHECKS,
    HEADER,
    KEY,
    PREDICTED,
    signed,
    written,
)

from compressai.bitstream import (
    DamagedFileError,
    UnsupportedFileError,
    open_video,
    sketch_distance,
    sketch_frame,
)
from compressai.datasets import VideoFormat


def test_layout_is_the_documented_one():
    content = written(KEY, PREDICTED)
    assert content[:8] == b"\x93CAV\x02\x0e" + struct.pack("<H", 44)
    assert content[8:16] == b"\x07ssf2020"
    assert content[16:26] == b"\x03\x0012345678"
    fields = struct.unpack_from("<IIBBIIII", content, 26)
    assert fields == (96, 80, 1, 8, 30000, 1001, 2, 1)
    assert struct.unpack_from("<I", content, 52) == (google_crc32c.value(content[:52]),)
    first = struct.pack("<IB", 9, 0) + b"hash keysketches" + b"\1\0\0\0y" + b"\0\0\0\0"
    assert content[56:].startswith(first)
    crc = google_crc32c.value(content[52:56] + bytes(4) + first)
    assert struct.unpack_from("<I", content, 56 + len(first)) == (crc,)


def test_sketch_is_the_documented_one():
    frame = torch.rand(3, 5, 7)
    samples = frame.double().numpy() - 0.5
    expected = []
    for i in range(4):
        signs = [
            1 - 2 * (np.random.PCG64(seed).random_raw(n) >> np.uint64(i) & np.uint64(1)).astype(int)
            for seed, n in enumerate(samples.shape)
        ]
        total = np.einsum("chw,c,h,w->", samples, *signs) / np.sqrt(samples.size)
        expected.append(total * 2**12)
    found = np.frombuffer(sketch_frame(frame), "<i2")
    assert np.abs(found - expected).max() < 0.6  # rounded to integers


def test_sketch_tells_how_far_frames_are_apart():
    generator = torch.Generator().manual_seed(0)
    frame = torch.rand(3, 64, 96, generator=generator)
    noise = torch.randn(frame.shape, generator=generator)
    for difference in (noise / 50, torch.full_like(frame, 0.02), (noise > 3) * 0.4):
        size = float(difference.square().mean().sqrt())
        found = sketch_distance(sketch_frame(frame), sketch_frame(frame + difference))
        assert 0.2 * size < found < 3 * size
    assert sketch_frame(torch.full((3, 4, 4), torch.inf)) == bytes(8)


def test_what_is_written_is_read():
    for header in (
        HEADER,
        dataclasses.replace(HEADER, quality=None, metric=None, framerate=None, gop=0),
        dataclasses.replace(HEADER, random_weights=True, format=VideoFormat.RGB, bitdepth=16),
        dataclasses.replace(HEADER, sync_safe=False),
    ):
        reader = open_video(io.BytesIO(written(KEY, PREDICTED, header=header)))
        assert reader.header == header
        assert [reader.read(0), reader.read(1)] == [KEY, PREDICTED]


def test_later_fields_of_the_header_are_skipped():
    content = written(KEY)
    longer = bytearray(content[:52] + b"new")
    longer[6:8] = struct.pack("<H", 47)
    longer += struct.pack("<I", google_crc32c.value(bytes(longer)))
    longer += signed(content[56:-4], start=bytes(longer))
    reader = open_video(io.BytesIO(bytes(longer)))
    assert (reader.header, reader.read(0)) == (HEADER, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"frames": 0},
        {"width": 2**32},
        {"bitdepth": 9},
        {"metric": "psnr"},
        {"model": "\x1b[2J"},
        {"gop": 2**32},
        {"version": 1},
    ],
)
def test_headers_that_do_not_fit_are_not_written(change):
    with pytest.raises(ValueError, match=r"must|fit"):
        dataclasses.replace(HEADER, **change).to_bytes()


def resealed(content, position, value):
    changed = bytearray(content[:52])
    changed[position] = value
    return bytes(changed) + struct.pack("<I", google_crc32c.value(bytes(changed)))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", DamagedFileError),
        (b"\x93CA", DamagedFileError),
        (b"\x93CAI\x01", UnsupportedFileError),
        (b"RIFF\0\0\0\0AVI ", UnsupportedFileError),
        (resealed(written(KEY), 4, 3), UnsupportedFileError),
        (resealed(written(KEY), 4, 0), UnsupportedFileError),
        (resealed(written(KEY), 4, 1), UnsupportedFileError),  # flags of version 2
        (resealed(written(KEY), 5, 16), UnsupportedFileError),
        (resealed(written(KEY), 17, 7), DamagedFileError),  # metric
        (resealed(written(KEY), 34, 9), DamagedFileError),  # planes
        (resealed(written(KEY), 35, 9), DamagedFileError),  # bits
        (resealed(written(KEY), 26, 0), DamagedFileError),  # width 0
        (resealed(written(KEY), 9, 27), DamagedFileError),  # name of the model
        (resealed(written(KEY), 8, 40), DamagedFileError),  # its length
    ],
)
def test_bad_starts_are_told_apart(content, error):
    with pytest.raises(error):
        open_video(io.BytesIO(content))


@pytest.mark.parametrize("wrong", [{"latent_hash": b""}, {"sketch": b"short"}])
def test_records_that_the_header_does_not_announce_are_not_written(wrong):
    with pytest.raises(ValueError, match="8 bytes in this file"):
        written(KEY._replace(**wrong))


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<IB", 0, 0) + bytes(CHECKS),  # no strings
        struct.pack("<IB", 0, 2) + bytes(CHECKS),  # unknown kind
        struct.pack("<IB", 3, 0) + bytes(CHECKS) + b"\0\0\0",  # half a length
        struct.pack("<IB", 8, 0) + bytes(CHECKS) + b"\x09\0\0\0abcd",  # beyond the record
        struct.pack("<IB", 2**32 - 1, 0) + bytes(CHECKS),
    ],
)
def test_bad_records_are_damage(record):
    reader = open_video(io.BytesIO(written() + signed(record)))
    with pytest.raises(DamagedFileError):
        reader.read(0)


def test_long_records_are_refused_before_they_are_read():
    class Endless(io.BytesIO):
        def read(self, length=-1):
            assert length <= 2**20
            return super().read(length) or bytes(length)

    reader = open_video(Endless(written() + struct.pack("<IB", 2**28 + 1, 0)))
    with pytest.raises(DamagedFileError, match="too many"):
        reader.read(0)
