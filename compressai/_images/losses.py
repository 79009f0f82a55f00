# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What an image file says that Pillow does not hand on, or changes: each becomes a note.

Read from the file's own header where Pillow is silent: chunks of PNG, boxes of AVIF, HEIF and
JPEG 2000, headers of BMP, JPEG XL and QOI.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from PIL import Image

from compressai._images.jpeg_xl import Header, read_header

__all__ = ["file_of", "notes_on_losses", "png_chunks", "sample_limit"]

_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# White point, red, green and blue of sRGB, x and y each (IEC 61966-2-1).
_SRGB_POINTS = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_POINT_TOLERANCE = 0.002
_SRGB_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.01
# Code points of ITU-T H.273.
_UNKNOWN, _SRGB_PRIMARIES, _SRGB_TRANSFER = 2, 1, 13
_TRANSFERS = {8: "linear light", 16: "HDR (PQ)", 18: "HDR (HLG)"}
_HDR = (16, 18)
_PRIMARIES = {9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
_ADOBE_RGB = 2
# Small parts of headers only.
_MOST_BYTES = 2**16
_CONTAINERS = frozenset({b"meta", b"iprp", b"ipco", b"jp2h"})
_ISO_FORMATS = frozenset({"AVIF", "HEIF", "JPEG2000", "JXL"})


def notes_on_losses(image: Image.Image) -> list[str]:
    """Sentences on what is lost when the first frame is made 8-bit sRGB, or 16-bit grey.

    Profiles, metadata and modes that have to be converted are told by those who convert them.

    Args:
        image: as ``Image.open`` gives it, not loaded.
    """
    notes = []
    frames = getattr(image, "n_frames", 1) if getattr(image, "is_animated", False) else 1
    if frames > 1:
        notes.append(f"only the first of {frames} frames is kept")
    sizes = len(image.info.get("sizes") or ())
    if image.format in ("ICO", "ICNS", "CUR") and sizes > 1:
        notes.append(f"only the largest of {sizes} sizes is kept")
    file = file_of(image)
    chunks = png_chunks(file) if file is not None and image.format == "PNG" else {}
    boxes = dict(_boxes(file)) if file is not None and image.format in _ISO_FORMATS else {}
    if image.format == "JXL" and b"xml " in boxes:
        notes.append("metadata (XMP) is not kept")
    header = _jpeg_xl_header(image, file)
    depth = max(header.depth, _depth(image, file, boxes))
    if depth > 8 and image.mode not in _GREY_16:
        kind = "greyscale is" if image.mode in ("L", "LA") else "colours are"
        notes.append(f"{depth}-bit {kind} reduced to 8 bits")
    if any(tile[0] == "bcn" and tile[3][0] == 6 for tile in _tiles(image)):
        notes.append("HDR samples (BC6H) are clipped and reduced to 8 bits")
    notes += _notes_on_png(image, chunks)
    notes += _notes_on_boxes(boxes)
    notes += _notes_on_jpeg_xl(header)
    notes += _notes_on_header(image, file)
    notes += _notes_on_tags(image)
    return notes


def png_chunks(file: IO[bytes]) -> dict[bytes, bytes]:
    """The chunks of a PNG file before its pixels, by their names; long ones are cut."""
    chunks: dict[bytes, bytes] = {}
    with _kept_position(file):
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name in (b"IDAT", b"IEND"):
                break
            chunks.setdefault(name, file.read(min(length, _MOST_BYTES)))
            file.seek(max(0, length - _MOST_BYTES) + 4, os.SEEK_CUR)
    return chunks


def sample_limit(image: Image.Image) -> int | None:
    """The value of white in wide greyscale, where the file says another one than 65535."""
    if image.format == "TIFF" and image.mode.startswith("I;16") and image.fp is not None:
        depth = max(_numbers(image, 258), default=16)
        return 2**depth - 1 if 8 < depth < 16 else None
    return None


@contextlib.contextmanager
def _kept_position(file: IO[bytes]) -> Iterator[None]:
    position = file.tell()
    try:
        yield
    finally:
        file.seek(position)


def file_of(image: Image.Image) -> IO[bytes] | None:
    file = getattr(image, "fp", None)
    return None if file is None or getattr(file, "closed", False) else file


def _tiles(image: Image.Image) -> Sequence[tuple]:
    return getattr(image, "tile", None) or ()


def _depth(image: Image.Image, file: IO[bytes] | None, boxes: Mapping[bytes, bytes]) -> int:
    """Bits of the file's samples."""
    depths = [8]
    for tile in _tiles(image):
        arguments = tile[3]
        if ";16" in str(arguments):
            depths.append(16)
        if tile[0].startswith("ppm") and isinstance(arguments[-1], int):
            depths.append(arguments[-1].bit_length())
    if image.format == "TIFF":
        depths += _numbers(image, 258)
    if image.format == "SGI" and file is not None:
        with _kept_position(file):
            file.seek(3)
            depths += [8 * byte for byte in file.read(1)]
    if b"av1C" in boxes and len(boxes[b"av1C"]) > 2:
        high, twelve = boxes[b"av1C"][2] & 0x40, boxes[b"av1C"][2] & 0x20
        depths.append(12 if twelve else 10 if high else 8)
    depths += boxes.get(b"pixi", b"")[5:]
    if image.format == "JPEG2000" and file is not None:
        depths += _depths_of_jpeg_2000(file, boxes)
    for place in ("bit_depth", "bit-depth"):  # of plugins for HEIF
        if isinstance(image.info.get(place), int):
            depths.append(image.info[place])
    return max(depths)


def _numbers(image: Image.Image, tag: int) -> list[int]:
    value = getattr(image, "tag_v2", {}).get(tag, ())
    values = value if isinstance(value, tuple) else (value,)
    return [number for number in values if isinstance(number, int)]


def _depths_of_jpeg_2000(file: IO[bytes], boxes: Mapping[bytes, bytes]) -> list[int]:
    head = boxes.get(b"ihdr", b"")
    if len(head) > 10 and head[10] != 255:
        return [(head[10] & 0x7F) + 1]
    if b"bpcc" in boxes:
        return [(byte & 0x7F) + 1 for byte in boxes[b"bpcc"]]
    with _kept_position(file):
        file.seek(0)
        siz = file.read(42 + 3 * 255)
    if siz[:4] != b"\xff\x4f\xff\x51":
        return []
    count = int.from_bytes(siz[40:42], "big")
    return [(byte & 0x7F) + 1 for byte in siz[42 : 42 + 3 * count : 3]]


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Boxes of an ISO base media file, with those of containers that tell of colours; cut."""
    with _kept_position(file):
        file.seek(0, os.SEEK_END)
        yield from _boxes_in(file, 0, file.tell())


def _boxes_in(file: IO[bytes], start: int, end: int, depth: int = 0) -> Iterator[tuple]:
    while start + 8 <= end:
        file.seek(start)
        size, name = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            size, head = int.from_bytes(file.read(8), "big"), 16
        size = size or end - start
        if size < head or start + size > end:
            return
        if name in _CONTAINERS and depth < 4:
            # Of those, meta alone has a version in front of its boxes.
            inside = start + head + (4 if name == b"meta" else 0)
            yield from _boxes_in(file, inside, start + size, depth + 1)
        elif size - head <= _MOST_BYTES:
            content = file.read(size - head)
            if name == b"colr":
                name += content[:4] if content[:4] == b"nclx" else b"enum"
            yield name, content
        start += size


def _notes_on_png(image: Image.Image, chunks: Mapping[bytes, bytes]) -> list[str]:
    notes = []
    if "icc_profile" in image.info and image.info["icc_profile"] is None:
        notes.append("the embedded colour profile is damaged and is dropped")
    coding = chunks.get(b"cICP", b"")
    if len(coding) >= 2:
        notes += _notes_on_code_points(coding[0], coding[1], "cICP")
    lights = [name.decode() for name in (b"mDCV", b"cLLI") if name in chunks]
    if lights:
        notes.append(f"HDR metadata ({', '.join(lights)}) is not kept")
    # The order of the PNG specification, 4.3: each of them overrides those that follow.
    if coding or image.info.get("icc_profile"):
        return notes
    intent = image.info.get("srgb")
    if intent is not None:
        # 0 is what nearly all writers put in, for want of a wish.
        return [*notes, "the rendering intent (sRGB chunk) is not kept"] if intent else notes
    gamma = image.info.get("gamma")
    if gamma is not None and abs(gamma - _SRGB_GAMMA) > _GAMMA_TOLERANCE:
        notes.append(f"gamma {gamma:g} (gAMA chunk) is ignored: samples are taken as sRGB")
    points = image.info.get("chromaticity")
    if points is not None and not _are_of_srgb(points):
        notes.append("primaries (cHRM chunk) are ignored: colours are taken as sRGB")
    return notes


def _are_of_srgb(points: Sequence[float]) -> bool:
    return len(points) == 8 and all(
        abs(a - b) <= _POINT_TOLERANCE for a, b in zip(points, _SRGB_POINTS)
    )


def _notes_on_code_points(primaries: int, transfer: int, where: str) -> list[str]:
    notes = []
    if transfer not in (_UNKNOWN, _SRGB_TRANSFER):
        name = _TRANSFERS.get(transfer, f"of kind {transfer}")
        notes.append(f"transfer {name} ({where}) is ignored: samples are taken as sRGB")
    if primaries not in (_UNKNOWN, _SRGB_PRIMARIES):
        name = _PRIMARIES.get(primaries, f"of kind {primaries}")
        notes.append(f"primaries {name} ({where}) are ignored: colours are taken as sRGB")
    return notes


def _notes_on_boxes(boxes: Mapping[bytes, bytes]) -> list[str]:
    notes = []
    coding = boxes.get(b"colrnclx", b"")
    if len(coding) >= 8:
        notes += _notes_on_code_points(*struct.unpack_from(">HH", coding, 4), "nclx")
    lights = [name.decode() for name in (b"mdcv", b"clli") if name in boxes]
    if lights:
        notes.append(f"HDR metadata ({', '.join(lights)}) is not kept")
    # JPEG 2000: 16 is sRGB, 17 grey, 18 sYCC, which the decoder converts.
    space = boxes.get(b"colrenum", b"")
    if space[:1] == b"\1" and len(space) >= 7:
        number = int.from_bytes(space[3:7], "big")
        if number not in (16, 17, 18):
            notes.append(f"colour space {number} (JPEG 2000) is ignored: taken as sRGB")
    return notes


def _jpeg_xl_header(image: Image.Image, file: IO[bytes] | None) -> Header:
    if file is None or image.format != "JXL":
        return Header()
    with _kept_position(file):
        return read_header(file) or Header()


def _notes_on_jpeg_xl(header: Header) -> list[str]:
    notes = []
    if header.animated:
        notes.append("only the first frame of the animation is kept")
    if header.transfer in _HDR:
        notes.append(f"transfer {_TRANSFERS[header.transfer]} (JPEG XL) is reduced to that of sRGB")
    if header.extra:
        notes.append(f"{len(header.extra)} channels besides colours and alpha are not kept")
    return notes


def _notes_on_header(image: Image.Image, file: IO[bytes] | None) -> list[str]:
    if file is None or image.format not in ("BMP", "QOI"):
        return []
    with _kept_position(file):
        file.seek(0)
        head = file.read(138)
    if image.format == "QOI":
        linear = head[13:14] == b"\1"
        return ["linear light (QOI) is ignored: samples are taken as sRGB"] if linear else []
    size = int.from_bytes(head[14:18], "little")
    space = head[70:74][::-1]
    if size < 108 or space in (b"sRGB", b"Win "):
        return []
    if space in (b"MBED", b"LINK"):
        return ["the colour profile of the BMP file is dropped"]
    # Endpoints of zero are what writers put in that know of none.
    unset = not any(head[74:122])
    return [] if unset else ["colour space (BMP header) is ignored: taken as sRGB"]


def _notes_on_tags(image: Image.Image) -> list[str]:
    if image.info.get("icc_profile"):
        return []
    notes = []
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if 301 in tags:
        notes.append("the transfer function (TIFF) is ignored: samples are taken as sRGB")
    points = (*tags.get(318, ()), *tags.get(319, ()))
    if points and not _are_of_srgb([float(point) for point in points]):
        notes.append("primaries (TIFF) are ignored: colours are taken as sRGB")
    # Where pixels would have to be decoded to find metadata behind them, there are none of these.
    if image.format in ("JPEG", "MPO", "TIFF", "WEBP", "AVIF", "HEIF") or "exif" in image.info:
        camera = image.getexif().get_ifd(0x8769)
        other = image.getexif().get_ifd(0xA005).get(1)
        if camera.get(0xA001) == _ADOBE_RGB or (isinstance(other, str) and other[:3] == "R03"):
            notes.append("Adobe RGB (EXIF) is ignored: colours are taken as sRGB")
    return notes
