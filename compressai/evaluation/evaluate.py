# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Codecs, images and metrics brought together."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from PIL import Image

from compressai._moved import old_arguments
from compressai.bitstream import ImageData, read_image
from compressai.evaluation.codecs import Coded, ImageCodec
from compressai.evaluation.metrics import (
    LPIPS,
    MS_SSIM,
    MS_SSIM_MIN_SIDE,
    PSNR,
    compute_metrics,
)
from compressai.evaluation.results import EmbeddedImage, Evaluation, Point

__all__ = ["evaluate", "evaluate_image"]

Source = str | os.PathLike[str]


@old_arguments(pictures="images", keep_pictures="keep_images")
def evaluate(
    images: Iterable[Source],
    codecs: Sequence[ImageCodec],
    against: Sequence[ImageCodec] = (),
    *,
    lpips: bool = False,
    keep_images: bool = False,
    on_point: Callable[[Point], None] | None = None,
) -> Evaluation:
    """Code every image with every codec at each of its qualities, and measure.

    Rates count all bytes of the coded files. Metrics compare 8-bit RGB; transparency is left out
    for all codecs alike. Times are those of single runs on a machine that does other things, too.

    Args:
        images: files.
        codecs: codecs under test.
        against: codecs to compare them with.
        lpips: also compute LPIPS, see :func:`compressai.evaluation.lpips`.
        keep_images: keep what was decoded, which :meth:`Evaluation.to_html` needs.
        on_point: called with each point as it comes, to show progress.

    Returns:
        The figures.

    Raises:
        ValueError: no images or codecs, two codecs of the same name, or a file that is no
            image.
        OSError: a file cannot be read.
    """
    files = [Path(file) for file in images]
    both = [*codecs, *against]
    if not files or not codecs:
        raise ValueError(
            f"at least one image and one codec are needed, got {len(files)} and {len(codecs)}"
        )
    twice = [name for name, count in Counter(c.name for c in both).items() if count > 1]
    if twice:
        raise ValueError(f"codecs must have different names, got several {', '.join(twice)}")

    result = Evaluation(
        tested=[codec.name for codec in codecs],
        against=[codec.name for codec in against],
        descriptions={codec.name: codec.description for codec in both},
    )
    for name, file in zip(_names(files), files):
        image = opaque(read_image(file))
        if keep_images:
            result.embedded[name, None, None] = embed(image)
        for codec in both:
            for quality in codec.qualities:
                coded = codec.code(image, quality)
                point = evaluate_image(image, coded, name, codec.name, quality, lpips=lpips)
                result.points.append(point)
                if keep_images:
                    media_type = codec.media_type
                    result.embedded[name, codec.name, quality] = (
                        embed(coded.decoded)
                        if media_type is None
                        else EmbeddedImage(media_type, coded.content)
                    )
                if on_point is not None:
                    on_point(point)
    return result


def opaque(image: ImageData) -> Image.Image:
    """What the codecs get: 8-bit RGB without transparency."""
    return ImageData(image.pixels).to_image()


def embed(image: Image.Image) -> EmbeddedImage:
    """An image without loss, for a page."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6)
    return EmbeddedImage("image/png", buffer.getvalue())


def evaluate_image(
    image: Image.Image,
    coded: Coded,
    name: str,
    codec: str,
    quality: object,
    *,
    lpips: bool = False,
) -> Point:
    """Measure one coded image.

    Args:
        image: what was coded, 8-bit RGB.
        coded: what became of it.
        name, codec, quality: names of image, codec and setting.
        lpips: also compute LPIPS.

    Returns:
        The point; ``ms_ssim`` is ``None`` for images with a side below 161 pixels.
    """
    names = [PSNR]
    if min(image.size) >= MS_SSIM_MIN_SIDE:
        names.append(MS_SSIM)
    if lpips:
        names.append(LPIPS)
    values = compute_metrics(image, coded.decoded, names)
    width, height = image.size
    return Point(
        image=name,
        codec=codec,
        quality=quality,
        width=width,
        height=height,
        bytes=len(coded.content),
        psnr=values[PSNR],
        ms_ssim=values.get(MS_SSIM),
        lpips=values.get(LPIPS),
        encode_seconds=coded.encode_seconds,
        decode_seconds=coded.decode_seconds,
    )


def _names(files: Sequence[Path]) -> list[str]:
    """File names, or whole paths where names are not enough to tell files apart."""
    counts = Counter(file.name for file in files)
    return [file.name if counts[file.name] == 1 else str(file) for file in files]
