# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What coding an image asks of a model, on arrays: so that one core serves torch and bundles.

An engine runs the networks of a model. Container, tiles, colours and limits are not its business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np

from compressai.bitstream._fields import QUALITY_STEPS
from compressai.bitstream.tiling import Tiling

__all__ = [
    "Decoded",
    "Engine",
    "Item",
    "Result",
    "hash_values",
    "level_of",
    "padded_tile",
    "quality_on_scale",
]

Item = TypeVar("Item")
Result = TypeVar("Result")
Decoded = tuple[np.ndarray, np.ndarray | None]


class Engine(Protocol):
    """A model that is ready to code.

    Attributes:
        name: of the model, for messages.
        multiple: what the sides of a padded tile are multiples of.
        identity: what the model knows of itself, see ``ModelIdentity``; perhaps ``None``.
        supports_sync_safe: whether it codes in synchrony.
        exact: whether its latents are the same on every machine however they are coded.
    """

    name: str
    multiple: int
    identity: Any
    supports_sync_safe: bool
    exact: bool

    def check_coder(self) -> None:
        """Refuse models with another entropy coder than that of the format: ValueError."""

    def check_file(self, version: int, sync_safe: bool) -> None:
        """Refuse files that this engine cannot decode: UnsupportedFileError."""

    def rate_level(self, quality: float | None) -> float | None:
        """The level of a quality, see :func:`compressai.bitstream._nets.rate_level`."""

    def prepared_for(self, level: float | None) -> AbstractContextManager[Mapping[str, Any]]:
        """The arguments for a level, for as long as it holds."""

    def fingerprint(self, version: int = 2) -> bytes:
        """That of the weights, for a version of the format."""

    def latent_layout(self, width: int, height: int) -> tuple[Any, int]:
        """Sizes of the latents of a padded tile, and the number of strings."""

    def coding_bytes(self, area: int, rate: Mapping[str, Any]) -> int:
        """About how many bytes a tile of so many pixels takes."""

    def tiles_bytes(self, tiling: Tiling, rate: Mapping[str, Any]) -> int:
        """The same of those tiles that are coded at a time."""

    def encode(
        self, x: np.ndarray, sync_safe: bool, rate: Mapping[str, Any], **effort: Any
    ) -> tuple[list[bytes], np.ndarray | None]:
        """Strings, the hyper latent's last, and ``y_hat``, of ``(1, 3, H, W)``."""

    def decode(
        self,
        strings: Sequence[bytes | None],
        shape: Any,
        sync_safe: bool,
        rate: Mapping[str, Any],
    ) -> Decoded:
        """``x_hat`` ``(3, H, W)`` in [0, 1], and ``y_hat``; ValueError for damaged strings."""

    def map_in_order(
        self, function: Callable[[Item], Result], items: Sequence[Item], workers: int | None
    ) -> Iterator[Result]:
        """Results in order, with so many items at a time."""

    def pixels(self, values: np.ndarray) -> Any:
        """What ``Image.pixels`` is with this engine."""


def padded_tile(pixels: Any, box: Sequence[int], multiple: int) -> np.ndarray:
    """A tile, its last row and column repeated until the sides are multiples.

    Args:
        pixels: ``(3, H, W)``, an array or a tensor.
        box: x, y, width and height of the tile.
        multiple: what the new sides are multiples of.

    Returns:
        float32 ``(1, 3, H', W')``, contiguous.
    """
    x, y, width, height = box
    part = pixels[None, :, y : y + height, x : x + width]
    if not isinstance(part, np.ndarray):
        part = part.detach().float().cpu().numpy()
    sides = ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple))
    return np.ascontiguousarray(np.pad(part, sides, mode="edge"), dtype=np.float32)


def hash_values(y_hat: np.ndarray) -> bytes:
    """:func:`compressai.bitstream.hash_latent` of an array."""
    # Plus 0 makes one zero of both.
    values = np.ascontiguousarray(y_hat, dtype="<f4") + np.float32(0)
    return hashlib.sha256(memoryview(values).cast("B")).digest()[:8]


def quality_on_scale(low: float, high: float, wanted: float) -> float:
    """A quality of a model that has a scale, as nearly as files tell it.

    Args:
        low, high: ends of the scale.
        wanted: the quality.

    Raises:
        ValueError: it is not on the scale.
    """
    if not low <= wanted <= high:
        raise ValueError(f"quality of this model must be in {low:g} ... {high:g}, got {wanted}")
    return round(wanted * QUALITY_STEPS) / QUALITY_STEPS


def level_of(quality: float | None, levels: int) -> int:
    """The level, from 0, of a model that has so many.

    Args:
        quality: 1 to the number of levels; ``None`` is the highest.
        levels: their number.

    Raises:
        ValueError: there is no such level.
    """
    if isinstance(quality, float):
        raise ValueError(f"quality of this model must be a whole number, got {quality}")
    if quality is None:
        return levels - 1
    if not 1 <= quality <= levels:
        raise ValueError(f"quality of this model must be between 1 and {levels}, got {quality}")
    return quality - 1
