# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Version 1 of the ``.cai`` file, which is read for ever and not written any more.

Layout, little-endian; ``text`` and ``varint`` as in version 2.

===========  ==========================================================================
bytes        field
===========  ==========================================================================
4            magic ``93 43 41 49`` (``\\x93CAI``)
1            version, 1
1            flags: bit 0 = random weights; the others are 0, and a reader refuses a file
             with a flag that it does not know
2            length of the rest of the header, H
text         model
1            quality, 0 = none
1            metric: 0 = mse, 1 = ms-ssim, 255 = unknown
8            fingerprint of the weights, as :func:`compressai.bitstream.fingerprint`
             computes it for version 1
varint       width of the image
varint       height of the image
text         colour mode of the image, one of ``L``, ``LA``, ``RGB``, ``RGBA``
tree         ``shape`` as the model's ``compress`` gave it, see below
(to H)       readers skip it
varint       number of strings, then for each one a varint of length and the bytes
varint       length of the alpha plane, then the plane as an 8-bit greyscale PNG; the
             length is 0 if, and only if, the colour mode has no ``A``
4            CRC-32 (zlib) of all bytes before
===========  ==========================================================================

A tree is a byte of kind, a varint of count, and its items: kind 0, sizes (varints); kind 1, a list
of trees; kind 2, a dict of texts and trees. Trees are at most five deep.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from compressai.bitstream._fields import METRICS, FieldReader
from compressai.bitstream.errors import (
    ChecksumError,
    DamagedFileError,
    ImpossibleHeaderError,
    TruncatedFileError,
    UnsupportedVersionError,
)

__all__ = ["announced_size_1", "read_version_1"]

_MODES = ("L", "LA", "RGB", "RGBA")
_RANDOM_WEIGHTS = 1
_FIXED = struct.Struct("<4sBBH")
_CRC = struct.Struct("<I")


def read_version_1(content: bytes, best_effort: bool = False) -> dict[str, Any]:
    """The fields of a file whose magic and version were checked.

    Args:
        content: the whole file.
        best_effort: go on where the checksum does not match.

    Returns:
        Fields by the name that they have in :class:`~compressai.bitstream.CodedImage`, and
        ``strings`` and ``damage`` (empty, or what is wrong with the file).

    Raises:
        UnsupportedVersionError: the file has flags that version 1 does not have.
        DamagedFileError: truncated or changed.
    """
    if len(content) < _FIXED.size + _CRC.size:
        raise TruncatedFileError(f"the file is truncated: it has only {len(content)} bytes")
    _, _, flags, header_length = _FIXED.unpack_from(content)
    damage = ""
    if zlib.crc32(content[: -_CRC.size]) != _CRC.unpack_from(content, len(content) - 4)[0]:
        damage = "the file is truncated or was changed: its checksum does not match; get it again"
        if not best_effort:
            raise ChecksumError(damage)
    if flags & ~_RANDOM_WEIGHTS:
        raise UnsupportedVersionError(
            f"the file uses features (flags {flags:#04x}) that this program does not know: "
            "update it"
        )
    body = FieldReader(memoryview(content)[_FIXED.size : -_CRC.size])
    fields = _read_header(FieldReader(body.take(header_length)))
    fields["random_weights"] = bool(flags & _RANDOM_WEIGHTS)
    strings, alpha = _read_body(body, fields["mode"], damage)
    return {**fields, "strings": strings, "alpha": alpha, "damage": damage}


def announced_size_1(start: bytes) -> tuple[int, int]:
    """Width and height of the image in a file of version 1, by its first 65,544 bytes.

    Raises:
        DamagedFileError: truncated or impossible.
    """
    file = FieldReader(memoryview(start))
    *_, length = _FIXED.unpack(file.take(_FIXED.size))
    fields = _read_header(FieldReader(file.take(length)))
    return fields["width"], fields["height"]


def _read_header(header: FieldReader) -> dict[str, Any]:
    model = header.text()
    quality, metric = header.byte(), header.byte()
    fingerprint = bytes(header.take(8))
    width, height = header.varint(), header.varint()
    mode = header.text()
    if metric not in METRICS or mode not in _MODES or not width or not height:
        raise ImpossibleHeaderError(
            f"impossible header: metric {metric}, mode {mode!r}, size {width} x {height}"
        )
    return {
        "model": model,
        "quality": quality or None,
        "metric": METRICS[metric],
        "fingerprint": fingerprint,
        "width": width,
        "height": height,
        "mode": mode,
        "shape": header.tree(),
    }


def _read_body(body: FieldReader, mode: str, damage: str) -> tuple[tuple[bytes, ...], bytes]:
    strings: list[bytes] = []
    alpha = b""
    try:
        for _ in range(body.varint()):
            strings.append(bytes(body.section()))
        alpha = bytes(body.section())
        if body.left:
            raise DamagedFileError(f"{body.left} bytes too many at the end of the file")
        if bool(alpha) != mode.endswith("A"):
            raise ImpossibleHeaderError(
                f"mode {mode} and {len(alpha)} bytes of alpha plane contradict each other"
            )
    except DamagedFileError:
        if not damage:
            raise
    return tuple(strings), alpha
