# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The largest picture that is coded or decoded unless the caller says otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from compressai._images import MAX_PIXELS
from compressai.bitstream._nets import padded_side
from compressai.bitstream.tiling import Tiling

__all__ = ["MAX_PIXELS", "excess_of"]


def excess_of(tiling: Tiling, tiles: Iterable[int], multiple: int, max_pixels: int) -> str | None:
    """What to say of a picture with too many pixels.

    Args:
        tiling: the picture's tiles.
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
        f"the picture has {tiling.width} x {tiling.height} pixels (padded: {area}), more than the "
        f"limit of {max_pixels}: raise max_pixels if there is enough memory"
    )
