# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Big-endian numbers and bytes of coded files, under the names that CompressAI has for them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from compressai.bitstream._fields import take
from compressai.bitstream.legacy import read_body, write_body

__all__ = [
    "filesize",
    "read_body",
    "read_bytes",
    "read_uchars",
    "read_uints",
    "write_body",
    "write_bytes",
    "write_uchars",
    "write_uints",
]


def write_uints(fd: BinaryIO, values: Sequence[int], fmt: str = ">{:d}I") -> int:
    """Write numbers of four bytes; the number of bytes written."""
    return fd.write(struct.pack(fmt.format(len(values)), *values))


def write_uchars(fd: BinaryIO, values: Sequence[int], fmt: str = ">{:d}B") -> int:
    """Write numbers of one byte; the number of bytes written."""
    return fd.write(struct.pack(fmt.format(len(values)), *values))


def write_bytes(fd: BinaryIO, values: bytes, fmt: str = ">{:d}s") -> int:
    """Write bytes, which may be none; the number of bytes written."""
    return fd.write(struct.pack(fmt.format(len(values)), values))


def read_uints(fd: BinaryIO, n: int, fmt: str = ">{:d}I") -> tuple[int, ...]:
    """Read ``n`` numbers of four bytes.

    Raises:
        TruncatedFileError: the file ends before.
    """
    return struct.unpack(fmt.format(n), take(fd, struct.calcsize(fmt.format(n))))


def read_uchars(fd: BinaryIO, n: int, fmt: str = ">{:d}B") -> tuple[int, ...]:
    """Read ``n`` numbers of one byte.

    Raises:
        TruncatedFileError: the file ends before.
    """
    return struct.unpack(fmt.format(n), take(fd, struct.calcsize(fmt.format(n))))


def read_bytes(fd: BinaryIO, n: int, fmt: str = ">{:d}s") -> bytes:
    """Read ``n`` bytes.

    Raises:
        TruncatedFileError: the file ends before.
    """
    return struct.unpack(fmt.format(n), take(fd, struct.calcsize(fmt.format(n))))[0]


def filesize(filepath: str | Path) -> int:
    """Length of a file in bytes.

    Raises:
        ValueError: there is no such file.
    """
    path = Path(filepath)
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    return path.stat().st_size
