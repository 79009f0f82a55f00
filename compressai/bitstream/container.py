# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``.cai`` file: a coded image and all that is needed to know about it.

Layout, version 2, little-endian. ``text`` is one byte of length and printable UTF-8; ``varint`` is
LEB128, seven bits a byte, lowest first, below 2**40.

===========  ==========================================================================
bytes        field
===========  ==========================================================================
4            magic ``93 43 41 49`` (``\\x93CAI``)
1            version, 2
1            flags: bit 0 = random weights (no trained ones were at hand); bit 1 =
             sync-safe strings; bit 2 = each tile has a hash of its latent; bit 3 =
             checksums of sections also cover their place; bit 4 = the quality is a
             number on a scale; bit 5 = at least one string is interleaved; the others are
             0, and a reader refuses a file with a flag that it does not know
4            length of the rest of the header, without its checksum, H
text         model: a name of ``compressai.zoo``, of the registry, or ``module.Class``
1            quality, 0 = not one of the zoo's (weights from a checkpoint); with flag 4 the
             whole part of the quality
0 or 2       with flag 4 the rest of the quality, in parts of 65536
1            metric: 0 = mse, 1 = ms-ssim, 255 = unknown
8            fingerprint of the weights, see :func:`compressai.bitstream.fingerprint`
varint       width of the image
varint       height of the image
text         colour mode of the image, one of ``L``, ``LA``, ``RGB``, ``RGBA``
text         colour mode that the source had, as Pillow calls it, such as ``CMYK``
varint       side of a tile, 0 = the image is one tile
varint       pixels that neighbouring tiles share, at most half of the side
varint       number of sections, then for each one a byte of kind and a varint of length:
             kind 0 = tile, 1 = alpha plane, 2 = ICC profile, 3 = EXIF; readers refuse
             other kinds below 128 and skip those above
(to H)       for later use: writers leave it out, readers skip it
4            CRC-32C of all bytes before
===========  ==========================================================================

Then come the sections, in that order, each followed by the CRC-32C of its bytes, and nothing else.
With flag 3, which all writers set (files from before it are read for ever), the CRC-32C is that of
the header's checksum (4 bytes), the number of the section (4 bytes, from 0), and its bytes: a
section of another file, or of another place, does not fit.

- The tiles are first, row by row, as many as :class:`compressai.bitstream.Tiling` says.
- The alpha plane is an 8-bit greyscale PNG. It is there if, and only if, the colour mode has ``A``.
- The ICC profile tells what the colours mean; without one they are sRGB.
- EXIF is as in a JPEG file, with or without ``Exif\\0\\0`` in front.

A tile is

===========  ==========================================================================
bytes        field
===========  ==========================================================================
8            hash of the latent, if flag 2 is set: the first bytes of the SHA-256 of
             ``y_hat``, see :func:`compressai.bitstream.hash_latent`
varint       number of strings, then a varint of length for each one
(the rest)   the strings: the last one that the model gave is first, because that is the
             one without which no other can be decoded (the hyper latent); then the others
===========  ==========================================================================

The network got the pixels of a tile in the upper left corner of an image whose sides are the next
multiples of what the model asks for (``downsampling_factor``, else 64). The sizes of the latents
follow from that.

This module knows bytes only; colours and models are next door. Whatever a file holds, reading it
takes time and memory in proportion to its length, and ends in a :class:`CodedImage` or a
:class:`BitstreamError`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from compressai._moved import old_names
from compressai.bitstream._fields import (
    MAX_VARINT,
    METRIC_CODES,
    METRICS,
    QUALITY_STEPS,
    FieldReader,
    text,
    varint,
)
from compressai.bitstream._sections import (
    ALPHA,
    CRC,
    EXIF,
    ICC,
    SECTION_NAMES,
    TILE,
    Sections,
    check_sum,
    checksum,
    place_of,
)
from compressai.bitstream.errors import (
    DamagedFileError,
    ImpossibleHeaderError,
    NotACodedImageError,
    TruncatedFileError,
    UnsupportedVersionError,
)
from compressai.bitstream.tiling import Tiling
from compressai.bitstream.version1 import read_version_1

__all__ = [
    "COLOUR_MODES",
    "MAGIC",
    "VERSION",
    "CodedImage",
    "CodedTile",
    "announced_sizes",
    "head_size",
]

__getattr__ = old_names(__name__)

MAGIC = b"\x93CAI"
VERSION = 2
COLOUR_MODES = ("L", "LA", "RGB", "RGBA")

_RANDOM_WEIGHTS, _SYNC_SAFE, _HASHES, _PLACED, _ON_SCALE, _INTERLEAVED = 1, 2, 4, 8, 16, 32
_FLAGS = _RANDOM_WEIGHTS | _SYNC_SAFE | _HASHES | _PLACED | _ON_SCALE | _INTERLEAVED
_OPTIONAL = 128
_FIXED = struct.Struct("<4sBBI")
_PART = struct.Struct("<H")
_HASH_BYTES = 8
# A damaged flag that turns a few bytes into millions of empty strings must not cost memory.
_MAX_STRINGS = 2**16
# A table of ten million tiles.
_MOST_HEADER_BYTES = 2**26


@dataclass(frozen=True)
class CodedTile:
    """The strings of one tile.

    Attributes:
        strings: one for each coding step, as ``compress`` of the model gave them.
        y_hat_hash: 8 bytes, see :func:`compressai.bitstream.hash_latent`; empty if there is none.
        damage: what is wrong with it, in a file that was read with ``best_effort``. Its
            ``strings`` are then those that are there, the last one still last, and may be wrong.
    """

    strings: tuple[bytes, ...]
    y_hat_hash: bytes = b""
    damage: str = ""


@dataclass(frozen=True)
class CodedImage:
    """A coded image, as it lies in a file.

    Attributes:
        model: name in ``compressai.zoo.image_models``, or as in a checkpoint's metadata.
        quality: quality in the zoo, or ``None`` for weights from elsewhere; an int, or a float
            for a number on the scale of a model whose rate is continuous.
        metric: what the weights were trained for: ``"mse"``, ``"ms-ssim"``, or ``None`` if unknown.
        random_weights: the weights are those of a fresh model, not trained.
        fingerprint: 8 bytes that identify the weights; empty in files of version 0, which tell of
            nothing but names.
        width, height: size of the image in pixels.
        mode: colour mode of the image, one of :data:`COLOUR_MODES`.
        tiles: the coded tiles, row by row; one if the image is not tiled.
        tile_size, tile_overlap: see :class:`~compressai.bitstream.Tiling`; 0 if not tiled.
        sync_safe: the strings are those of ``compress(..., sync_safe=True)``.
        source_mode: colour mode of the image's source, as Pillow calls it; empty if unknown.
        alpha: the alpha plane as a PNG file, empty if there is none.
        icc: ICC profile of the colours, empty for sRGB.
        exif: EXIF metadata, empty if there are none.
        version: of the format, 0 for files of CompressAI 1.2; only 2 can be written.
        shape: sizes of the latents as the model gave them, in files of version 1, of the smallest
            latent in version 0; else ``None``.
        centred: the network got the image in the centre of one whose sides are multiples of
            this, filled up with zeros, as in version 0; else 0.
        damage: what else was wrong, in a file that was read with ``best_effort``.
    """

    model: str
    quality: float | None
    metric: str | None
    random_weights: bool
    fingerprint: bytes
    width: int
    height: int
    mode: str
    tiles: tuple[CodedTile, ...]
    tile_size: int = 0
    tile_overlap: int = 0
    sync_safe: bool = False
    source_mode: str = ""
    alpha: bytes = b""
    icc: bytes = b""
    exif: bytes = b""
    version: int = VERSION
    shape: Any = None
    centred: int = 0
    damage: tuple[str, ...] = ()

    @property
    def strings(self) -> tuple[bytes, ...]:
        """The strings of all tiles, one tile after the other."""
        return tuple(string for tile in self.tiles for string in tile.strings)

    @property
    def tiling(self) -> Tiling:
        """Where the tiles are."""
        return Tiling(self.width, self.height, self.tile_size, self.tile_overlap)

    def to_bytes(self) -> bytes:
        """The file's content.

        Raises:
            ValueError: a field does not fit the format.
        """
        _check_fields(self)
        with_hash = bool(self.tiles[0].y_hat_hash)
        sections = [(TILE, _tile_bytes(tile, with_hash)) for tile in self.tiles]
        others = ((ALPHA, self.alpha), (ICC, self.icc), (EXIF, self.exif))
        sections += [(kind, content) for kind, content in others if content]
        header = b"".join(
            (
                text(self.model),
                _quality_bytes(self.quality),
                bytes((METRIC_CODES[self.metric],)),
                self.fingerprint,
                varint(self.width),
                varint(self.height),
                text(self.mode),
                text(self.source_mode),
                varint(self.tile_size),
                varint(self.tile_overlap),
                varint(len(sections)),
                *(bytes((kind,)) + varint(len(content)) for kind, content in sections),
            )
        )
        flags = _RANDOM_WEIGHTS * self.random_weights | _SYNC_SAFE * self.sync_safe
        flags |= _HASHES * with_hash | _PLACED | _ON_SCALE * isinstance(self.quality, float)
        flags |= _INTERLEAVED * any(map(_is_interleaved, self.strings))
        head = _FIXED.pack(MAGIC, VERSION, flags, len(header)) + header
        head_sum = checksum(head)
        parts = [head, head_sum]
        for number, (_, content) in enumerate(sections):
            parts += (content, checksum(content, place_of(head_sum, number)))
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, content: bytes, *, best_effort: bool = False) -> CodedImage:
        """Read a file's content.

        Args:
            content: the whole file.
            best_effort: go on where a section is damaged or missing, if the header is intact; what
                is wrong is then told by ``damage`` of the tiles and of the image. (Version 1
                has one checksum for all: what its header says may be wrong, too.)

        Raises:
            UnsupportedFileError: no ``.cai`` file, or of a later version.
            DamagedFileError: truncated or changed.
        """
        if not content:
            raise TruncatedFileError("the file is empty")
        if content[:4] != MAGIC[: len(content)]:
            raise NotACodedImageError(
                f"this is no .cai file: it starts with {bytes(content[:4])!r}, not {MAGIC!r}"
            )
        if len(content) < 5:
            raise TruncatedFileError(f"the file is truncated: it has only {len(content)} bytes")
        if content[4] == 1:
            fields = read_version_1(content, best_effort)
            damage = fields.pop("damage")
            tile = CodedTile(fields.pop("strings"), damage=damage)
            return cls(tiles=(tile,), version=1, source_mode=fields["mode"], **fields)
        if content[4] != VERSION:
            raise UnsupportedVersionError(
                f"the file has format version {content[4]}, this program reads 1 to {VERSION}: "
                "update it"
            )
        return cls._read(content, best_effort)

    @classmethod
    def _read(cls, content: bytes, best_effort: bool) -> CodedImage:
        file = FieldReader(memoryview(content))
        flags, head_sum, fields, directory = _read_head(file, content)
        sections = Sections(file, directory, head_sum if flags & _PLACED else b"", best_effort)
        tiles = [
            _read_tile(*sections.next(), bool(flags & _HASHES), best_effort)
            for kind, _ in directory
            if kind == TILE
        ]
        others = {ALPHA: b"", ICC: b"", EXIF: b""}
        damage = []
        for kind, _ in directory[len(tiles) :]:
            section, problem = sections.next()
            if problem:
                damage.append(problem)
            elif kind < _OPTIONAL:
                others[kind] = section
        if file.left:
            damage.append(f"{file.left} bytes too many at the end of the file; get it again")
            if not best_effort:
                raise DamagedFileError(damage[-1])
        return cls(
            random_weights=bool(flags & _RANDOM_WEIGHTS),
            sync_safe=bool(flags & _SYNC_SAFE),
            tiles=tuple(tiles),
            alpha=others[ALPHA],
            icc=others[ICC],
            exif=others[EXIF],
            damage=tuple(damage),
            **fields,
        )


def announced_sizes(head: bytes) -> tuple[int, int, int]:
    """What the header of a file of version 2 announces.

    Args:
        head: the first bytes of the file, at least :func:`head_size` of them.

    Returns:
        Width and height of the image, and bytes of the whole file.

    Raises:
        UnsupportedVersionError, DamagedFileError: as :meth:`CodedImage.from_bytes`.
    """
    file = FieldReader(memoryview(head))
    _, _, fields, directory = _read_head(file, head)
    sections = sum(length + CRC.size for _, length in directory)
    return fields["width"], fields["height"], len(head) - file.left + sections


def head_size(start: bytes) -> int:
    """Bytes of the header of a file of version 2 that begins with these ten.

    Raises:
        ImpossibleHeaderError: more than any image needs.
    """
    length = _FIXED.unpack_from(start)[3]
    if length > _MOST_HEADER_BYTES:
        raise ImpossibleHeaderError(f"impossible header: it has a length of {length} bytes")
    return _FIXED.size + length + CRC.size


def _read_head(
    file: FieldReader, content: bytes
) -> tuple[int, bytes, dict[str, Any], list[tuple[int, int]]]:
    """Flags, checksum, fields, and kind and length of each section; leaves the file behind it."""
    _, _, flags, header_length = _FIXED.unpack(file.take(_FIXED.size))
    header = FieldReader(file.take(header_length))
    head_sum = check_sum(file, content[: _FIXED.size + header_length], "the header")
    if flags & ~_FLAGS:
        raise UnsupportedVersionError(
            f"the file uses features (flags {flags:#04x}) that this program does not know: "
            "update it"
        )
    return flags, head_sum, *_read_header(header, bool(flags & _ON_SCALE))


def _read_header(
    header: FieldReader, on_scale: bool
) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """The fields of the header by name, and kind and length of each section."""
    model = header.text()
    quality: float | None = header.byte()
    if on_scale:
        quality += _PART.unpack(header.take(_PART.size))[0] / QUALITY_STEPS
    metric = header.byte()
    fields: dict[str, Any] = {
        "model": model,
        "quality": quality if on_scale else quality or None,
        "fingerprint": bytes(header.take(8)),
        "width": header.varint(),
        "height": header.varint(),
        "mode": header.text(),
        "source_mode": header.text(),
        "tile_size": header.varint(),
        "tile_overlap": header.varint(),
    }
    width, height, mode = fields["width"], fields["height"], fields["mode"]
    if metric not in METRICS or mode not in COLOUR_MODES or not width or not height:
        raise ImpossibleHeaderError(
            f"impossible header: metric {metric}, mode {mode!r}, size {width} x {height}"
        )
    fields["metric"] = METRICS[metric]
    count = header.varint()
    if 2 * count > header.left:
        raise ImpossibleHeaderError(f"the table of {count} sections is impossibly large")
    directory = [(header.byte(), header.varint()) for _ in range(count)]
    _check_directory(fields, [kind for kind, _ in directory])
    return fields, directory


def _check_directory(fields: dict[str, Any], kinds: list[int]) -> None:
    try:
        tiling = Tiling(
            fields["width"], fields["height"], fields["tile_size"], fields["tile_overlap"]
        )
    except ValueError as error:
        raise ImpossibleHeaderError(f"impossible header: {error}") from error
    tiles = kinds.count(TILE)
    if tiles != tiling.count or TILE in kinds[tiles:]:
        raise ImpossibleHeaderError(
            f"an image of {tiling.width} x {tiling.height} in tiles of {tiling.size} has "
            f"{tiling.count} tiles before all else, the file has {tiles}"
        )
    for kind in kinds[tiles:]:
        if kind < _OPTIONAL and kind not in SECTION_NAMES:
            raise UnsupportedVersionError(
                f"the file has a section of kind {kind}, which this program does not know: "
                "update it"
            )
        if kind < _OPTIONAL and kinds.count(kind) > 1:
            raise ImpossibleHeaderError(f"impossible header: {SECTION_NAMES[kind]} is there twice")
    if (ALPHA in kinds) != fields["mode"].endswith("A"):
        raise ImpossibleHeaderError(
            f"impossible header: mode {fields['mode']} and an alpha plane contradict each other"
            if ALPHA in kinds
            else f"impossible header: mode {fields['mode']} needs an alpha plane"
        )


def _quality_bytes(quality: float | None) -> bytes:
    if isinstance(quality, float):
        whole, rest = divmod(round(quality * QUALITY_STEPS), QUALITY_STEPS)
        return bytes((whole,)) + _PART.pack(rest)
    return bytes((quality or 0,))


def _is_interleaved(string: bytes) -> bool:
    """By its first state: the highest bit of its eight bytes, which plain ones never have."""
    return len(string) >= 8 and string[7] >= 128


def _tile_bytes(tile: CodedTile, with_hash: bool) -> bytes:
    strings = (*tile.strings[-1:], *tile.strings[:-1])
    return b"".join(
        (
            tile.y_hat_hash if with_hash else b"",
            varint(len(strings)),
            *(varint(len(string)) for string in strings),
            *strings,
        )
    )


def _read_tile(section: bytes, damage: str, with_hash: bool, best_effort: bool) -> CodedTile:
    """A tile; of a damaged one, the strings that are whole, if its own table makes sense."""
    tile = FieldReader(memoryview(section))
    strings: list[bytes] = []
    y_hat_hash = b""
    try:
        if with_hash:
            y_hat_hash = bytes(tile.take(_HASH_BYTES))
        count = tile.varint()
        if count > min(tile.left, _MAX_STRINGS):
            raise ImpossibleHeaderError(f"a tile has {count} strings, which is impossible")
        for length in [tile.varint() for _ in range(count)]:
            strings.append(bytes(tile.take(length)))
        if tile.left:
            raise ImpossibleHeaderError(f"a tile has {tile.left} bytes more than its strings")
    except DamagedFileError as error:
        if not best_effort:
            raise
        damage = damage or str(error)
    return CodedTile((*strings[1:], *strings[:1]), y_hat_hash, damage)


def _check_fields(coded: CodedImage) -> None:
    if coded.version != VERSION:
        raise ValueError(f"version must be {VERSION} to be written, got {coded.version}")
    if coded.metric not in METRIC_CODES:
        raise ValueError(f"metric must be one of {list(METRIC_CODES)}, got {coded.metric!r}")
    if isinstance(coded.quality, float):
        steps = coded.quality * QUALITY_STEPS
        if not (0 <= coded.quality < 256 and steps == round(steps)):
            raise ValueError(
                "quality on a scale must be in 0 ... 256, in steps of 1 / 65536, got "
                f"{coded.quality}"
            )
    elif coded.quality is not None and not 1 <= coded.quality <= 255:
        raise ValueError(f"quality must be None or in 1 ... 255, got {coded.quality}")
    if coded.mode not in COLOUR_MODES:
        raise ValueError(f"mode must be one of {COLOUR_MODES}, got {coded.mode!r}")
    if bool(coded.alpha) != coded.mode.endswith("A"):
        raise ValueError(f"mode {coded.mode} does not fit {len(coded.alpha)} bytes of alpha plane")
    if not (1 <= coded.width < MAX_VARINT and 1 <= coded.height < MAX_VARINT):
        raise ValueError(f"an image must have pixels, got {coded.width} x {coded.height}")
    if len(coded.fingerprint) != 8:
        raise ValueError(f"fingerprint must be 8 bytes, got {len(coded.fingerprint)}")
    if len(coded.tiles) != coded.tiling.count:
        raise ValueError(f"tiles must be {coded.tiling.count}, got {len(coded.tiles)}")
    for tile in coded.tiles:
        if tile.damage or coded.damage:
            raise ValueError("a damaged image must not be written as if it were none")
        if len(tile.y_hat_hash) not in (0, _HASH_BYTES):
            raise ValueError(f"y_hat_hash must be 0 or 8 bytes, got {len(tile.y_hat_hash)}")
        if len(tile.y_hat_hash) != len(coded.tiles[0].y_hat_hash):
            raise ValueError("y_hat_hash must be in all tiles or in none")
        if not 1 <= len(tile.strings) <= _MAX_STRINGS:
            raise ValueError(f"a tile must have 1 ... 65536 strings, got {len(tile.strings)}")
