# SPDX-License-Identifier: BSD-3-Clause-Clear
"""From a coded image to an image: all of it, a region, or what damage has left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compressai._moved import old_names
from compressai.bitstream._engine import Engine, hash_values
from compressai.bitstream._engines import engine_of
from compressai.bitstream.container import CodedImage
from compressai.bitstream.errors import (
    BitstreamError,
    ChecksumError,
    DamagedFileError,
    DesyncError,
    ImpossibleHeaderError,
    TooLargeError,
    WrongWeightsError,
)
from compressai.bitstream.image import ImageData, check_exif, check_icc, read_alpha
from compressai.bitstream.limits import MAX_PIXELS, excess_of, excess_of_tiles
from compressai.bitstream.tiling import Box, padded_side

if TYPE_CHECKING:
    from torch import nn

    from compressai.runtime import RuntimeModel

__all__ = ["decode_image", "decoding_bytes", "reductions"]

__getattr__ = old_names(__name__)

_GREY = 0.5
_OTHER_LATENT = "the latent is another one than that which was coded"


def decode_image(
    net: nn.Module | RuntimeModel,
    coded: CodedImage,
    *,
    max_pixels: int = MAX_PIXELS,
    region: tuple[int, int, int, int] | None = None,
    best_effort: bool = False,
    workers: int | None = None,
    reduce: int = 1,
) -> ImageData:
    """Decode an image.

    The pixels of an image without tiles are, bit for bit, those of ``net(padded)["x_hat"]`` in
    evaluation mode, clamped to [0, 1] and cropped (of an autoregressive model, and of sync-safe
    files: those of its ``decompress``). Tiles are blended where they overlap.

    Args:
        net: the model that coded it, with the same weights, of torch or of a bundle. Several
            threads may use one.
        coded: the coded image.
        max_pixels: largest area, padding included, that is decoded. What a tile of more than 2^22
            pixels takes in ``net`` is estimated before, and must not be more than 4 GiB, or 32
            bytes for each of a larger ``max_pixels``.
        region: ``(x, y, width, height)`` in pixels: the part of the image that is wanted. Only
            the tiles that it meets are decoded; the pixels are the same as in the whole image, but
            for the last digits of floats where torch has several threads for fewer tiles.
        best_effort: decode what is not damaged instead of raising an error, if anything is left,
            and tell in ``notes`` of the image what is missing or may be wrong. Of a tile (or an
            image without tiles), the strings before the first damaged one are kept, and the
            rest of the latent is what the network expects of it; where the hyper latent is lost,
            so is the tile, which becomes grey. Read the file with ``best_effort``, too.
        workers: how many tiles are decoded at a time. Default: up to 4, as torch has threads.
        reduce: give the means of squares of so many pixels a side, tile by tile: of a large image
            with tiles, far less memory, and no less time. See :func:`reductions`.

    Returns:
        The image, or the region of it.

    Raises:
        TooLargeError: the image is larger than ``max_pixels``, or takes too much memory because
            it has no tiles.
        WrongWeightsError: ``net`` has other weights.
        UnsupportedFileError: the file is sync-safe and the model cannot decode that.
        DamagedFileError: strings, sizes or alpha plane do not fit the image, or the file was
            found damaged when it was read (with ``best_effort`` only if nothing is left).
        DesyncError: the file is intact but does not decode here to what was coded.
        ValueError: ``region`` is not within the image, ``workers`` is less than 1, or ``reduce`` is
            not possible, as it never is of a region.
    """
    whole = Box(0, 0, coded.width, coded.height)
    if reduce != 1 and (region is not None or reduce not in reductions(coded)):
        raise ValueError(
            f"reduce must be one of {reductions(coded)} for this image, and 1 for a region, got "
            f"{reduce}"
        )
    wanted = whole if region is None else _check_region(region, whole)
    tiling = coded.tiling
    if len(coded.tiles) != tiling.count:
        raise ImpossibleHeaderError(
            f"an image of {coded.width} x {coded.height} has {tiling.count} tiles, not "
            f"{len(coded.tiles)}"
        )
    needed = tiling.indexes(wanted)
    engine = engine_of(net)
    decoder = _TileDecoder(engine, coded, best_effort)
    problem = excess_of(tiling, needed, decoder.multiple, max_pixels)
    if problem:
        raise TooLargeError(problem)
    level = _level_of(engine, coded)
    notes = [*coded.damage] if best_effort else []
    extras = _read_extras(coded, wanted, best_effort, notes)
    with engine.prepared_for(level) as rate:
        _check_weights(engine, coded)  # which include tables, those of the level
        problem = excess_of_tiles(engine, tiling, needed, max_pixels, rate)
        if problem:
            raise TooLargeError(problem)
        decoder.prepare(rate, needed)
        sides = (-(-side // reduce) for side in (wanted.height, wanted.width))
        pixels = np.zeros((3, *sides), dtype=np.float32)
        lost = 0
        for index, (tile, problem) in zip(needed, engine.map_in_order(decoder, needed, workers)):
            if problem:
                box = tiling[index]
                notes.append(f"{_place(box)}: {problem}")
                lost += tile is None
            if reduce == 1:
                _blend(pixels, wanted, coded, index, tile)
            else:
                _blend_reduced(pixels, coded, index, tile, reduce)
    if lost == len(needed):
        raise DamagedFileError(f"nothing is left of the image: {'; '.join(notes)}")
    np.clip(pixels, 0, 1, out=pixels)
    return ImageData(engine.pixels(pixels), grey=coded.mode.startswith("L"), notes=notes, **extras)


def reductions(coded: CodedImage) -> tuple[int, ...]:
    """What ``reduce`` of :func:`decode_image` can be.

    Squares must not cross where tiles begin, and colours that nobody sees must not get into others.

    Args:
        coded: the coded image.
    """
    tiling = coded.tiling
    if coded.alpha:
        return (1,)
    stride = tiling.size - tiling.overlap if tiling.count > 1 else 0
    return tuple(factor for factor in (1, 2, 4, 8, 16) if stride % factor == 0)


def decoding_bytes(net: nn.Module | RuntimeModel, coded: CodedImage) -> int:
    """About how many bytes :func:`decode_image` takes beside the image, in this thread.

    Args:
        net, coded: as there.

    Raises:
        ImpossibleHeaderError: the file contradicts itself.
    """
    engine = engine_of(net)
    with engine.prepared_for(_level_of(engine, coded)) as rate:
        return engine.tiles_bytes(coded.tiling, rate)


def _check_region(region: Sequence[int], whole: Box) -> Box:
    if len(region) != 4:
        raise ValueError(f"region must be x, y, width, height, got {tuple(region)}")
    box = Box(*map(int, region))
    fits = 0 <= box.x < box.x + box.width <= whole.width
    if not fits or not 0 <= box.y < box.y + box.height <= whole.height:
        raise ValueError(
            f"region must be x, y, width, height within an image of {whole.width} x "
            f"{whole.height}, got {tuple(region)}"
        )
    return box


def _level_of(engine: Engine, coded: CodedImage) -> int | None:
    if not coded.fingerprint:  # a file that tells of nothing but names has no levels
        return None
    try:
        return engine.rate_level(coded.quality)
    except ValueError as error:
        raise ImpossibleHeaderError(f"the file contradicts itself: {error}") from error


def _check_weights(engine: Engine, coded: CodedImage) -> None:
    at_hand = engine.fingerprint(coded.version) if coded.fingerprint else b""
    if at_hand != coded.fingerprint:
        raise WrongWeightsError(
            f"the file was made with other weights of {coded.model} than those at hand "
            f"(fingerprints {coded.fingerprint.hex()} and {at_hand.hex()}); name the checkpoint "
            "it was made with"
        )
    engine.check_file(coded.version, coded.sync_safe)


def _read_extras(
    coded: CodedImage, wanted: Box, best_effort: bool, notes: list[str]
) -> dict[str, Any]:
    """All that is in the image but its pixels."""
    extras: dict[str, Any] = {"source_mode": coded.source_mode}
    readers = {
        "alpha": lambda png: read_alpha(png, (coded.width, coded.height)),
        "icc": check_icc,
        "exif": check_exif,
    }
    for name, read in readers.items():
        try:
            extras[name] = read(getattr(coded, name))
        except DamagedFileError as error:
            if not best_effort:
                raise
            notes.append(f"{error}; it is left out")
    alpha = extras.get("alpha")
    if alpha is not None:
        right, bottom = wanted.x + wanted.width, wanted.y + wanted.height
        extras["alpha"] = alpha.crop((wanted.x, wanted.y, right, bottom))
    return extras


class _TileDecoder:
    """Decodes tiles by their number, in any thread."""

    def __init__(self, engine: Engine, coded: CodedImage, best_effort: bool) -> None:
        self.engine, self.coded, self.best_effort = engine, coded, best_effort
        self.tiling = coded.tiling
        self.multiple = coded.centred or engine.multiple
        self.rate: Mapping[str, Any] = {}

    def prepare(self, rate: Mapping[str, Any], needed: Sequence[int]) -> None:
        """Check all tiles that will be decoded before any of them takes memory."""
        self.rate = rate
        for index in needed:
            try:
                self._check_layout(index)
            except DamagedFileError:
                if not self.best_effort:
                    raise

    def _layout(self, index: int) -> tuple[Any, int]:
        box = self.tiling[index]
        sides = (padded_side(side, self.multiple) for side in (box.width, box.height))
        return self.engine.latent_layout(*sides)

    def _check_layout(self, index: int) -> None:
        tile, coded = self.coded.tiles[index], self.coded
        if tile.damage:
            raise ChecksumError(tile.damage)
        shape, count = self._layout(index)
        if len(tile.strings) != count or coded.shape not in (None, shape):
            raise ImpossibleHeaderError(
                f"an image of {coded.width} x {coded.height} has latents of sizes {shape} and "
                f"{count} strings in {coded.model}, the file has {coded.shape or 'none'} and "
                f"{len(tile.strings)}"
            )

    def __call__(self, index: int) -> tuple[np.ndarray | None, str]:
        """The pixels ``(3, H, W)`` of a tile, and what is wrong with them.

        Raises:
            BitstreamError: something is, unless ``best_effort`` was asked for.
        """
        if self.best_effort:
            return self._salvage(index)
        self._check_layout(index)
        pixels, as_coded = self._decode(index, self.coded.tiles[index].strings)
        if not as_coded:
            raise self._failure(_OTHER_LATENT)
        return pixels, ""

    def _decode(self, index: int, strings: Sequence[bytes | None]) -> tuple[np.ndarray, bool]:
        """Pixels, and whether the latent is not known to be another one than was coded."""
        shape, _ = self._layout(index)
        try:
            x_hat, y_hat = self.engine.decode(strings, shape, self.coded.sync_safe, self.rate)
        except ValueError as error:
            raise self._failure(str(error)) from error
        if not np.isfinite(x_hat).all():
            raise self._failure("it has values that are not finite")
        expected = self.coded.tiles[index].y_hat_hash
        as_coded = not expected or (y_hat is not None and hash_values(y_hat) == expected)
        box = self.tiling[index]
        top = left = 0
        if self.coded.centred:
            # Needs torch, as do these files.
            from compressai.ops import compute_padding

            (left, _, top, _), _ = compute_padding(box.height, box.width, min_div=self.multiple)
        return x_hat[:, top : top + box.height, left : left + box.width], as_coded

    def _salvage(self, index: int) -> tuple[np.ndarray | None, str]:
        """As much of a tile as decodes: the first strings, up to one that does not end properly.

        Each string tells by its end whether it was decoded as it was coded, so that no checksums
        of their own are needed. Those after a damaged one are lost with it, for what they depend on
        is not known.
        """
        problem = ""
        try:
            self._check_layout(index)
        except DamagedFileError as error:
            problem = str(error)
        _, count = self._layout(index)
        *there, hyper = self.coded.tiles[index].strings or (None,)
        found, known, trial = None, -1, min(len(there), count - 1)
        most = trial
        while hyper is not None and known < most:
            strings = (*there[:trial], *[None] * (count - 1 - trial), hyper)
            try:
                found, known = self._decode(index, strings), trial
            except BitstreamError as error:
                problem = problem or str(error)
                most = trial - 1
            trial = (known + most + 1) // 2
        if found is None:
            return None, problem
        pixels, as_coded = found
        if known < count - 1:
            problem += f"; {known} of its {count - 1} parts are left, the others are estimated"
        elif problem:
            problem += "; all of it decodes" + ("" if as_coded else ", but maybe not as coded")
        elif not as_coded:
            problem = str(self._failure(_OTHER_LATENT))
        return pixels, problem

    def _failure(self, reason: str) -> BitstreamError:
        if not self.coded.fingerprint:  # nor checksums, so that this is more likely
            return DamagedFileError(f"the coded image is damaged: {reason}")
        way_out = (
            "lower the precision of nothing but g_a and g_s, and report this"
            if self.coded.sync_safe
            else "code it again with a model that is sync-safe"
        )
        return DesyncError(
            f"the file is intact but decodes to something else here ({reason}): decode it on the "
            f"kind of machine and with the version of torch that it was coded with, or {way_out}"
        )


def _blend(
    pixels: np.ndarray,
    wanted: Box,
    coded: CodedImage,
    index: int,
    tile: np.ndarray | None,
) -> None:
    """Add what a tile has to say of the wanted part; a lost one says grey."""
    box = coded.tiling[index]
    left, top = max(box.x, wanted.x), max(box.y, wanted.y)
    right = min(box.x + box.width, wanted.x + wanted.width)
    bottom = min(box.y + box.height, wanted.y + wanted.height)
    target = pixels[:, top - wanted.y : bottom - wanted.y, left - wanted.x : right - wanted.x]
    rows, columns = slice(top - box.y, bottom - box.y), slice(left - box.x, right - box.x)
    values = _GREY if tile is None else tile[:, rows, columns]
    if coded.tiling.count == 1:
        target[...] = values
    else:
        target += coded.tiling.blend_weights(index)[rows, columns] * np.float32(values)


def _place(box: Box) -> str:
    return f"{box.width} x {box.height} pixels at {box.x}, {box.y}"


def _blend_reduced(
    pixels: np.ndarray, coded: CodedImage, index: int, tile: np.ndarray | None, factor: int
) -> None:
    """As :func:`_blend` with the whole image, onto the means of its squares."""
    box = coded.tiling[index]
    values = np.zeros((3, *(padded_side(side, factor) for side in box[:1:-1])), dtype=np.float32)
    seen = values[:, : box.height, : box.width]
    seen[...] = _GREY if tile is None else tile
    if coded.tiling.count > 1:
        seen *= coded.tiling.blend_weights(index)
    _, height, width = values.shape
    sums = values.reshape(3, height // factor, factor, width // factor, factor).sum((2, 4))
    top, left = box.y // factor, box.x // factor
    # Squares at the right and lower edge of the image are not whole.
    rows, columns = (
        np.minimum(factor, whole - factor * np.arange(begin, begin + count))
        for whole, begin, count in (
            (coded.height, top, sums.shape[1]),
            (coded.width, left, sums.shape[2]),
        )
    )
    area = (rows[:, None] * columns).astype(np.float32)
    pixels[:, top : top + sums.shape[1], left : left + sums.shape[2]] += sums / area
