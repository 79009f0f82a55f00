# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded pictures of all formats from files, and to them."""

from __future__ import annotations

from pathlib import Path

from compressai._files import atomic_write
from compressai.bitstream.container import MAGIC, CodedPicture
from compressai.bitstream.errors import NotACodedPictureError
from compressai.bitstream.legacy import LegacyPicture

__all__ = ["parse_coded", "read_coded", "write_coded"]


def parse_coded(content: bytes, *, best_effort: bool = False) -> CodedPicture | LegacyPicture:
    """Read a coded picture from the content of a file, ``.cai`` or of CompressAI 1.2.

    The formats cannot be confused: the old one begins with a number below 14.

    Args:
        content: the whole file.
        best_effort: go on where a part of a ``.cai`` file is damaged, see
            :meth:`CodedPicture.from_bytes`; the old format has nothing to tell damage by.

    Raises:
        UnsupportedFileError: it is of neither format, of a later version, or no picture.
        DamagedFileError: truncated or changed.
    """
    content = bytes(content)
    if not content or content[:1] == MAGIC[:1]:
        return CodedPicture.from_bytes(content, best_effort=best_effort)
    try:
        return LegacyPicture.from_bytes(content)
    except NotACodedPictureError as error:
        raise NotACodedPictureError(f"{error}; .cai files start with {MAGIC!r}") from error


def read_coded(path: str | Path, *, best_effort: bool = False) -> CodedPicture | LegacyPicture:
    """Read a coded picture from a file.

    Args:
        path: the file.
        best_effort: as in :func:`parse_coded`.

    Raises:
        OSError: the file cannot be read.
        UnsupportedFileError, DamagedFileError: as :func:`parse_coded`.
    """
    return parse_coded(Path(path).read_bytes(), best_effort=best_effort)


def write_coded(coded: CodedPicture | LegacyPicture, path: str | Path) -> int:
    """Write a coded picture to a file, at once or not at all.

    Args:
        coded: the picture.
        path: the file; replaced if it exists.

    Returns:
        Number of bytes.

    Raises:
        OSError: the file cannot be written.
        ValueError: a field does not fit the format.
    """
    content = coded.to_bytes()
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    return len(content)
