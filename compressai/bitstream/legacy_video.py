# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Video files of ``examples/codec.py`` as CompressAI 1.2 wrote them (customarily ``*.bin``).

Layout, big-endian: the first 11 bytes are those of :mod:`compressai.bitstream.legacy`; then 4 bytes
of number of frames; then for the first frame one body (latent size, number of strings, strings
after their lengths), and for each other frame two: motion and residual. The files that
``compressai.utils.video.eval_model`` makes lack the first two bytes.

The network got a frame in the centre of one whose sides are multiples of 128, filled up with zeros.
A frame is predicted from the decoded one before, clamped to [0, 1]. The format does not hold the
planes of the source, which were 4:2:0, nor its frame rate.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from compressai.bitstream.errors import (
    ImpossibleHeaderError,
    NotACodedImageError,
    TruncatedFileError,
)
from compressai.bitstream.legacy import METRICS, MODEL_IDS, read_body, write_body
from compressai.bitstream.video_container import CodedFrame, VideoHeader, VideoReader
from compressai.datasets import VideoFormat
from compressai.datasets.rawvideo import bitdepth_to_dtype

__all__ = ["LEGACY_MULTIPLE", "LegacyVideoReader", "write_legacy_frame", "write_legacy_start"]

LEGACY_MULTIPLE = 128
VIDEO_MODEL = "ssf2020"

_NAMES = struct.Struct(">BB")
_START = struct.Struct(">IIBI")


class LegacyVideoReader(VideoReader):
    """Reads such a file.

    Args:
        file: binary file, at its start.
        names: ``(metric, quality)`` of a file that lacks the first two bytes.

    Raises:
        UnsupportedFileError: no such file.
        DamagedFileError: truncated, or impossible.
    """

    def __init__(self, file: BinaryIO, names: tuple[str, int] | None = None) -> None:
        if names is None:
            start = file.read(_NAMES.size)
            if len(start) < _NAMES.size or start[0] != MODEL_IDS.index(VIDEO_MODEL):
                raise NotACodedImageError(f"this is no coded video: it starts with {start!r}")
            if start[1] >> 4 >= len(METRICS):
                raise ImpossibleHeaderError(f"impossible header: metric {start[1] >> 4}")
            names = (METRICS[start[1] >> 4], (start[1] & 15) + 1)
        start = file.read(_START.size)
        if len(start) < _START.size:
            raise TruncatedFileError("the file is truncated: it ends within its header")
        height, width, bitdepth, frames = _START.unpack(start)
        if not height or not width or not frames or bitdepth not in bitdepth_to_dtype:
            raise ImpossibleHeaderError(
                f"impossible header: {frames} frames of {width} x {height}, {bitdepth} bits"
            )
        self._size = (-(-height // LEGACY_MULTIPLE), -(-width // LEGACY_MULTIPLE))
        header = VideoHeader(
            model=VIDEO_MODEL,
            quality=names[1],
            metric=names[0],
            random_weights=False,
            fingerprint=b"",
            width=width,
            height=height,
            format=VideoFormat.YUV420,
            bitdepth=bitdepth,
            framerate=None,
            frames=frames,
            version=0,
            centred=LEGACY_MULTIPLE,
        )
        super().__init__(file, header)

    def read(self, number: int) -> CodedFrame:
        parts = tuple(self._part(number) for _ in range(2 if number else 1))
        return CodedFrame(number == 0, parts)

    def _part(self, number: int) -> tuple[bytes, ...]:
        try:
            strings, size = read_body(self._file)
        except TruncatedFileError as error:
            raise TruncatedFileError(f"frame {number}: {error}") from error
        if size != self._size or len(strings) != 2:
            # Nothing tells where the next frame begins, so this one ends the file.
            raise TruncatedFileError(
                f"frame {number} has a latent of size {size} and {len(strings)} strings, the "
                f"video has {self._size} and 2: the file is damaged"
            )
        return tuple(string for (string,) in strings)


def write_legacy_start(file: BinaryIO, height: int, width: int, bitdepth: int, frames: int) -> int:
    """Write what comes after the first two bytes and before the first frame.

    Returns:
        Number of bytes written.
    """
    return file.write(_START.pack(height, width, bitdepth, frames))


def write_legacy_frame(file: BinaryIO, frame: CodedFrame, height: int, width: int) -> int:
    """Write a frame.

    Args:
        file: binary file.
        frame: the strings.
        height, width: size of the video in pixels.

    Returns:
        Number of bytes written.
    """
    size = (-(-height // LEGACY_MULTIPLE), -(-width // LEGACY_MULTIPLE))
    return sum(write_body(file, size, [[string] for string in part]) for part in frame.parts)
