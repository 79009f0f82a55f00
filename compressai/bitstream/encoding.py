# SPDX-License-Identifier: BSD-3-Clause-Clear
"""From an image to a coded image, with any image model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from compressai._moved import old_arguments, old_names
from compressai.bitstream._engine import Engine, hash_values, padded_tile
from compressai.bitstream._engines import engine_of
from compressai.bitstream.container import CodedImage, CodedTile
from compressai.bitstream.image import ImageData
from compressai.bitstream.limits import MAX_PIXELS, excess_of, excess_of_tiles
from compressai.bitstream.tiling import Tiling, padded_side
from compressai.entropy_models._interleaving import interleaved_strings

if TYPE_CHECKING:
    from torch import nn

    from compressai.runtime import RuntimeModel

__all__ = ["TILE_OVERLAP", "TILE_SIZE", "choose_tiling", "encode_image", "encoding_bytes"]

__getattr__ = old_names(__name__)

# So that an image of four megapixels has regions.
TILED_ABOVE = 3 * 2**20
TILE_SIZE = 1024
TILE_OVERLAP = 32


@old_arguments(picture="image")
def encode_image(
    net: nn.Module | RuntimeModel,
    image: ImageData,
    *,
    model: str | None = None,
    quality: float | None = None,
    metric: str | None = None,
    random_weights: bool = False,
    max_pixels: int = MAX_PIXELS,
    tile: int | Literal["auto"] | None = "auto",
    tile_overlap: int | None = None,
    sync_safe: bool | None = None,
    hash_y_hat: bool | None = None,
    workers: int | None = None,
    effort: int = 1,
    lmbda: float | None = None,
    progress: Callable[[float], None] | None = None,
    interleave: bool = True,
) -> CodedImage:
    """Code an image.

    Memory is bounded by the pixels (12 bytes for each) and the activations of ``workers`` tiles.

    Args:
        net: the model, of torch or of a bundle. Several threads may use one.
        image: what to code. Its ``icc`` and ``exif`` are kept, see :func:`read_image`.
        model, quality, metric, random_weights: what the file says about the weights, see
            :class:`CodedImage`; without ``model``, what the net knows of itself, as of the zoo
            or of :func:`compressai.load`. For a variable-rate model, ``quality`` is its level from
            1; the highest if ``None``.
        max_pixels: largest area, padding included, that is coded. The limit of memory for a tile
            is that of :func:`~compressai.bitstream.decode_image`.
        tile: side of the tiles that the image is cut into, in pixels, a multiple of what the
            model asks for (64 always is one, or 128 or 256 for models with windows); ``None`` for
            no tiles; ``"auto"`` takes 1024 for images above 3 * 2^20 pixels and else none.
        tile_overlap: pixels that neighbouring tiles share and in which they are blended into each
            other; at most half of ``tile``. Default: 32.
        sync_safe: code so that differences in floating-point rounding between machines do not
            matter. Default: where the model can.
        hash_y_hat: store a hash of the latent, which the decoder compares. Default: where the
            latent is the same to the bit on every machine, which is what ``sync_safe`` is for;
            elsewhere it would refuse files for differences that nobody sees.
        workers: how many tiles are coded at a time. Default: up to 4, as torch has threads.
        effort, lmbda: from 2 to 9, work longer for a better file, see
            :func:`~compressai.inference.compress_with_effort`. One tile at a time then.
        progress: with an effort: called with the share of the work that is done, now and then.
        interleave: give strings of 32768 bytes or more the interleaved layout, which decodes 1.6
            times as fast and takes less than 0.1 % more; see the page on the bitstream. Without,
            the file has the strings that ``net.compress`` gives, however long they are.

    Returns:
        The coded image.

    Raises:
        ValueError: ``model`` is needed, the image has no pixels or too many, the network gives
            values that are not finite, it uses another entropy coder than that of the format, has
            no such level, or cannot do what ``sync_safe`` or ``hash_y_hat`` ask for; ``tile``,
            ``tile_overlap``, ``workers``, ``effort`` or ``lmbda`` do not fit.
    """
    engine = engine_of(net)
    engine.check_coder()
    told = _told(engine, model, quality, metric, random_weights)
    if effort != 1:
        # Needs torch.
        from compressai.models.effort import check_effort

        check_effort(effort)
    width, height = image.size
    if not width or not height:
        raise ValueError(f"the image must have pixels, got {width} x {height}")
    multiple = engine.multiple
    tiling = choose_tiling(width, height, tile, tile_overlap, multiple)
    problem = excess_of(tiling, range(tiling.count), multiple, max_pixels)
    if problem:
        raise ValueError(problem)
    if sync_safe and not engine.supports_sync_safe:
        raise ValueError(f"sync_safe must be False for {engine.name}, which cannot do it")
    if sync_safe is None:
        sync_safe = engine.supports_sync_safe
    level = engine.rate_level(told.quality)

    def encode_tile(index: int) -> CodedTile:
        box = tiling[index]
        more: dict[str, Any] = {}
        if effort != 1:
            more = {
                "effort": effort,
                "lmbda": lmbda,
                "metric": told.metric or "mse",
                "size": (box.height, box.width),
                "progress": progress and (lambda share: progress((index + share) / tiling.count)),
            }
        padded = padded_tile(image.pixels, box, multiple)
        with interleaved_strings(interleave):
            strings, y_hat = engine.encode(padded, sync_safe, rate, **more)
        return CodedTile(tuple(strings), _hash_of(y_hat, engine, sync_safe, hash_y_hat))

    with engine.prepared_for(level) as rate:
        indexes = range(tiling.count)
        problem = excess_of_tiles(engine, tiling, indexes, max_pixels, rate)
        if problem:
            raise ValueError(problem)
        workers = workers if effort == 1 else 1
        tiles = tuple(engine.map_in_order(encode_tile, indexes, workers))
        weights = engine.fingerprint()
    return CodedImage(
        model=told.model,
        quality=level if isinstance(level, float) else told.quality,
        metric=told.metric,
        random_weights=told.random_weights,
        fingerprint=weights,
        width=width,
        height=height,
        mode=image.mode,
        tiles=tiles,
        tile_size=tiling.size,
        tile_overlap=tiling.overlap,
        sync_safe=sync_safe,
        source_mode=image.source_mode or image.mode,
        alpha=image.alpha_png(),
        icc=image.icc,
        exif=image.exif,
    )


class _Told(NamedTuple):
    """What the file says about the weights, see :class:`CodedImage`."""

    model: str
    quality: float | None
    metric: str | None
    random_weights: bool


def _told(
    engine: Engine,
    model: str | None,
    quality: float | None,
    metric: str | None,
    random_weights: bool,
) -> _Told:
    """What the caller says, else what the net knows."""
    if model is not None:
        return _Told(model, quality, metric, random_weights)
    known = engine.identity
    if known is None:
        raise ValueError(
            f"model must be given for this {engine.name}, which neither the zoo nor "
            "compressai.load() has made"
        )
    if metric is not None or random_weights:
        raise ValueError("metric and random_weights need a model, which the net knows else")
    if quality is None or quality == known.quality:
        quality = known.quality
    elif engine.rate_level(None) is None:
        raise ValueError(f"quality of this net is {known.quality}, got {quality}")
    level = engine.rate_level(quality) if quality is None and known.weights else None
    if isinstance(level, int):
        # Weights of the zoo are found by a quality; that of a scale is noted by the caller.
        quality = level + 1
    return _Told(known.model, quality, known.metric, known.random_weights)


def encoding_bytes(
    net: nn.Module | RuntimeModel,
    image: ImageData,
    *,
    quality: float | None,
    tile: int | str | None = "auto",
    effort: int = 1,
) -> int:
    """About how many bytes :func:`encode_image` takes beside the image, in this thread.

    Args:
        net, image, quality, tile, effort: as there.
    """
    engine = engine_of(net)
    tiling = choose_tiling(*image.size, tile, None, engine.multiple)
    with engine.prepared_for(engine.rate_level(quality)) as rate:
        needed = engine.tiles_bytes(tiling, rate)
    if effort == 1:
        return needed
    # Needs torch.
    from compressai.models.effort import GRADIENT_BYTES

    return GRADIENT_BYTES * needed


def choose_tiling(
    width: int, height: int, tile: int | str | None, overlap: int | None, multiple: int
) -> Tiling:
    """The tiles that :func:`encode_image` cuts an image of that size into."""
    if tile == "auto":
        tile = None if width * height <= TILED_ABOVE else padded_side(TILE_SIZE, multiple)
    elif isinstance(tile, str):
        raise ValueError(f"tile must be 'auto', a number of pixels, or None, got {tile!r}")
    if tile is None:
        return Tiling(width, height)
    if tile <= 0 or tile % multiple:
        raise ValueError(f"tile must be a positive multiple of {multiple}, got {tile}")
    overlap = min(TILE_OVERLAP, tile // 2) if overlap is None else overlap
    tiling = Tiling(width, height, tile, overlap)
    return tiling if tiling.count > 1 else Tiling(width, height)


def _hash_of(
    y_hat: np.ndarray | None, engine: Engine, sync_safe: bool, hash_y_hat: bool | None
) -> bytes:
    if hash_y_hat and y_hat is None:
        raise ValueError(
            f"hash_y_hat must be False for {engine.name}, whose compress gives no y_hat"
        )
    if hash_y_hat is None:
        hash_y_hat = y_hat is not None and (sync_safe or engine.exact)
    return hash_values(y_hat) if hash_y_hat and y_hat is not None else b""
