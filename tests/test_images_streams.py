# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image files from pipes and servers are read by their header, and no further than it allows."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import file_of, png
from PIL import Image
from streams import Stream

from compressai._images import buffer_image, read_samples, read_size, reading

RNG = np.random.Generator(np.random.PCG64(3))
NOISE = Image.fromarray(RNG.integers(0, 256, (300, 200, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        # Its directory comes last.
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
        # Its size comes behind its profile.
        ("JPEG", {"quality": 95, "icc_profile": RNG.bytes(200_000)}),
    ],
)
def test_streams_give_the_samples_of_the_file(kind, options):
    content = file_of(NOISE, kind, **options).getvalue()
    assert len(content) > 2 * reading._FIRST
    stream = Stream(content, len(content))
    samples = read_samples(stream)
    assert stream.taken == len(content)
    assert np.array_equal(samples.pixels, read_samples(io.BytesIO(content)).pixels)


@pytest.mark.parametrize("start", [b"", b"\x7fELF" + bytes(range(256)) * 4, b"\x89CAI\2"])
def test_streams_of_something_else_are_left_after_their_start(start):
    stream = Stream(start)
    with pytest.raises(ValueError, match=r"no image|damaged"):
        buffer_image(stream)
    assert stream.taken == reading._FIRST


def test_streams_of_large_images_are_left_at_their_header(monkeypatch):
    stream = Stream(file_of(Image.new("L", (2000, 2000)), "PNG").getvalue())
    with pytest.raises(ValueError, match="2000 x 2000"):
        read_samples(stream, max_pixels=10**6)
    assert stream.taken == reading._FIRST
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**5)
    stream = Stream(stream.start)
    with pytest.raises(ValueError, match="too large"):
        read_samples(stream, max_pixels=None)
    assert stream.taken == reading._FIRST


def test_streams_without_an_end_are_left_where_no_image_would_be(monkeypatch):
    monkeypatch.setattr(reading, "_BYTES_OF_EXTRAS", 2**20)
    stream = Stream(file_of(Image.new("L", (20, 20)), "PNG").getvalue())
    with pytest.raises(ValueError, match=r"too many for an image of 20 x 20"):
        buffer_image(stream)
    assert stream.taken == 2**20 + 8 * 20 * 20 + 1
    # A directory that is said to come far behind.
    stream = Stream(b"II*\0\0\0\0\x70" + bytes(8))
    with pytest.raises(ValueError, match=r"too many for an image with 1000 pixels at most"):
        buffer_image(stream, 1000)
    assert stream.taken == 2**20 + 8 * 1000 + 1


SIDE = 13_000
LARGE = {
    "BMP": b"BM"
    + struct.pack("<IHHI", 62, 0, 0, 62 + 1024)
    + struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, 4, 0, 0, 0, 0)
    + bytes(1024),
    "GIF": b"GIF89a"
    + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0)
    + b"\x2c"
    + struct.pack("<HHHHB", 0, 0, 1, 1, 0)
    + b"\x02\x02\x44\x01\0;",
    "PPM": b"P6 %d %d 255\n" % (SIDE, SIDE),
    "TGA": struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, SIDE, SIDE, 24, 0),
}


@pytest.mark.parametrize("kind", LARGE)
def test_small_files_that_announce_much_are_refused_by_their_header(kind, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(LARGE[kind] + bytes(99))
    stream = Stream(LARGE[kind])
    for source in (path, stream):
        with pytest.raises(ValueError, match=r"more than the limit|too large"):
            read_samples(source)
    assert stream.taken == reading._FIRST


@pytest.mark.parametrize("chunk", ["iCCP", "zTXt", "iTXt"])
def test_metadata_that_inflates_is_damage(chunk):
    head = {"iCCP": b"x\0\0", "zTXt": b"x\0\0", "iTXt": b"x\0\1\0\0\0"}[chunk]
    bomb = (chunk.encode(), head + zlib.compress(bytes(2**23)))
    file = png(2, 8, np.zeros((4, 4, 3), dtype=np.uint8), bomb)
    assert len(file.getvalue()) < 10_000
    for source in (file, Stream(file.getvalue(), len(file.getvalue()))):
        with pytest.raises(ValueError, match="too large"):
            read_samples(source)


def test_truncated_streams_are_damaged_images():
    content = file_of(NOISE, "PNG").getvalue()
    with pytest.raises(ValueError, match="damaged"):
        read_samples(Stream(content, 100_000))
    with pytest.raises(ValueError, match="damaged"):
        read_size(Stream(content, 20))
    with pytest.raises(ValueError, match="empty"):
        buffer_image(Stream(b"", 0))
