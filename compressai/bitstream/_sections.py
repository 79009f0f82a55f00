# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Sections of a ``.cai`` file of version 2, and the checksums behind these and the header."""

from __future__ import annotations

import struct

import google_crc32c

from compressai.bitstream._fields import FieldReader
from compressai.bitstream.errors import ChecksumError, TruncatedFileError

__all__ = [
    "ALPHA",
    "CRC",
    "EXIF",
    "ICC",
    "SECTION_NAMES",
    "TILE",
    "Sections",
    "check_sum",
    "checksum",
    "place_of",
]

TILE, ALPHA, ICC, EXIF = range(4)
CRC = struct.Struct("<I")
_NUMBER = struct.Struct("<I")


class Sections:
    """Takes the sections of a file one after the other, and checks their sums.

    ``head_sum`` is what their sums cover besides; empty if they cover nothing else.
    """

    def __init__(
        self,
        file: FieldReader,
        directory: list[tuple[int, int]],
        head_sum: bytes,
        best_effort: bool,
    ) -> None:
        total = sum(length + CRC.size for _, length in directory)
        if total > file.left and not best_effort:
            raise TruncatedFileError(
                f"the file is truncated: {total} bytes are announced behind the header, "
                f"{file.left} are there; get it again"
            )
        self._file = file
        self._head_sum = head_sum
        self._names = [
            f"section {place} ({SECTION_NAMES.get(kind, f'kind {kind}')})"
            for place, (kind, _) in enumerate(directory)
        ]
        self._lengths = [length for _, length in directory]
        self._number = 0
        self._best_effort = best_effort

    def next(self) -> tuple[bytes, str]:
        """The bytes of the next section as far as they are there, and what is wrong with it."""
        number, self._number = self._number, self._number + 1
        name, length = self._names[number], self._lengths[number]
        if length + CRC.size > self._file.left:
            section = bytes(self._file.take(self._file.left))[:length]
            return section, f"{name} is missing or cut: the file is truncated"
        section = bytes(self._file.take(length))
        place = place_of(self._head_sum, number) if self._head_sum else b""
        try:
            check_sum(self._file, section, name, place)
        except ChecksumError as error:
            if not self._best_effort:
                raise
            return section, str(error)
        return section, ""


SECTION_NAMES = {TILE: "a tile", ALPHA: "the alpha plane", ICC: "the ICC profile", EXIF: "EXIF"}


def checksum(content: bytes, place: bytes = b"") -> bytes:
    return CRC.pack(google_crc32c.extend(google_crc32c.value(place), content))


def place_of(head_sum: bytes, number: int) -> bytes:
    """What the checksum of a section covers before its bytes."""
    return head_sum + _NUMBER.pack(number)


def check_sum(file: FieldReader, content: bytes, name: str, place: bytes = b"") -> bytes:
    """The checksum that follows, if it is that of the content."""
    found = bytes(file.take(CRC.size))
    if found != checksum(content, place):
        raise ChecksumError(f"{name} was changed: its checksum does not match; get the file again")
    return found
