# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Images to code, and changed files, for the tests of the bitstream."""

from __future__ import annotations

from pathlib import Path

import google_crc32c
import numpy as np
from hypothesis import HealthCheck, settings
from PIL import Image

__all__ = ["CORPUS", "FUZZING", "header_end", "noise", "with_header_sum", "with_sums"]

CORPUS = Path(__file__).parent / "corpus"
FUZZING = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def noise(width: int, height: int, channels: int = 3) -> Image.Image:
    """Smooth colours, the same for the same size."""
    rng = np.random.Generator(np.random.PCG64(width * 1000 + height))
    smooth = Image.fromarray(rng.integers(0, 256, (4, 4, channels), dtype=np.uint8))
    return smooth.resize((width, height), Image.Resampling.BICUBIC)


def header_end(content: bytes) -> int:
    """Where the header of a file of version 2 ends and its checksum begins."""
    return 10 + int.from_bytes(content[6:10], "little")


def with_header_sum(content: bytes) -> bytes:
    """The content with a checksum that fits the header, so that what comes after it is tried."""
    end = header_end(content)
    checksum = google_crc32c.value(bytes(content[:end])).to_bytes(4, "little")
    return bytes(content[:end]) + checksum + bytes(content[end + 4 :])


def with_sums(content: bytes, lengths: list[int]) -> bytes:
    """The content with checksums that fit the header and sections of those lengths."""
    content = bytearray(with_header_sum(content))
    start = header_end(content) + 4
    head_sum = bytes(content[start - 4 : start]) if content[5] & 8 else b""
    for number, length in enumerate(lengths):
        end = start + length
        place = head_sum + number.to_bytes(4, "little") if head_sum else b""
        checksum = google_crc32c.value(place + bytes(content[start:end]))
        content[end : end + 4] = checksum.to_bytes(4, "little")
        start = end + 4
    return bytes(content)
