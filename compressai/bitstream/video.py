# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``.cav`` file: a coded video, frame by frame, and all that is needed to know about it.

Layout, version 1, little-endian. ``text`` is one byte of length and printable UTF-8.

===========  ==========================================================================
bytes        field
===========  ==========================================================================
4            magic ``93 43 41 56`` (``\\x93CAV``)
1            version, 1
1            flags: bit 0 = random weights (no trained ones were at hand); the others are
             0, and a reader refuses a file with a flag that it does not know
2            length of the rest of the header, without its checksum, H
text         model: a name of ``compressai.zoo``, of the registry, or ``module.Class``
1            quality, 0 = not one of the zoo's (weights from a checkpoint)
1            metric: 0 = mse, 1 = ms-ssim, 255 = unknown
8            fingerprint of the weights, see :func:`compressai.bitstream.fingerprint`
4, 4         width and height of a frame in pixels
1            planes of a frame: 0 = 4:0:0, 1 = 4:2:0, 2 = 4:2:2, 3 = 4:4:4, 4 = RGB
1            bits of a sample: 8, 10, 12, 14 or 16
4, 4         numerator and denominator of the frame rate; numerator 0 = unknown
4            number of frames
4            distance between key frames, 0 = only the first frame is one
(to H)       for later use: writers leave it out, readers skip it
4            CRC-32C of all bytes before
===========  ==========================================================================

Then comes one record for each frame:

===========  ==========================================================================
bytes        field
===========  ==========================================================================
4            length of the strings, L
1            kind: 0 = key frame, 1 = predicted from the frame before
L            strings, each after its length (4 bytes): of a key frame, y and z; of a
             predicted one, y and z of the motion, then y and z of the residual
4            CRC-32C of the number of the frame (4 bytes, from 0) and of all of the record
             before
===========  ==========================================================================

The network got a frame in the upper left corner of one whose sides are the next multiples of what
the model asks for, with the last row and column repeated. A frame is predicted from the decoded
one before, clamped to [0, 1].

Files are read and written a frame at a time. Whatever a file holds, reading it takes memory in
proportion to its length, and ends in frames or a :class:`BitstreamError`.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, NamedTuple

import google_crc32c

from compressai.bitstream._fields import METRIC_CODES, METRICS, FieldReader, take, text
from compressai.bitstream.errors import (
    ChecksumError,
    DamagedFileError,
    ImpossibleHeaderError,
    NotACodedPictureError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from compressai.datasets import VideoFormat
from compressai.datasets.rawvideo import bitdepth_to_dtype

__all__ = ["VIDEO_MAGIC", "CodedFrame", "VideoHeader", "VideoReader", "VideoWriter"]

VIDEO_MAGIC = b"\x93CAV"
VERSION = 1

_FORMATS = tuple(VideoFormat)
_RANDOM_WEIGHTS = 1
_FIXED = struct.Struct("<4sBBH")
_FIELDS = struct.Struct("<BB8sIIBBIIII")
_RECORD = struct.Struct("<IB")
_NUMBER = struct.Struct("<I")
# Strings of a frame: of its one part, or of motion and residual.
STRINGS_OF_PART = 2
PARTS_OF_KIND = (1, 2)


class CodedFrame(NamedTuple):
    """The strings of one frame.

    Attributes:
        is_key: whether it can be decoded without the frame before.
        parts: the strings ``(y, z)`` of the frame, or of its motion and of its residual.
    """

    is_key: bool
    parts: tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True)
class VideoHeader:
    """What a coded video says about itself.

    Attributes:
        model, quality, metric, random_weights, fingerprint: as in
            :class:`~compressai.bitstream.CodedPicture`.
        width, height: size of a frame in pixels.
        format: planes of the source.
        bitdepth: bits of its samples.
        framerate: frames per second, or ``None`` if unknown.
        frames: number of frames.
        gop: distance between key frames, 0 if only the first frame is one.
    """

    model: str
    quality: int | None
    metric: str | None
    random_weights: bool
    fingerprint: bytes
    width: int
    height: int
    format: VideoFormat
    bitdepth: int
    framerate: Fraction | None
    frames: int
    gop: int = 0

    def to_bytes(self) -> bytes:
        """The start of a file.

        Raises:
            ValueError: a field does not fit the format.
        """
        if self.bitdepth not in bitdepth_to_dtype:
            raise ValueError(
                f"bitdepth must be one of {list(bitdepth_to_dtype)}, got {self.bitdepth}"
            )
        if self.metric not in METRIC_CODES:
            raise ValueError(f"metric must be one of {list(METRIC_CODES)}, got {self.metric!r}")
        if self.width < 1 or self.height < 1 or self.frames < 1:
            raise ValueError(
                f"a video must have frames with pixels, got {self.frames} of {self.width} x "
                f"{self.height}"
            )
        rate = Fraction(self.framerate or 0)
        try:
            fields = _FIELDS.pack(
                self.quality or 0,
                METRIC_CODES[self.metric],
                self.fingerprint,
                self.width,
                self.height,
                _FORMATS.index(self.format),
                self.bitdepth,
                rate.numerator,
                rate.denominator,
                self.frames,
                self.gop,
            )
        except struct.error as error:
            raise ValueError(f"a number does not fit the format ({error}): {self}") from error
        header = text(self.model) + fields
        flags = _RANDOM_WEIGHTS if self.random_weights else 0
        content = _FIXED.pack(VIDEO_MAGIC, VERSION, flags, len(header)) + header
        return content + _NUMBER.pack(google_crc32c.value(content))

    @classmethod
    def read(cls, file: BinaryIO) -> VideoHeader:
        """Read the start of a file.

        Raises:
            UnsupportedFileError: no ``.cav`` file, or of a later version.
            DamagedFileError: truncated or changed.
        """
        start = file.read(_FIXED.size)
        if start[:4] != VIDEO_MAGIC[: len(start)]:
            raise NotACodedPictureError(
                f"this is no .cav file: it starts with {start[:4]!r}, not {VIDEO_MAGIC!r}"
            )
        if len(start) < _FIXED.size:
            raise TruncatedFileError(f"the file is truncated: it has only {len(start)} bytes")
        _, version, flags, length = _FIXED.unpack(start)
        if version != VERSION:
            raise UnsupportedVersionError(
                f"the file has format version {version}, this program reads {VERSION}: update it"
            )
        header = take(file, length)
        if _NUMBER.pack(google_crc32c.value(start + header)) != take(file, _NUMBER.size):
            raise ChecksumError("the header was changed: its checksum does not match")
        if flags & ~_RANDOM_WEIGHTS:
            raise UnsupportedVersionError(
                f"the file uses features (flags {flags:#04x}) that this program does not know: "
                "update it"
            )
        return cls._parse(header, bool(flags & _RANDOM_WEIGHTS))

    @classmethod
    def _parse(cls, header: bytes, random_weights: bool) -> VideoHeader:
        reader = FieldReader(memoryview(header))
        model = reader.text()
        quality, metric, fingerprint, width, height, format, bitdepth, *rate, frames, gop = (
            _FIELDS.unpack(reader.take(_FIELDS.size))
        )
        if (
            metric not in METRICS
            or format >= len(_FORMATS)
            or bitdepth not in bitdepth_to_dtype
            or not all((width, height, rate[1], frames))
        ):
            raise ImpossibleHeaderError(
                f"impossible header: {frames} frames of {width} x {height}, planes {format}, "
                f"{bitdepth} bits, rate {rate[0]}/{rate[1]}, metric {metric}"
            )
        return cls(
            model=model,
            quality=quality or None,
            metric=METRICS[metric],
            random_weights=random_weights,
            fingerprint=fingerprint,
            width=width,
            height=height,
            format=_FORMATS[format],
            bitdepth=bitdepth,
            framerate=Fraction(*rate) or None,
            frames=frames,
            gop=gop,
        )


class VideoWriter:
    """Writes a ``.cav`` file, a frame at a time.

    Args:
        file: binary file.
        header: what comes first.
    """

    def __init__(self, file: BinaryIO, header: VideoHeader) -> None:
        self._file = file
        self._number = 0
        file.write(header.to_bytes())

    def write(self, frame: CodedFrame) -> None:
        """Write the next frame."""
        strings = b"".join(
            _NUMBER.pack(len(string)) + string for part in frame.parts for string in part
        )
        record = _RECORD.pack(len(strings), not frame.is_key) + strings
        crc = google_crc32c.value(_NUMBER.pack(self._number) + record)
        self._file.write(record + _NUMBER.pack(crc))
        self._number += 1


class VideoReader(ABC):
    """A coded video that is read a frame at a time; a context manager that closes its file.

    Args:
        file: binary file.
        header: what the file says about itself.

    Attributes:
        header: as given.
    """

    def __init__(self, file: BinaryIO, header: VideoHeader) -> None:
        self._file = file
        self.header = header

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def read(self, number: int) -> CodedFrame:
        """The next frame.

        Args:
            number: which one it has to be, from 0.

        Raises:
            DamagedFileError: it was changed; the frame after it can be read.
            TruncatedFileError: the file ends within, there is nothing more to read.
        """


class CavReader(VideoReader):
    """Reads a ``.cav`` file.

    Args:
        file: binary file, at its start.

    Raises:
        UnsupportedFileError, DamagedFileError: as :meth:`VideoHeader.read`.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, VideoHeader.read(file))

    def read(self, number: int) -> CodedFrame:
        start = take(self._file, _RECORD.size)
        length, kind = _RECORD.unpack(start)
        strings = take(self._file, length)
        crc = google_crc32c.value(_NUMBER.pack(number) + start + strings)
        if take(self._file, _NUMBER.size) != _NUMBER.pack(crc):
            raise ChecksumError(f"frame {number} was changed: its checksum does not match")
        if kind >= len(PARTS_OF_KIND):
            raise DamagedFileError(f"frame {number} is of the unknown kind {kind}")
        found = _split(strings, number)
        if len(found) != STRINGS_OF_PART * PARTS_OF_KIND[kind]:
            raise DamagedFileError(f"frame {number} has {len(found)} strings")
        parts = tuple(
            tuple(found[i : i + STRINGS_OF_PART]) for i in range(0, len(found), STRINGS_OF_PART)
        )
        return CodedFrame(kind == 0, parts)


def _split(strings: bytes, number: int) -> Sequence[bytes]:
    found, position = [], 0
    while position < len(strings):
        start = position + _NUMBER.size
        if start > len(strings):
            raise DamagedFileError(f"the strings of frame {number} do not fit their lengths")
        position = start + _NUMBER.unpack_from(strings, position)[0]
        if position > len(strings):
            raise DamagedFileError(f"the strings of frame {number} do not fit their lengths")
        found.append(strings[start:position])
    return found
