# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded pictures of all formats from files."""

from __future__ import annotations

from pathlib import Path

from compressai.bitstream.container import MAGIC, CodedPicture
from compressai.bitstream.errors import UnsupportedFileError
from compressai.bitstream.legacy import LegacyPicture

__all__ = ["parse_coded", "read_coded"]


def parse_coded(content: bytes) -> CodedPicture | LegacyPicture:
    """Read a coded picture from the content of a file, ``.cai`` or of CompressAI 1.2.

    The formats cannot be confused: the old one begins with a number below 14.

    Raises:
        UnsupportedFileError: it is of neither format, of a later version, or no picture.
        DamagedFileError: truncated or changed.
    """
    if not content or content[:1] == MAGIC[:1]:
        return CodedPicture.from_bytes(content)
    try:
        return LegacyPicture.from_bytes(content)
    except UnsupportedFileError as error:
        raise UnsupportedFileError(f"{error}; .cai files start with {MAGIC!r}") from error


def read_coded(path: str | Path) -> CodedPicture | LegacyPicture:
    """Read a coded picture from a file.

    Raises:
        OSError: the file cannot be read.
        UnsupportedFileError, DamagedFileError: as :func:`parse_coded`.
    """
    return parse_coded(Path(path).read_bytes())
