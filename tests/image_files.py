# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image files made by hand, for what Pillow cannot write."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

__all__ = ["file_of", "isobmff_box", "png", "png_chunk"]


def png_chunk(kind: bytes, data: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def png(colour_type: int, depth: int, rows: np.ndarray, *chunks: tuple[bytes, bytes]) -> io.BytesIO:
    """A PNG file; ``rows``: array ``(H, W, samples)``."""
    raw = b""
    for row in rows.astype(np.int64):
        if depth == 16:
            line = row.astype(">u2").tobytes()
        else:
            bits = (row.reshape(-1, 1) >> np.arange(depth - 1, -1, -1)) & 1
            line = np.packbits(bits.astype(np.uint8)).tobytes()
        raw += b"\0" + line
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, colour_type, 0, 0, 0)
    image = png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b"")
    extra = b"".join(png_chunk(*pair) for pair in chunks)
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + image)


def isobmff_box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def file_of(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    """An image of Pillow as a file in memory."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return io.BytesIO(buffer.getvalue())
