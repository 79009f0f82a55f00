# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How an image is cut into tiles that overlap, and how decoded tiles become one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["MIN_TILE", "Box", "Tiling", "padded_side"]

# Smaller ones would let a small file cost much time: networks take multiples of 64.
MIN_TILE = 64


def padded_side(side: int, multiple: int) -> int:
    """The next multiple."""
    return side + -side % multiple


class Box(NamedTuple):
    """A part of an image, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def meets(self, other: Box) -> bool:
        """Whether the boxes have a pixel in common."""
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


@dataclass(frozen=True)
class Tiling:
    """A grid of tiles, each the next ``size - overlap`` pixels right of or below the one before.

    A tile ends where the image ends. There are just as many as the image needs, so the last
    one of a row or column is wider than the overlap.

    Attributes:
        width, height: size of the image.
        size: side of a tile; 0: the whole image is one tile.
        overlap: pixels that neighbours share.

    Raises:
        ValueError: ``size`` is positive but below :data:`MIN_TILE`, or ``overlap`` is not in
            0 ... ``size // 2``.
    """

    width: int
    height: int
    size: int = 0
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.size and self.size < MIN_TILE:
            raise ValueError(f"tiles must be 0 or at least {MIN_TILE} wide, got {self.size}")
        if not 0 <= 2 * self.overlap <= self.size:
            raise ValueError(
                f"overlap must be in 0 ... {self.size // 2}, half of a tile, got {self.overlap}"
            )

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return self._count(self.width)

    @property
    def rows(self) -> int:
        """Tiles in a column."""
        return self._count(self.height)

    @property
    def count(self) -> int:
        """Number of tiles. (Not ``len``, which fails where a damaged file asks for too many.)"""
        return self.columns * self.rows

    def __iter__(self) -> Iterator[Box]:
        return (self[index] for index in range(self.count))

    def __getitem__(self, index: int) -> Box:
        """The tile with that number; row by row."""
        row, column = divmod(index, self.columns)
        x, width = self._span(column, self.width)
        y, height = self._span(row, self.height)
        return Box(x, y, width, height)

    def indexes(self, region: Box) -> list[int]:
        """Numbers of the tiles that meet a part of the image."""
        return [index for index, box in enumerate(self) if box.meets(region)]

    def weights(self, index: int) -> Tensor:
        """How much each pixel of a tile counts: less towards its neighbours.

        The weights that a pixel has in all tiles sum to 1.

        Returns:
            float32 ``(height, width)`` in (0, 1].
        """
        # Slow to import, and not needed to code without it.
        import torch

        return torch.from_numpy(self.blend_weights(index))

    def blend_weights(self, index: int) -> np.ndarray:
        """:meth:`weights` as an array."""
        row, column = divmod(index, self.columns)
        down = self._ramps(row, self.rows, self.height)
        along = self._ramps(column, self.columns, self.width)
        return down[:, None] * along

    def _count(self, length: int) -> int:
        if not self.size or length <= self.size:
            return 1
        return -(-(length - self.overlap) // (self.size - self.overlap))

    def _span(self, place: int, length: int) -> tuple[int, int]:
        start = place * (self.size - self.overlap)
        return start, min(self.size, length - start) if self.size else length

    def _ramps(self, place: int, count: int, length: int) -> np.ndarray:
        # Headers are read without.
        import numpy as np

        weights = np.ones(self._span(place, length)[1], dtype=np.float32)
        steps = np.arange(self.overlap, dtype=np.float32) + np.float32(0.5)
        rise = steps / np.float32(max(self.overlap, 1))
        if place > 0:
            weights[: self.overlap] = rise
        if place < count - 1:
            weights[weights.size - self.overlap :] = 1 - rise
        return weights
