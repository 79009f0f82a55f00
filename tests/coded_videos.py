# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded videos in memory, whole ones and their parts."""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import google_crc32c

from compressai.bitstream import (
    CodedFrame,
    VideoHeader,
    VideoWriter,
    decode_video,
    encode_video,
    open_video,
)
from compressai.bitstream.legacy_video import (
    write_legacy_start,
)
from compressai.datasets import VideoFormat

__all__ = [
    "CHECKS",
    "HEADER",
    "KEY",
    "PREDICTED",
    "decoded",
    "encoded",
    "old_file",
    "records",
    "same",
    "signed",
    "written",
]

HEADER = VideoHeader(
    model="ssf2020",
    quality=3,
    metric="mse",
    random_weights=False,
    fingerprint=b"12345678",
    width=96,
    height=80,
    format=VideoFormat.YUV420,
    bitdepth=8,
    framerate=Fraction(30000, 1001),
    frames=2,
    gop=1,
    sync_safe=True,
    hashes=True,
    sketches=True,
)
KEY = CodedFrame(True, ((b"y", b""),), b"hash key", b"sketches")
PREDICTED = CodedFrame(False, ((b"motion", b"z"), (b"", b"\0")), b"hash two", b"another.")
CHECKS = 16


def encoded(net, sequence, **options):
    file = io.BytesIO()
    encode_video(net, sequence, file, model="ssf2020", **options)
    return file.getvalue()


def decoded(net, content, **options):
    return list(decode_video(net, open_video(io.BytesIO(content)), **options))


def same(a, b):
    return a.tobytes() == b.tobytes()


def written(*frames, header=HEADER):
    file = io.BytesIO()
    writer = VideoWriter(file, header)
    for frame in frames:
        writer.write(frame)
    return file.getvalue()


def records(content):
    """Start and end of the record of each frame."""
    position = 8 + struct.unpack_from("<H", content, 6)[0] + 4
    while position < len(content):
        end = position + 5 + CHECKS + struct.unpack_from("<I", content, position)[0] + 4
        yield position, end
        position = end


def signed(record, number=0, start=None):
    """A record with a checksum that fits."""
    start = written() if start is None else start
    covered = start[-4:] + struct.pack("<I", number) + record
    return record + struct.pack("<I", google_crc32c.value(covered))


def old_file(height, width, frames, start=b"\x0d\x02"):
    file = io.BytesIO()
    file.write(start)
    write_legacy_start(file, height, width, 8, frames)
    return file.getvalue()
