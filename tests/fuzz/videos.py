# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded videos as a target of fuzzing, and the seeds that it starts from."""

from __future__ import annotations

import functools
import io
import itertools
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import google_crc32c
from PIL import Image
from torch import nn

import compressai
from compressai.bitstream import (
    BitstreamError,
    VideoHeader,
    VideoWriter,
    decode_video,
    encode_video,
    fingerprint,
    open_video,
)
from compressai.bitstream.legacy_video import write_legacy_frame, write_legacy_start
from compressai.bitstream.video_container import VERSION
from compressai.datasets import RawVideoSequence

__all__ = ["fuzz_video", "video_seeds"]

CORPUS = Path(__file__).parents[1] / "corpus"
# One unit of the model, and so few frames that many videos are tried in a second.
MAX_PIXELS = 128 * 128
MAX_FRAMES = 2**31
FRAMES = 5
_SUM, _RECORD, _CHECK = 4, 5, 8


def fuzz_video(data: bytes) -> None:
    """Files and the strings in them: frames as the file says, or a ``BitstreamError``.

    Concealed frames are bounded, whatever the file says, and what the header holds can be written.
    """
    content = _with_fitting_sums(data)
    for conceal in (False, True):
        lost: list[int] = []
        try:
            with open_video(io.BytesIO(content)) as reader:
                header = reader.header
                frames = decode_video(
                    _net(),
                    reader,
                    conceal=conceal,
                    on_loss=lambda number, _, lost=lost: lost.append(number),
                    max_pixels=MAX_PIXELS,
                    max_frames=MAX_FRAMES,
                )
                found = list(itertools.islice(frames, FRAMES))
        except BitstreamError:
            continue
        assert len(found) <= header.frames
        for frame in found:
            assert frame[frame.dtype.names[0]].shape == (header.height, header.width)
        decoded = len(found) - len(lost)
        assert len(lost) <= decoded + max(1, MAX_PIXELS // (header.width * header.height)) + 1
        if header.version == VERSION:
            assert VideoHeader.read(io.BytesIO(header.to_bytes())) == header


@functools.cache
def _net() -> nn.Module:
    return compressai.load(CORPUS / "ssf2020.safetensors")


@functools.cache
def _fingerprint() -> bytes:
    return fingerprint(_net())


def _with_fitting_sums(data: bytes) -> bytes:
    """The data with fingerprint and checksums that fit, as far as they look like such a file."""
    content = bytearray(data)
    if len(content) < 8 or content[:4] != b"\x93CAV":
        return bytes(content)
    end = 8 + int.from_bytes(content[6:8], "little")
    weights = 8 + 1 + content[8] + 2 if len(content) > 8 else end
    if weights + 8 <= min(end, len(content)):
        content[weights : weights + 8] = _fingerprint()
    position = _put_sum(content, 0, end)
    place = bytes(content[end:position]) if content[4] > 1 else b""
    checks = _CHECK * (bool(content[5] & 4) + bool(content[5] & 8)) if content[4] > 1 else 0
    number = 0
    while position + _RECORD <= len(content):
        length = _RECORD + checks + int.from_bytes(content[position : position + 4], "little")
        covered = place + struct.pack("<I", number)
        position = _put_sum(content, position, position + length, covered)
        number += 1
    return bytes(content)


def _put_sum(content: bytearray, start: int, end: int, before: bytes = b"") -> int:
    """Put the checksum of a part behind it, and tell where the next part begins."""
    if end + _SUM <= len(content):
        checksum = google_crc32c.value(before + bytes(content[start:end]))
        content[end : end + _SUM] = checksum.to_bytes(_SUM, "little")
    return end + _SUM


def video_seeds(photo: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of small files: of every version, plane format, and kind of record."""
    for path in sorted(CORPUS.glob("*.cav")):
        yield path.name, path.read_bytes()
    for planes, depth, options in (
        ("yuv420", 8, {"gop": 1, "sync_safe": False}),
        ("yuv400", 10, {"hash_latents": False}),
        ("rgb", 8, {}),
    ):
        file = io.BytesIO()
        with tempfile.TemporaryDirectory() as folder:
            clip = Path(folder, f"clip_24x16_25fps_{depth}bit_{planes}.yuv")
            clip.write_bytes(_samples(photo, planes, depth))
            sequence = RawVideoSequence.from_file(clip)
            encode_video(_net(), sequence, file, model="ssf2020", **options)
        yield f"{planes}.cav", file.getvalue()
    with open_video(CORPUS / "v2-video.cav") as reader:
        header, frames = reader.header, [reader.read(n) for n in range(reader.header.frames)]
    bare = io.BytesIO()
    writer = VideoWriter(bare, replace(header, hashes=False, sketches=False))
    old = io.BytesIO()
    old.write(b"\x0d\x02")
    write_legacy_start(old, header.height, header.width, header.bitdepth, 3)
    for number, frame in enumerate(frames):
        writer.write(frame._replace(latent_hash=b"", sketch=b""))
        if number < 3:
            write_legacy_frame(old, frame, header.height, header.width)
    yield "no-checks.cav", bare.getvalue()
    yield "old.bin", old.getvalue()


def _samples(photo: Path, planes: str, depth: int) -> bytes:
    """Two frames of the photo, the second one moved."""
    content = b""
    with Image.open(photo) as image:
        for x in (150, 153):
            frame = image.convert("RGB" if planes == "rgb" else "YCbCr").crop((x, 90, x + 24, 106))
            for number, plane in enumerate(frame.split()):
                if number and planes == "yuv400":
                    break
                if number and planes == "yuv420":
                    plane = plane.reduce(2)
                samples = plane.tobytes()
                if depth > 8:
                    samples = struct.pack(f"<{len(samples)}H", *(4 * value for value in samples))
                content += samples
    return content
