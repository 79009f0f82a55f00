# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The header of a JPEG XL file, of which Pillow's plugin hands on the size only.

Source: ISO/IEC 18181-1, annex D (image header), and 18181-2 (file format).
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import IO

__all__ = ["Header", "read_header"]

_CODESTREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
# Far more than a header without embedded profile takes.
_MOST_BYTES = 2**12
_GREY, _XYB = 1, 2
_ALPHA, _SPOT, _CFA = 0, 2, 5
_CUSTOM = 2


@dataclass
class Header:
    """What the header says beyond the size.

    Attributes:
        depth: bits of a sample, those of floating-point samples included.
        animated: whether there may be several frames.
        transfer: code point of ITU-T H.273; ``None`` for a gamma or an embedded profile.
        extra: kinds of the channels besides colours and alpha, as numbered in the standard.
    """

    depth: int = 8
    animated: bool = False
    transfer: int | None = 13
    extra: list[int] = field(default_factory=list)


def read_header(file: IO[bytes]) -> Header | None:
    """The header of a file that can seek; its position changes. ``None`` if there is none.

    Args:
        file: a bare codestream or a container.
    """
    try:
        return _parse(_Bits(_codestream(file)))
    except (EOFError, ValueError):
        return None


def _codestream(file: IO[bytes]) -> bytes:
    """The first bytes of the codestream, behind its signature."""
    file.seek(0)
    start = file.read(len(_CONTAINER))
    if start[:2] == _CODESTREAM:
        file.seek(2)
        return file.read(_MOST_BYTES)
    if start != _CONTAINER:
        raise ValueError("no JPEG XL")
    end = file.seek(0, io.SEEK_END)
    place, content = len(_CONTAINER), b""
    while place + 8 <= end and len(content) < _MOST_BYTES:
        file.seek(place)
        size, name, head = int.from_bytes(file.read(4), "big"), file.read(4), 8
        if size == 1:
            size, head = int.from_bytes(file.read(8), "big"), 16
        size = size or end - place
        if size < head:
            break
        if name in (b"jxlc", b"jxlp"):
            # Parts have their number in front.
            content += file.read(min(size - head, _MOST_BYTES))[4 if name == b"jxlp" else 0 :]
        place += size
    return content[2:]


class _Bits:
    """Reads bits, the lowest of a byte first, and the standard's kinds of numbers."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def u(self, count: int) -> int:
        """``count`` bits."""
        if count > self._left:
            raise EOFError
        self._left -= count
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        return value

    def u32(self, *choices: tuple[int, int]) -> int:
        """One of four pairs of an offset and a number of bits, as two bits say."""
        offset, count = choices[self.u(2)]
        return offset + self.u(count)

    def enum(self) -> int:
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))


def _parse(bits: _Bits) -> Header:
    header = Header()
    _skip_size(bits)
    if bits.u(1):  # all is as usual
        return header
    if bits.u(1):
        bits.u(3)  # orientation
        if bits.u(1):
            _skip_size(bits)
        if bits.u(1):
            raise ValueError("a preview")
        header.animated = bool(bits.u(1))
        if header.animated:
            bits.u32((100, 0), (1000, 0), (1, 10), (1, 30))
            bits.u32((1, 0), (1001, 0), (1, 8), (1, 10))
            bits.u32((0, 0), (0, 3), (0, 16), (0, 32))
            bits.u(1)
    header.depth = _depth(bits)
    bits.u(1)
    for _ in range(bits.u32((0, 0), (1, 0), (2, 4), (1, 12))):
        kind = _kind_of_channel(bits)
        if kind != _ALPHA:
            header.extra.append(kind)
    bits.u(1)
    header.transfer = _transfer(bits)
    return header


def _skip_size(bits: _Bits) -> None:
    small = bits.u(1)

    def side() -> None:
        bits.u(5) if small else bits.u32((1, 9), (1, 13), (1, 18), (1, 30))

    side()
    if not bits.u(3):
        side()


def _depth(bits: _Bits) -> int:
    if not bits.u(1):
        return bits.u32((8, 0), (10, 0), (12, 0), (1, 6))
    depth = bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
    bits.u(4)
    return depth


def _kind_of_channel(bits: _Bits) -> int:
    if bits.u(1):
        return _ALPHA
    kind = bits.enum()
    _depth(bits)
    bits.u32((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.u32((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.u(8)
    if kind == _ALPHA:
        bits.u(1)
    elif kind == _SPOT:
        bits.u(64)
    elif kind == _CFA:
        bits.u32((1, 0), (0, 2), (3, 4), (19, 8))
    return kind


def _transfer(bits: _Bits) -> int | None:
    if bits.u(1):
        return Header.transfer
    embedded = bits.u(1)
    space = bits.enum()
    if embedded or space == _XYB:
        return None

    def skip_points(count: int) -> None:
        for _ in range(2 * count):
            bits.u32((0, 19), (524288, 19), (1048576, 20), (2097152, 21))

    if bits.enum() == _CUSTOM:
        skip_points(1)
    if space != _GREY and bits.enum() == _CUSTOM:
        skip_points(3)
    return None if bits.u(1) else bits.enum()
