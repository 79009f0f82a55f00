# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``.cai`` file: a coded picture and all that is needed to know about it.

Layout, version 1, little-endian. ``text`` is one byte of length and printable UTF-8; ``varint`` is
LEB128, seven bits a byte, lowest first, below 2**40.

===========  ==========================================================================
bytes        field
===========  ==========================================================================
4            magic ``93 43 41 49`` (``\\x93CAI``)
1            version, 1
1            flags: bit 0 = random weights (no trained ones were at hand); the others are
             0, and a reader refuses a file with a flag that it does not know
2            length of the rest of the header, H
text         model: a name of ``compressai.zoo``, of the registry, or ``module.Class``
1            quality, 0 = not one of the zoo's (weights from a checkpoint)
1            metric: 0 = mse, 1 = ms-ssim, 255 = unknown
8            fingerprint of the weights, see :func:`compressai.bitstream.fingerprint`
varint       width of the picture
varint       height of the picture
text         colour mode of the picture, one of ``L``, ``LA``, ``RGB``, ``RGBA``
tree         ``shape`` as the model's ``compress`` gave it, see below
(to H)       for later use: writers leave it out, readers skip it
varint       number of coding steps, then for each step a varint of length and the bytes
varint       length of the alpha plane, then the plane as an 8-bit greyscale PNG; the
             length is 0 if, and only if, the colour mode has no ``A``
4            CRC-32 (zlib) of all bytes before
===========  ==========================================================================

A tree is a byte of kind, a varint of count, and its items: kind 0, sizes (varints); kind 1, a list
of trees; kind 2, a dict of texts and trees. Trees are at most five deep.

The network got the picture in the upper left corner of one whose sides are the next multiples of
what the model asks for (``downsampling_factor``, else 64).

This module knows bytes only; colours and models are next door. Whatever a file holds, reading it
takes time and memory in proportion to its length, and ends in a :class:`CodedPicture` or a
:class:`BitstreamError`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compressai.bitstream.errors import DamagedFileError, UnsupportedFileError

__all__ = ["COLOUR_MODES", "MAGIC", "VERSION", "CodedPicture"]

MAGIC = b"\x93CAI"
VERSION = 1
COLOUR_MODES = ("L", "LA", "RGB", "RGBA")

_METRICS = {"mse": 0, "ms-ssim": 1, None: 255}
_RANDOM_WEIGHTS = 1
_FIXED = struct.Struct("<4sBBH")
_CRC = struct.Struct("<I")
# Larger numbers can only come from damage: sides, counts and lengths all stay below.
_MAX_VARINT = 2**40
_MAX_DEPTH = 4


@dataclass(frozen=True)
class CodedPicture:
    """A coded picture, as it lies in a file.

    Attributes:
        model: name in ``compressai.zoo.image_models``, or as in a checkpoint's metadata.
        quality: quality in the zoo, or ``None`` for weights from elsewhere.
        metric: what the weights were trained for: ``"mse"``, ``"ms-ssim"``, or ``None`` if unknown.
        random_weights: the weights are those of a fresh model, not trained.
        fingerprint: 8 bytes that identify the weights.
        width, height: size of the picture in pixels.
        mode: colour mode of the picture, one of :data:`COLOUR_MODES`.
        shape: sizes of the latents, as ``compress`` of the model gave them.
        strings: the strings of one picture, one for each coding step.
        alpha: the alpha plane as a PNG file, empty if there is none.
    """

    model: str
    quality: int | None
    metric: str | None
    random_weights: bool
    fingerprint: bytes
    width: int
    height: int
    mode: str
    shape: Any
    strings: tuple[bytes, ...]
    alpha: bytes = b""

    def to_bytes(self) -> bytes:
        """The file's content.

        Raises:
            ValueError: a field does not fit the format.
        """
        _check_fields(self)
        header = b"".join(
            (
                _text(self.model),
                bytes((self.quality or 0, _METRICS[self.metric])),
                self.fingerprint,
                _varint(self.width),
                _varint(self.height),
                _text(self.mode),
                _tree(self.shape),
            )
        )
        if len(header) >= 2**16:
            raise ValueError(f"shape must fit into 65535 bytes of header, got {len(header)}")
        flags = _RANDOM_WEIGHTS if self.random_weights else 0
        parts = [_FIXED.pack(MAGIC, VERSION, flags, len(header)), header]
        parts.append(_varint(len(self.strings)))
        for section in (*self.strings, self.alpha):
            parts += (_varint(len(section)), section)
        content = b"".join(parts)
        return content + _CRC.pack(zlib.crc32(content))

    @classmethod
    def from_bytes(cls, content: bytes) -> CodedPicture:
        """Read a file's content.

        Raises:
            UnsupportedFileError: no ``.cai`` file, or of a later version.
            DamagedFileError: truncated or changed.
        """
        if not content:
            raise DamagedFileError("the file is empty")
        if content[:4] != MAGIC[: len(content)]:
            raise UnsupportedFileError(
                f"this is no .cai file: it starts with {bytes(content[:4])!r}, not {MAGIC!r}"
            )
        if len(content) < _FIXED.size + _CRC.size:
            raise DamagedFileError(f"the file is truncated: it has only {len(content)} bytes")
        _, version, flags, header_length = _FIXED.unpack_from(content)
        if version != VERSION:
            raise UnsupportedFileError(
                f"the file has format version {version}, this program reads {VERSION}: update it"
            )
        if zlib.crc32(content[: -_CRC.size]) != _CRC.unpack_from(content, len(content) - 4)[0]:
            raise DamagedFileError(
                "the file is truncated or was changed: its checksum does not match; get it again"
            )
        if flags & ~_RANDOM_WEIGHTS:
            raise UnsupportedFileError(
                f"the file uses features (flags {flags:#04x}) that this program does not know: "
                "update it"
            )
        return cls._parse(memoryview(content)[: -_CRC.size], flags, header_length)

    @classmethod
    def _parse(cls, content: memoryview, flags: int, header_length: int) -> CodedPicture:
        body = _Reader(content[_FIXED.size :])
        header = _Reader(body.take(header_length))
        model = header.text()
        quality, metric = header.take(2)
        fingerprint = bytes(header.take(8))
        width, height = header.varint(), header.varint()
        mode = header.text()
        shape = header.tree()
        metrics = {code: name for name, code in _METRICS.items()}
        if metric not in metrics or mode not in COLOUR_MODES or not width or not height:
            raise DamagedFileError(
                f"impossible header: metric {metric}, mode {mode!r}, size {width} x {height}"
            )
        strings = tuple(bytes(body.section()) for _ in range(body.varint()))
        alpha = bytes(body.section())
        if body.left:
            raise DamagedFileError(f"{body.left} bytes too many at the end of the file")
        if bool(alpha) != mode.endswith("A"):
            raise DamagedFileError(f"mode {mode} and {len(alpha)} bytes of alpha plane contradict")
        return cls(
            model=model,
            quality=quality or None,
            metric=metrics[metric],
            random_weights=bool(flags & _RANDOM_WEIGHTS),
            fingerprint=fingerprint,
            width=width,
            height=height,
            mode=mode,
            shape=shape,
            strings=strings,
            alpha=alpha,
        )


def _check_fields(coded: CodedPicture) -> None:
    if coded.metric not in _METRICS:
        raise ValueError(f"metric must be one of {list(_METRICS)}, got {coded.metric!r}")
    if coded.quality is not None and not 1 <= coded.quality <= 255:
        raise ValueError(f"quality must be None or in 1 ... 255, got {coded.quality}")
    if coded.mode not in COLOUR_MODES:
        raise ValueError(f"mode must be one of {COLOUR_MODES}, got {coded.mode!r}")
    if bool(coded.alpha) != coded.mode.endswith("A"):
        raise ValueError(f"mode {coded.mode} does not fit {len(coded.alpha)} bytes of alpha plane")
    if coded.width < 1 or coded.height < 1:
        raise ValueError(f"a picture must have pixels, got {coded.width} x {coded.height}")
    if len(coded.fingerprint) != 8:
        raise ValueError(f"fingerprint must be 8 bytes, got {len(coded.fingerprint)}")


def _varint(value: int) -> bytes:
    if not 0 <= value < _MAX_VARINT:
        raise ValueError(f"a size or length must be in 0 ... 2**40 - 1, got {value}")
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _text(text: str) -> bytes:
    # Names are shown to people: no control codes for their terminal.
    if not text.isprintable():
        raise ValueError(f"a name must be printable, got {text!r}")
    encoded = text.encode()
    if len(encoded) > 255:
        raise ValueError(f"a name must have at most 255 bytes, got {text!r}")
    return bytes((len(encoded),)) + encoded


def _tree(value: Any, depth: int = 0) -> bytes:
    if depth > _MAX_DEPTH:
        raise ValueError(f"shape must be at most {_MAX_DEPTH + 1} levels deep")
    if isinstance(value, Mapping):
        items = b"".join(_text(key) + _tree(item, depth + 1) for key, item in value.items())
        return b"\x02" + _varint(len(value)) + items
    if all(isinstance(item, int) for item in value):
        return b"\x00" + _varint(len(value)) + b"".join(_varint(int(item)) for item in value)
    return b"\x01" + _varint(len(value)) + b"".join(_tree(item, depth + 1) for item in value)


class _Reader:
    """Takes fields off a buffer, and never reads beyond it."""

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    @property
    def left(self) -> int:
        return len(self._buffer)

    def take(self, length: int) -> memoryview:
        if length > self.left:
            raise DamagedFileError(f"{length} bytes are announced, {self.left} are left")
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if value >= _MAX_VARINT or shift > 42:
                raise DamagedFileError("a size or length is impossibly large")
            if byte < 128:
                return value

    def text(self) -> str:
        encoded = bytes(self.take(self.take(1)[0]))
        try:
            text = encoded.decode()
        except UnicodeDecodeError as error:
            raise DamagedFileError(f"a name is no UTF-8: {encoded!r}") from error
        if not text.isprintable():
            raise DamagedFileError(f"a name is not printable: {text!r}")
        return text

    def section(self) -> memoryview:
        return self.take(self.varint())

    def tree(self, depth: int = 0) -> Any:
        kind, count = self.take(1)[0], self.varint()
        if count > self.left or depth > _MAX_DEPTH:
            raise DamagedFileError("the table of latent sizes is impossibly large")
        if kind == 0:
            return tuple(self.varint() for _ in range(count))
        if kind == 1:
            return [self.tree(depth + 1) for _ in range(count)]
        if kind == 2:
            tree = {self.text(): self.tree(depth + 1) for _ in range(count)}
            if len(tree) < count:
                raise DamagedFileError("the table of latent sizes names a part twice")
            return tree
        raise DamagedFileError(f"the table of latent sizes has an unknown part of kind {kind}")
