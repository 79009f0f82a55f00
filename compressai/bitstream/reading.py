# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded images of all formats from files, and to them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import BinaryIO

from compressai._files import atomic_write, open_regular, read_up_to
from compressai.bitstream.container import MAGIC, CodedImage, announced_sizes, head_size
from compressai.bitstream.errors import DamagedFileError, NotACodedImageError, TooLargeError
from compressai.bitstream.legacy import announced_size_0, read_version_0
from compressai.bitstream.limits import MAX_PIXELS
from compressai.bitstream.version1 import announced_size_1

__all__ = ["parse_coded", "read_coded", "read_content", "write_coded"]

_START = 10
_MOST_OF_VERSION_1 = 2**16
# How much is read behind the end, to say how much too long a file is.
_SPARE = 2**16
# A latent that is not predicted at all takes some ten bytes a pixel, and few models need as many.
_BYTES_A_PIXEL = 64
# Of the limit, though: a file lies in memory twice while it is read.
_LIMIT_A_PIXEL = 4
# Colour profile and EXIF.
_BYTES_OF_EXTRAS = 2**26


def parse_coded(content: bytes, *, best_effort: bool = False) -> CodedImage:
    """Read a coded image from the content of a file, ``.cai`` or of CompressAI 1.2.

    The formats cannot be confused: the old one begins with a number below 14.

    Args:
        content: the whole file.
        best_effort: go on where a part of a ``.cai`` file is damaged, see
            :meth:`CodedImage.from_bytes`; the old format has nothing to tell damage by.

    Raises:
        UnsupportedFileError: it is of neither format, of a later version, or no image.
        DamagedFileError: truncated or changed.
    """
    content = bytes(content)
    if not content or content[:1] == MAGIC[:1]:
        return CodedImage.from_bytes(content, best_effort=best_effort)
    try:
        return read_version_0(content)
    except NotACodedImageError as error:
        raise NotACodedImageError(f"{error}; .cai files start with {MAGIC!r}") from error


def read_content(
    file: BinaryIO, *, best_effort: bool = False, max_pixels: int = MAX_PIXELS
) -> bytes:
    """The content of a file with a coded image, which is read no further than its header asks.

    What is no coded image is read for some kilobytes only, so that neither a device nor a file of
    another kind takes memory.

    Args:
        file: binary file, at its start; it need not end, nor be able to seek.
        best_effort: leave out what follows the image, instead of refusing it.
        max_pixels: a file that is too large for any image of so many pixels is refused.

    Returns:
        The whole file, for :func:`parse_coded`, which finds out whether it is damaged.

    Raises:
        OSError: the file cannot be read.
        TooLargeError: more bytes than ``max_pixels`` allows.
        DamagedFileError, UnsupportedFileError: as :func:`parse_coded`.
    """
    start = read_up_to(file, _START)
    if start[:5] == MAGIC + b"\2" and len(start) == _START:
        start += read_up_to(file, head_size(start) - _START)
        if len(start) < head_size(start):
            return start
        width, height, length = announced_sizes(start)
    elif start[:5] == MAGIC + b"\1":
        start += read_up_to(file, _MOST_OF_VERSION_1)
        with contextlib.suppress(DamagedFileError):  # which is told with all that is known
            width, height = announced_size_1(start)
            length = _most_bytes(width, height, max_pixels)
            return _bounded(file, start, length)
        return start
    elif start[:1] == MAGIC[:1]:
        return start
    else:
        start += read_up_to(file, 1)
        width, height = announced_size_0(start)
        if not width * height:
            return start + read_up_to(file, _SPARE)
        return _bounded(file, start, _most_bytes(width, height, max_pixels))
    most = _most_bytes(width, height, max_pixels)
    if length > most:
        raise TooLargeError(
            f"the file announces {length} bytes for an image of {width} x {height}, more than "
            f"the limit of {most}: raise max_pixels if there is enough memory"
        )
    content = start + read_up_to(file, length - len(start) + _SPARE)
    if len(content) == length + _SPARE:
        if not best_effort:
            raise DamagedFileError(
                f"{_SPARE} bytes and more too many at the end of the file; get it again"
            )
        content = content[:length]
    return content


def read_coded(
    source: str | Path | BinaryIO, *, best_effort: bool = False, max_pixels: int = MAX_PIXELS
) -> CodedImage:
    """Read a coded image from a file.

    The header comes first; the rest is read if it is one, and as long as it says.

    Args:
        source: path of a regular file, or binary file at its start.
        best_effort: as in :func:`parse_coded`.
        max_pixels: files that are too large for any image of so many pixels are refused.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is a pipe, a device or the like.
        UnsupportedFileError, DamagedFileError: as :func:`parse_coded`.
    """
    is_path = isinstance(source, (str, os.PathLike))
    with open_regular(source) if is_path else contextlib.nullcontext(source) as file:
        content = read_content(file, best_effort=best_effort, max_pixels=max_pixels)
    return parse_coded(content, best_effort=best_effort)


def _most_bytes(width: int, height: int, max_pixels: int) -> int:
    """How large a file with such an image can be."""
    return min(_BYTES_A_PIXEL * width * height, _LIMIT_A_PIXEL * max_pixels) + _BYTES_OF_EXTRAS


def _bounded(file: BinaryIO, start: bytes, most: int) -> bytes:
    content = start + read_up_to(file, most - len(start) + 1)
    if len(content) > most:
        raise TooLargeError(
            f"the file has more than {most} bytes, too many for its image: raise max_pixels if "
            "there is enough memory"
        )
    return content


def write_coded(coded: CodedImage, path: str | Path) -> int:
    """Write a coded image to a file, at once or not at all.

    Args:
        coded: the image.
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
