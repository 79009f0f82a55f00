# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The largest image and the longest video that are coded or decoded unless the caller says
otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressai._images import MAX_PIXELS
from compressai.bitstream.tiling import Tiling, padded_side

if TYPE_CHECKING:
    from compressai.bitstream._engine import Engine

__all__ = [
    "MAX_FRAMES",
    "MAX_MEMORY",
    "MAX_PIXELS",
    "UNTILED_PIXELS",
    "excess_of",
    "excess_of_tiles",
]

# Larger images are tiled, if it is left to us. What is not larger is decoded with any model.
UNTILED_PIXELS = 2**22
# What one tile may take while it is coded, in bytes; more if more pixels are allowed.
MAX_MEMORY = 2**32
# Nearly ten hours at 30 a second. A header can promise 2**32 - 1.
MAX_FRAMES = 2**20


def excess_of(tiling: Tiling, tiles: Iterable[int], multiple: int, max_pixels: int) -> str | None:
    """What to say of an image with too many pixels.

    Args:
        tiling: the image's tiles.
        tiles: numbers of those that are coded or decoded.
        multiple: to which tiles are padded.
        max_pixels: the limit of their padded area.

    Returns:
        A sentence, or ``None`` if the limit is kept.
    """
    boxes = (tiling[index] for index in tiles)
    area = sum(padded_side(b.width, multiple) * padded_side(b.height, multiple) for b in boxes)
    if area <= max_pixels:
        return None
    return (
        f"the image has {tiling.width} x {tiling.height} pixels (padded: {area}), more than the "
        f"limit of {max_pixels}: raise max_pixels if there is enough memory"
    )


def excess_of_tiles(
    engine: Engine,
    tiling: Tiling,
    tiles: Sequence[int],
    max_pixels: int,
    rate: Mapping[str, Any],
) -> str | None:
    """What to say of tiles that take too much memory in this model: of images without tiles.

    Args:
        engine: the model, with tables.
        tiling: the image's tiles.
        tiles: numbers of those that are coded or decoded.
        max_pixels: the limit of pixels; one above :data:`MAX_PIXELS` raises that of memory.
        rate: arguments that the model needs.

    Returns:
        A sentence, or ``None`` if the limit is kept.
    """
    box = max((tiling[index] for index in tiles), key=lambda box: box.width * box.height)
    if box.width * box.height <= UNTILED_PIXELS:
        return None
    area = padded_side(box.width, engine.multiple) * padded_side(box.height, engine.multiple)
    needed = engine.coding_bytes(area, rate)
    enough = -(-needed * MAX_PIXELS // MAX_MEMORY)
    if enough <= max(max_pixels, MAX_PIXELS):
        return None
    return (
        f"{box.width} x {box.height} pixels in one tile take about {needed / 1e9:.1f} GB in "
        f"{engine.name}, more than the limit of "
        f"{max(max_pixels, MAX_PIXELS) * MAX_MEMORY / MAX_PIXELS / 1e9:.1f} GB: code with smaller "
        f"tiles, or raise max_pixels to {enough} if there is enough memory"
    )
