# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``.cav`` file: a coded video, frame by frame, and all that is needed to know about it.

Layout, version 2, little-endian. ``text`` is one byte of length and printable UTF-8.

===========  ==========================================================================
bytes        field
===========  ==========================================================================
4            magic ``93 43 41 56`` (``\\x93CAV``)
1            version, 2
1            flags: bit 0 = random weights (no trained ones were at hand); bit 1 =
             sync-safe strings; bit 2 = each record has a hash of its latents; bit 3 =
             each record has a sketch of its decoded frame; the others are 0, and a reader
             refuses a file with a flag that it does not know
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
4            length of the strings, L, at most 2**28
1            kind: 0 = key frame, 1 = predicted from the frame before
8            with flag 2, hash of the latents, see :func:`compressai.bitstream.hash_latent`:
             of ``y_hat``; of a predicted frame, of that of the motion and that of the
             residual behind it
8            with flag 3, sketch of the decoded frame, see
             :func:`compressai.bitstream.sketch_frame`
L            strings, each after its length (4 bytes): of a key frame, y and z; of a
             predicted one, y and z of the motion, then y and z of the residual
4            CRC-32C of the header's checksum (4 bytes), the number of the frame (4 bytes,
             from 0), and all of the record before: a record of another file, or of
             another place, does not fit
===========  ==========================================================================

Version 1, which is read for ever and not written any more, has flag 0 only, and the checksums of
its records do not cover that of the header.

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
    NotACodedImageError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from compressai.datasets import VideoFormat
from compressai.datasets.rawvideo import bitdepth_to_dtype

__all__ = ["VIDEO_MAGIC", "CodedFrame", "VideoHeader", "VideoReader", "VideoWriter"]

VIDEO_MAGIC = b"\x93CAV"
VERSION = 2

_FORMATS = tuple(VideoFormat)
_RANDOM_WEIGHTS, _SYNC_SAFE, _HASHES, _SKETCHES = 1, 2, 4, 8
_KNOWN_FLAGS = {1: _RANDOM_WEIGHTS, 2: _RANDOM_WEIGHTS | _SYNC_SAFE | _HASHES | _SKETCHES}
_CHECK_BYTES = 8
# A damaged or hostile length must not take memory: no codec needs as much for one frame.
_MAX_RECORD = 2**28
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
        latent_hash: 8 bytes, see :func:`compressai.bitstream.hash_latent`; empty if there is none.
        sketch: 8 bytes, see :func:`compressai.bitstream.sketch_frame`; empty if there is none.
    """

    is_key: bool
    parts: tuple[tuple[bytes, ...], ...]
    latent_hash: bytes = b""
    sketch: bytes = b""


@dataclass(frozen=True)
class VideoHeader:
    """What a coded video says about itself.

    Attributes:
        model, quality, metric, random_weights, fingerprint: as in
            :class:`~compressai.bitstream.CodedImage`.
        width, height: size of a frame in pixels.
        format: planes of the source.
        bitdepth: bits of its samples.
        framerate: frames per second, or ``None`` if unknown.
        frames: number of frames.
        gop: distance between key frames, 0 if only the first frame is one.
        sync_safe: the strings are those of a model's ``sync_safe=True``.
        hashes: frames have a ``latent_hash``.
        sketches: frames have a ``sketch``.
        version: of the format; 0 for files of CompressAI 1.2. Only 2 can be written.
        centred: as in :class:`~compressai.bitstream.CodedImage`.
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
    sync_safe: bool = False
    hashes: bool = False
    sketches: bool = False
    version: int = VERSION
    centred: int = 0

    def to_bytes(self) -> bytes:
        """The start of a file.

        Raises:
            ValueError: a field does not fit the format.
        """
        if self.version != VERSION:
            raise ValueError(f"version must be {VERSION} to be written, got {self.version}")
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
        flags = _RANDOM_WEIGHTS * self.random_weights | _SYNC_SAFE * self.sync_safe
        flags |= _HASHES * self.hashes | _SKETCHES * self.sketches
        content = _FIXED.pack(VIDEO_MAGIC, VERSION, flags, len(header)) + header
        return content + _NUMBER.pack(google_crc32c.value(content))

    @classmethod
    def read(cls, file: BinaryIO) -> VideoHeader:
        """Read the start of a file.

        Raises:
            UnsupportedFileError: no ``.cav`` file, or of a later version.
            DamagedFileError: truncated or changed.
        """
        return _read_start(file)[0]

    @classmethod
    def _parse(cls, header: bytes, flags: int, version: int) -> VideoHeader:
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
            random_weights=bool(flags & _RANDOM_WEIGHTS),
            fingerprint=fingerprint,
            width=width,
            height=height,
            format=_FORMATS[format],
            bitdepth=bitdepth,
            framerate=Fraction(*rate) or None,
            frames=frames,
            gop=gop,
            sync_safe=bool(flags & _SYNC_SAFE),
            hashes=bool(flags & _HASHES),
            sketches=bool(flags & _SKETCHES),
            version=version,
        )


def _read_start(file: BinaryIO) -> tuple[VideoHeader, bytes]:
    """The header, and what checksums of records cover besides the record and its number."""
    start = file.read(_FIXED.size)
    if start[:4] != VIDEO_MAGIC[: len(start)]:
        raise NotACodedImageError(
            f"this is no .cav file: it starts with {start[:4]!r}, not {VIDEO_MAGIC!r}"
        )
    if len(start) < _FIXED.size:
        raise TruncatedFileError(f"the file is truncated: it has only {len(start)} bytes")
    _, version, flags, length = _FIXED.unpack(start)
    if version not in _KNOWN_FLAGS:
        raise UnsupportedVersionError(
            f"the file has format version {version}, this program reads 1 to {VERSION}: update it"
        )
    header = take(file, length)
    head_sum = _checksum(start + header)
    if head_sum != take(file, _NUMBER.size):
        raise ChecksumError("the header was changed: its checksum does not match")
    if flags & ~_KNOWN_FLAGS[version]:
        raise UnsupportedVersionError(
            f"the file uses features (flags {flags:#04x}) that this program does not know: "
            "update it"
        )
    return VideoHeader._parse(header, flags, version), head_sum if version > 1 else b""


def _checksum(content: bytes) -> bytes:
    return _NUMBER.pack(google_crc32c.value(content))


class VideoWriter:
    """Writes a ``.cav`` file, a frame at a time.

    Args:
        file: binary file.
        header: what comes first.
    """

    def __init__(self, file: BinaryIO, header: VideoHeader) -> None:
        self._file = file
        self._number = 0
        self._header = header
        start = header.to_bytes()
        self._head_sum = start[-_NUMBER.size :]
        file.write(start)

    def write(self, frame: CodedFrame) -> None:
        """Write the next frame.

        Raises:
            ValueError: its hash or sketch is not what the header says, or it is too long.
        """
        checks = b""
        for name, value, wanted in (
            ("latent_hash", frame.latent_hash, self._header.hashes),
            ("sketch", frame.sketch, self._header.sketches),
        ):
            if len(value) != _CHECK_BYTES * wanted:
                raise ValueError(
                    f"{name} must have {_CHECK_BYTES * wanted} bytes in this file, got {len(value)}"
                )
            checks += value
        strings = b"".join(
            _NUMBER.pack(len(string)) + string for part in frame.parts for string in part
        )
        if len(strings) > _MAX_RECORD:
            raise ValueError(
                f"a frame must have at most {_MAX_RECORD} bytes of strings, got {len(strings)}"
            )
        record = _RECORD.pack(len(strings), not frame.is_key) + checks + strings
        place = self._head_sum + _NUMBER.pack(self._number)
        self._file.write(record + _checksum(place + record))
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
        header, self._head_sum = _read_start(file)
        super().__init__(file, header)
        self._checks = [_CHECK_BYTES * has for has in (header.hashes, header.sketches)]

    def read(self, number: int) -> CodedFrame:
        start = take(self._file, _RECORD.size)
        length, kind = _RECORD.unpack(start)
        if length > _MAX_RECORD:
            # Nothing tells where the next frame begins, so this one ends the file.
            raise TruncatedFileError(f"frame {number} announces {length} bytes, which is too many")
        checks = [take(self._file, size) for size in self._checks]
        strings = take(self._file, length)
        place = self._head_sum + _NUMBER.pack(number)
        if take(self._file, _NUMBER.size) != _checksum(b"".join((place, start, *checks, strings))):
            raise ChecksumError(
                f"frame {number} was changed, or is of another place or file: its checksum does "
                "not match"
            )
        if kind >= len(PARTS_OF_KIND):
            raise DamagedFileError(f"frame {number} is of the unknown kind {kind}")
        found = _split(strings, number)
        if len(found) != STRINGS_OF_PART * PARTS_OF_KIND[kind]:
            raise DamagedFileError(f"frame {number} has {len(found)} strings")
        parts = tuple(
            tuple(found[i : i + STRINGS_OF_PART]) for i in range(0, len(found), STRINGS_OF_PART)
        )
        return CodedFrame(kind == 0, parts, *checks)


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
