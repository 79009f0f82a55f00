# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The size of the image inside an icon file, for which Pillow asks after it has the pixels.

The directory of an ICO or ICNS file says one size, the image that it leads to may have another.
"""

from __future__ import annotations

import io
from typing import IO

from PIL.BmpImagePlugin import DibImageFile
from PIL.IcnsImagePlugin import IcnsFile
from PIL.IcoImagePlugin import IcoFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.PngImagePlugin import PngImageFile

__all__ = ["icon_size"]

_ICO, _ICNS, _PNG = b"\0\0\1\0", b"icns", b"\x89PNG\r\n\x1a\n"


def icon_size(file: IO[bytes]) -> tuple[int, int] | None:
    """Width and height by the header of the image that Pillow takes from an icon file.

    Args:
        file: of any kind, and able to seek; it is left at its start.

    Returns:
        ``None`` for files of other kinds, for images that are as large as the directory says by
        their kind, and where Pillow will find what is wrong.
    """
    file.seek(0)
    magic = file.read(4)
    file.seek(0)
    try:
        if magic == _ICO:
            return _size_in_ico(file)
        return _size_in_icns(file) if magic == _ICNS else None
    # Pillow's parsers fail in as many ways as a damaged or hostile file can be written.
    except Exception:
        return None
    finally:
        file.seek(0)


def _size_in_ico(file: IO[bytes]) -> tuple[int, int]:
    start = IcoFile(file).entry[0].offset
    if _has_png(file, start):
        return PngImageFile(file).size
    image = DibImageFile(file)
    return image.width, image.height // 2  # the mask is below the image


def _size_in_icns(file: IO[bytes]) -> tuple[int, int] | None:
    icons = IcnsFile(file)
    for code, _ in icons.SIZES[icons.bestsize()]:
        start, length = icons.dct.get(code, (0, 0))
        if not code.startswith(b"ic") or not length:
            continue  # not there, or without a header
        if _has_png(file, start):
            return PngImageFile(file).size
        return Jpeg2KImageFile(io.BytesIO(file.read(length))).size
    return None


def _has_png(file: IO[bytes], start: int) -> bool:
    """Whether a PNG file begins there, to which the file is left pointing."""
    file.seek(start)
    found = file.read(len(_PNG)) == _PNG
    file.seek(start)
    return found
