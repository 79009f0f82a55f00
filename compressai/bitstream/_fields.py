# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The fields that the headers of ``.cai`` files are made of, to bytes and back."""

from __future__ import annotations

from typing import Any, BinaryIO

from compressai._files import read_up_to
from compressai.bitstream.errors import ImpossibleHeaderError, TruncatedFileError

__all__ = [
    "MAX_VARINT",
    "METRICS",
    "METRIC_CODES",
    "QUALITY_STEPS",
    "FieldReader",
    "take",
    "text",
    "varint",
]

# What weights were trained for, as all headers tell it; ``None`` if it is unknown.
METRIC_CODES = {"mse": 0, "ms-ssim": 1, None: 255}
METRICS = {code: name for name, code in METRIC_CODES.items()}

# A quality on a scale is told in steps of 1 / 65536.
QUALITY_STEPS = 2**16

# Larger numbers can only come from damage: sides, counts and lengths all stay below.
MAX_VARINT = 2**40
_MAX_DEPTH = 4


def varint(value: int) -> bytes:
    """A number as LEB128: seven bits a byte, lowest first.

    Raises:
        ValueError: below 0, or not below ``MAX_VARINT``.
    """
    if not 0 <= value < MAX_VARINT:
        raise ValueError(f"a size or length must be in 0 ... 2**40 - 1, got {value}")
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: str) -> bytes:
    """A name: one byte of length, and UTF-8.

    Raises:
        ValueError: not printable, or too long.
    """
    # Names are shown to people: no control codes for their terminal.
    if not value.isprintable():
        raise ValueError(f"a name must be printable, got {value!r}")
    encoded = value.encode()
    if len(encoded) > 255:
        raise ValueError(f"a name must have at most 255 bytes, got {value!r}")
    return bytes((len(encoded),)) + encoded


class FieldReader:
    """Takes fields off a buffer, and never reads beyond it.

    Args:
        buffer: what is read, from its start.

    Raises:
        TruncatedFileError: by all methods, where the buffer ends too early.
        ImpossibleHeaderError: by all but :meth:`take`, where no writer gives such a value.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer

    @property
    def left(self) -> int:
        """Bytes that were not taken yet."""
        return len(self._buffer)

    def take(self, length: int) -> memoryview:
        """That many bytes."""
        if length > self.left:
            raise TruncatedFileError(
                f"the file is truncated or was changed: {length} bytes are announced, {self.left} "
                "are left; get it again"
            )
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def byte(self) -> int:
        """A number of one byte."""
        return self.take(1)[0]

    def varint(self) -> int:
        """A number as :func:`varint` wrote it."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if value >= MAX_VARINT or shift > 42:
                raise ImpossibleHeaderError("a size or length is impossibly large")
            if byte < 128:
                return value

    def text(self) -> str:
        """A name as :func:`text` wrote it."""
        encoded = bytes(self.take(self.byte()))
        try:
            name = encoded.decode()
        except UnicodeDecodeError as error:
            raise ImpossibleHeaderError(f"a name is no UTF-8: {encoded!r}") from error
        if not name.isprintable():
            raise ImpossibleHeaderError(f"a name is not printable: {name!r}")
        return name

    def section(self) -> memoryview:
        """Bytes that follow their length."""
        return self.take(self.varint())

    def tree(self, depth: int = 0) -> Any:
        """Nested sizes of latents, as files of version 1 hold them."""
        kind, count = self.byte(), self.varint()
        if count > self.left or depth > _MAX_DEPTH:
            raise ImpossibleHeaderError("the table of latent sizes is impossibly large")
        if kind == 0:
            return tuple(self.varint() for _ in range(count))
        if kind == 1:
            return [self.tree(depth + 1) for _ in range(count)]
        if kind == 2:
            tree = {self.text(): self.tree(depth + 1) for _ in range(count)}
            if len(tree) < count:
                raise ImpossibleHeaderError("the table of latent sizes names a part twice")
            return tree
        raise ImpossibleHeaderError(f"the table of latent sizes has an unknown part of kind {kind}")


def take(file: BinaryIO, length: int) -> bytes:
    """That many bytes of a file.

    Raises:
        TruncatedFileError: there are fewer.
    """
    # A damaged length may be anything: memory is taken for what is there only.
    content = read_up_to(file, length)
    if len(content) < length:
        raise TruncatedFileError(
            f"the file is truncated: {length} bytes are announced, {len(content)} are left"
        )
    return content
