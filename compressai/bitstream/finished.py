# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Whether an image need not be coded again, since a file is what coding it would give."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressai.bitstream._engines import engine_of
from compressai.bitstream.container import CodedImage
from compressai.bitstream.encoding import choose_tiling
from compressai.bitstream.errors import BitstreamError
from compressai.bitstream.image import read_image

if TYPE_CHECKING:
    from torch import nn

    from compressai.runtime import RuntimeModel

__all__ = ["is_coded_with", "is_up_to_date"]


def is_coded_with(
    coded: CodedImage,
    net: nn.Module | RuntimeModel,
    *,
    model: str,
    quality: float | None,
    metric: str | None,
    random_weights: bool,
    tile: int | str | None = "auto",
    sync_safe: bool | None = None,
) -> bool:
    """Whether :func:`~compressai.bitstream.encode_image` with these arguments makes such a file.

    Args:
        coded: the file.
        net, model, quality, metric, random_weights, tile, sync_safe: as there. Other arguments, and
            the precision of the transforms, cannot be read off a file and are not compared.
    """
    engine = engine_of(net)
    level = engine.rate_level(quality)
    told = (coded.model, coded.quality, coded.metric, coded.random_weights)
    if told != (model, level if isinstance(level, float) else quality, metric, random_weights):
        return False
    if coded.sync_safe != (engine.supports_sync_safe if sync_safe is None else sync_safe):
        return False
    tiling = choose_tiling(coded.width, coded.height, tile, None, engine.multiple)
    if coded.tiling != tiling:
        return False
    with engine.prepared_for(level):
        return coded.fingerprint == engine.fingerprint()


def is_up_to_date(
    result: Path,
    source: Path,
    net: nn.Module | RuntimeModel,
    *,
    keep_metadata: bool = False,
    **arguments: object,
) -> bool:
    """Whether a file is what coding an image would give, and no older than the image.

    Args:
        result: the coded image.
        source: the image.
        net: the model.
        keep_metadata: as for :func:`~compressai.bitstream.read_image`.
        arguments: as for :func:`is_coded_with`.

    Raises:
        OSError: a file cannot be read.
    """
    if result.stat().st_mtime_ns < source.stat().st_mtime_ns:
        return False
    try:
        coded = CodedImage.from_bytes(result.read_bytes())
    except BitstreamError:
        return False
    has_metadata = bool(coded.icc or coded.exif)
    if has_metadata and not keep_metadata:
        return False
    if not is_coded_with(coded, net, **arguments):  # type: ignore[arg-type]
        return False
    if keep_metadata and not has_metadata:
        image = read_image(source, keep_metadata=True)
        return not (image.icc or image.exif)
    return True
