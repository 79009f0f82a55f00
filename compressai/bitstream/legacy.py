# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image files of ``examples/codec.py`` as CompressAI 1.2 wrote them (customarily ``*.bin``).

Layout, big-endian, without magic number, version, checksum or lengths:

======  =========================================================================
bytes   field
======  =========================================================================
1       model: place in :data:`MODEL_IDS`
1       metric (place in :data:`METRICS`) * 16 + quality - 1
4       height of the image
4       width of the image
1       bits per sample of the source, 8 for images
4, 4    height and width of the latent that ``compress`` of the model gives as ``shape``
4       number of strings, then for each string 4 bytes of length and the bytes
======  =========================================================================

The network got the image in the centre of one whose sides are multiples of 64, filled up with
zeros. Nothing tells which weights were used but the names of model, metric and quality.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import BinaryIO

from compressai.bitstream._fields import take
from compressai.bitstream.container import CodedImage, CodedTile
from compressai.bitstream.errors import (
    DamagedFileError,
    ImpossibleHeaderError,
    NotACodedImageError,
    TruncatedFileError,
    UnsupportedFileError,
)

__all__ = [
    "METRICS",
    "MODEL_IDS",
    "PADDING_MULTIPLE",
    "announced_size_0",
    "read_body",
    "read_version_0",
    "write_body",
    "write_version_0",
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

_BIT_DEPTH = 8  # of images

_NOT_IMAGES = {
    "hrtzxf2022-pcc-rec": "a point cloud",
    "sfu2023-pcc-rec-pointnet": "a point cloud",
    "sfu2024-pcc-rec-pointnet2-ssg": "a point cloud",
    "ssf2020": "a video",
}
_HEADER = struct.Struct(">BBIIB")
_BODY = struct.Struct(">III")
_LENGTH = struct.Struct(">I")


def read_version_0(content: bytes) -> CodedImage:
    """Read a file's content.

    Returns:
        An image of version 0: ``RGB``, of one tile, with weights of the zoo.

    Raises:
        UnsupportedFileError: no such file, or one of a video or point cloud.
        DamagedFileError: truncated, or impossible.
    """
    if len(content) < 2 or content[0] >= len(MODEL_IDS) or content[1] >> 4 >= len(METRICS):
        raise NotACodedImageError(f"this is no coded image: it starts with {bytes(content[:4])!r}")
    model = MODEL_IDS[content[0]]
    if model in _NOT_IMAGES:
        raise UnsupportedFileError(
            f"the file seems to be {_NOT_IMAGES[model]} coded with {model}, no image"
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
            "changed, or is no coded image"
        )
    if not width or not height or not bit_depth:
        raise ImpossibleHeaderError(
            f"impossible header: size {width} x {height}, {bit_depth} bits per sample"
        )
    return CodedImage(
        model=model,
        metric=METRICS[code >> 4],
        quality=(code & 15) + 1,
        random_weights=False,
        fingerprint=b"",
        width=width,
        height=height,
        mode="RGB",
        source_mode="RGB",
        tiles=(CodedTile(tuple(string for (string,) in strings)),),
        version=0,
        shape=shape,
        centred=PADDING_MULTIPLE,
    )


def write_version_0(coded: CodedImage) -> bytes:
    """The content of a file, of an image that :func:`read_version_0` can give.

    Raises:
        ValueError: a field does not fit the format.
    """
    if coded.model not in MODEL_IDS or coded.model in _NOT_IMAGES:
        raise ValueError(f"model must be an image model of {MODEL_IDS}, got {coded.model!r}")
    if coded.metric not in METRICS:
        raise ValueError(f"metric must be one of {METRICS}, got {coded.metric!r}")
    if coded.quality is None or not 1 <= coded.quality <= 16:
        raise ValueError(f"quality must be in 1 ... 16, got {coded.quality}")
    if coded.centred != PADDING_MULTIPLE or len(coded.tiles) != 1 or coded.mode != "RGB":
        raise ValueError("the old format holds RGB in one tile, in the centre of multiples of 64")
    code = METRICS.index(coded.metric) << 4 | coded.quality - 1
    file = io.BytesIO()
    try:
        file.write(
            _HEADER.pack(MODEL_IDS.index(coded.model), code, coded.height, coded.width, _BIT_DEPTH)
        )
        write_body(file, coded.shape, [[string] for string in coded.strings])
    except struct.error as error:
        raise ValueError(f"a size does not fit the format ({error}): {coded}") from error
    return file.getvalue()


def announced_size_0(start: bytes) -> tuple[int, int]:
    """Width and height of the image, by the first eleven bytes; 0 where it cannot be one."""
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
