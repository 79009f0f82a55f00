# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image files of ``examples/codec.py`` as CompressAI 1.2 wrote them (customarily ``*.bin``).

Layout, big-endian, without magic number, version, checksum or lengths:

======  =========================================================================
bytes   field
======  =========================================================================
1       model: place in :data:`MODEL_IDS`
1       metric (place in :data:`METRICS`) * 16 + quality - 1
4       height of the picture
4       width of the picture
1       bits per sample of the source, 8 for pictures
4, 4    height and width of the latent that ``compress`` of the model gives as ``shape``
4       number of strings, then for each string 4 bytes of length and the bytes
======  =========================================================================

The network got the picture in the centre of one whose sides are multiples of 64, filled up with
zeros. Nothing tells which weights were used but the names of model, metric and quality.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar

from compressai.bitstream._fields import take
from compressai.bitstream.container import CodedTile
from compressai.bitstream.errors import (
    DamagedFileError,
    ImpossibleHeaderError,
    NotACodedPictureError,
    TruncatedFileError,
    UnsupportedFileError,
)
from compressai.bitstream.tiling import Tiling

__all__ = [
    "METRICS",
    "MODEL_IDS",
    "PADDING_MULTIPLE",
    "LegacyPicture",
    "announced_size_0",
    "read_body",
    "write_body",
]

MODEL_IDS = (
    "bmshj2018-factorized",
    "bmshj2018-factorized-relu",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "mbt2018",
    "cheng2020-anchor",
    "cheng2020-attn",
    "bmshj2018-hyperprior-vbr",
    "mbt2018-mean-vbr",
    "mbt2018-vbr",
    "hrtzxf2022-pcc-rec",
    "sfu2023-pcc-rec-pointnet",
    "sfu2024-pcc-rec-pointnet2-ssg",
    "ssf2020",
)
METRICS = ("mse", "ms-ssim")
PADDING_MULTIPLE = 64

_NOT_PICTURES = {
    "hrtzxf2022-pcc-rec": "a point cloud",
    "sfu2023-pcc-rec-pointnet": "a point cloud",
    "sfu2024-pcc-rec-pointnet2-ssg": "a point cloud",
    "ssf2020": "a video",
}
_HEADER = struct.Struct(">BBIIB")
_BODY = struct.Struct(">III")
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class LegacyPicture:
    """A coded picture of the old format, as it lies in a file.

    Attributes:
        model: name in :data:`MODEL_IDS`.
        metric: what the weights were trained for, ``"mse"`` or ``"ms-ssim"``.
        quality: quality in the zoo, 1 to 16.
        width, height: size of the picture in pixels.
        shape: height and width of the smallest latent.
        strings: the strings of one picture, one for each coding step.
        bit_depth: bits per sample of the source.
        mode, source_mode, alpha, icc, exif, random_weights, fingerprint, tile_size, tile_overlap,
            sync_safe, version, damage: as in :class:`~compressai.bitstream.CodedPicture`; the
            format does not hold them, so they are the same for all files: ``RGB``, no alpha plane
            or metadata, weights of the zoo, no fingerprint, one tile, version 0.
    """

    model: str
    metric: str
    quality: int
    width: int
    height: int
    shape: tuple[int, int]
    strings: tuple[bytes, ...]
    bit_depth: int = 8

    mode: ClassVar[str] = "RGB"
    alpha: ClassVar[bytes] = b""
    source_mode: ClassVar[str] = "RGB"
    icc: ClassVar[bytes] = b""
    exif: ClassVar[bytes] = b""
    random_weights: ClassVar[bool] = False
    fingerprint: ClassVar[bytes] = b""
    tile_size: ClassVar[int] = 0
    tile_overlap: ClassVar[int] = 0
    sync_safe: ClassVar[bool] = False
    version: ClassVar[int] = 0
    damage: ClassVar[tuple[str, ...]] = ()

    @property
    def tiles(self) -> tuple[CodedTile, ...]:
        """The whole picture as one tile."""
        return (CodedTile(self.strings),)

    @property
    def tiling(self) -> Tiling:
        """Of one tile."""
        return Tiling(self.width, self.height)

    def to_bytes(self) -> bytes:
        """The file's content.

        Raises:
            ValueError: a field does not fit the format.
        """
        if self.model not in MODEL_IDS or self.model in _NOT_PICTURES:
            raise ValueError(f"model must be an image model of {MODEL_IDS}, got {self.model!r}")
        if self.metric not in METRICS:
            raise ValueError(f"metric must be one of {METRICS}, got {self.metric!r}")
        if not 1 <= self.quality <= 16:
            raise ValueError(f"quality must be in 1 ... 16, got {self.quality}")
        model = MODEL_IDS.index(self.model)
        code = METRICS.index(self.metric) << 4 | self.quality - 1
        file = io.BytesIO()
        try:
            file.write(_HEADER.pack(model, code, self.height, self.width, self.bit_depth))
            write_body(file, self.shape, [[string] for string in self.strings])
        except struct.error as error:
            raise ValueError(f"a size does not fit the format ({error}): {self}") from error
        return file.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> LegacyPicture:
        """Read a file's content.

        Raises:
            UnsupportedFileError: no such file, or one of a video or point cloud.
            DamagedFileError: truncated, or impossible.
        """
        if len(content) < 2 or content[0] >= len(MODEL_IDS) or content[1] >> 4 >= len(METRICS):
            raise NotACodedPictureError(
                f"this is no coded picture: it starts with {bytes(content[:4])!r}"
            )
        model = MODEL_IDS[content[0]]
        if model in _NOT_PICTURES:
            raise UnsupportedFileError(
                f"the file seems to be {_NOT_PICTURES[model]} coded with {model}, no picture"
            )
        if len(content) < _HEADER.size:
            raise TruncatedFileError(f"the file is truncated: it has only {len(content)} bytes")
        _, code, height, width, bit_depth = _HEADER.unpack_from(content)
        file = io.BytesIO(content)
        file.seek(_HEADER.size)
        strings, shape = read_body(file)
        if file.tell() != len(content):
            raise DamagedFileError(
                f"{len(content) - file.tell()} bytes too many at the end of the file: it was "
                "changed, or is no coded picture"
            )
        if not width or not height or not bit_depth:
            raise ImpossibleHeaderError(
                f"impossible header: size {width} x {height}, {bit_depth} bits per sample"
            )
        return cls(
            model=model,
            metric=METRICS[code >> 4],
            quality=(code & 15) + 1,
            width=width,
            height=height,
            shape=shape,
            strings=tuple(string for (string,) in strings),
            bit_depth=bit_depth,
        )


def announced_size_0(start: bytes) -> tuple[int, int]:
    """Width and height of the picture, by the first eleven bytes; 0 where it cannot be one."""
    if len(start) < _HEADER.size or start[0] >= len(MODEL_IDS) or start[1] >> 4 >= len(METRICS):
        return 0, 0
    _, _, height, width, _ = _HEADER.unpack_from(start)
    return width, height


def read_body(file: BinaryIO) -> tuple[list[list[bytes]], tuple[int, int]]:
    """Read latent size and strings, the part that follows the header.

    Args:
        file: binary file, at the start of the part; afterwards at its end.

    Returns:
        ``(strings, shape)`` as ``decompress`` of a model takes them.

    Raises:
        DamagedFileError: the file ends within.
    """
    height, width, count = _BODY.unpack(take(file, _BODY.size))
    strings = []
    for _ in range(count):
        (length,) = _LENGTH.unpack(take(file, _LENGTH.size))
        strings.append([take(file, length)])
    return strings, (height, width)


def write_body(file: BinaryIO, shape: Sequence[int], strings: Sequence[Sequence[bytes]]) -> int:
    """Write latent size and strings.

    Args:
        file: binary file.
        shape, strings: as ``compress`` of a model gives them, for a batch of one.

    Returns:
        Number of bytes written.
    """
    parts = [_BODY.pack(*shape, len(strings))]
    for (string,) in strings:
        parts += (_LENGTH.pack(len(string)), string)
    return file.write(b"".join(parts))
