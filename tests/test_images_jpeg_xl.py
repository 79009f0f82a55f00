# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What a JPEG XL file loses on its way to a network is told, although its plugin is silent."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compressai._images.jpeg_xl import Header, read_header
from compressai.bitstream import read_image

pytest.importorskip("pillow_jxl")

DEPTHS = {8: (0,), 10: (1,), 12: (2,)}


class Bits:
    """Bits of a header, the lowest of a byte first."""

    def __init__(self) -> None:
        self._value = self._count = 0

    def put(self, *fields: tuple[int, int]) -> None:
        """Append pairs of a value and a number of bits."""
        for value, count in fields:
            self._value |= value << self._count
            self._count += count

    def enum(self, value: int) -> None:
        if value < 2:
            self.put((value, 2))
        else:
            self.put(*(((2, 2), (value - 2, 4)) if value < 18 else ((3, 2), (value - 18, 6))))

    def bytes(self) -> bytes:
        return self._value.to_bytes(-(-self._count // 8), "little")


@pytest.fixture(scope="module")
def frame() -> bytes:
    """What follows the header of an image of 8 x 8 pixels, with whose header all is as usual."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JXL", quality=90)
    assert file.getvalue()[:4] == b"\xff\x0a\x41\x06"  # 11 bits: small, 8, square, usual, usual
    return file.getvalue()[4:]


def file_of(
    frame: bytes,
    depth: int = 8,
    float_sample: bool = False,
    animated: bool = False,
    transfer: int | None = None,
    container: bool = False,
) -> io.BytesIO:
    bits = Bits()
    bits.put((1, 1), (0, 5), (1, 3), (0, 1), (int(animated), 1))
    if animated:
        bits.put((0, 3), (0, 1), (0, 1), (1, 1), (0, 2), (0, 2), (0, 2), (0, 1))
    bits.put((int(float_sample), 1))
    if float_sample:
        bits.put((0, 2), (7, 4))  # 32 bits, 8 of them of the exponent
    elif depth == 16:
        bits.put((3, 2), (15, 6))
    else:
        bits.put((*DEPTHS[depth], 2))
    bits.put((1, 1), (0, 2), (1, 1))
    if transfer is None:
        bits.put((1, 1))
    else:
        bits.put((0, 1), (0, 1))
        for value in (0, 1, 9):  # RGB, white of D65, primaries of BT.2020
            bits.enum(value)
        bits.put((0, 1))
        bits.enum(transfer)
        bits.enum(1)
    if animated:
        bits.put((1, 1))
    bits.put((0, 2), (1, 1))
    stream = b"\xff\x0a" + bits.bytes() + frame
    if not container:
        return io.BytesIO(stream)
    boxes = (
        (b"JXL ", b"\r\n\x87\n"),
        (b"ftyp", b"jxl \0\0\0\0jxl "),
        (b"xml ", b"<x:xmpmeta/>" + b" " * 100),
        (b"jxlp", b"\0\0\0\0" + stream[:4]),
        (b"jxlp", b"\x80\0\0\1" + stream[4:]),
    )
    return io.BytesIO(b"".join((8 + len(c)).to_bytes(4, "big") + name + c for name, c in boxes))


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        ({}, ""),
        ({"depth": 10}, "10-bit colours are reduced to 8 bits"),
        ({"depth": 12}, "12-bit colours are reduced to 8 bits"),
        ({"depth": 16}, "16-bit colours are reduced to 8 bits"),
        ({"depth": 16, "container": True}, "16-bit colours are reduced to 8 bits"),
        ({"container": True}, "metadata (XMP) is not kept"),
        ({"float_sample": True}, "32-bit colours are reduced to 8 bits"),
        ({"transfer": 16}, "transfer HDR (PQ) (JPEG XL) is reduced to that of sRGB"),
        ({"transfer": 18}, "transfer HDR (HLG) (JPEG XL) is reduced to that of sRGB"),
    ],
)
def test_losses_are_told(frame: bytes, arguments: dict[str, Any], note: str) -> None:
    sample = read_image(file_of(frame, **arguments))
    assert sample.pixels.shape == (3, 8, 8)
    assert note in sample.notes if note else sample.notes == []


def test_header_tells_of_an_animation(frame: bytes) -> None:
    assert read_header(file_of(frame, animated=True)) == Header(animated=True)


@pytest.mark.parametrize(
    ("container", "length"),
    [(False, 0), (False, 2), (False, 5), (True, 0), (True, 12), (True, 165)],
)
def test_header_that_is_cut_is_none(frame: bytes, container: bool, length: int) -> None:
    whole = file_of(frame, transfer=16, depth=16, container=container).getvalue()
    assert read_header(io.BytesIO(whole[:length])) is None


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16"])
def test_ordinary_files_have_no_note(mode: str) -> None:
    file = io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000)
    else:
        image = Image.new(mode, (8, 8), 7 if mode == "L" else (7,) * len(mode))
    image.save(file, "JXL", lossless=True)
    header = read_header(file)
    assert header is not None
    assert (header.depth, header.extra) == (16 if mode == "I;16" else 8, [])
    assert not any("reduced" in note for note in read_image(file).notes)
