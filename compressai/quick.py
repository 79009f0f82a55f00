# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Images to bytes and back in one call each."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from compressai.bitstream import CodedImage
from compressai.bitstream.chosen import decoding_bundle
from compressai.bitstream.decoding import decode_image
from compressai.bitstream.encoding import encode_image
from compressai.bitstream.errors import UnknownModelError, WrongWeightsError
from compressai.bitstream.image import read_image
from compressai.bitstream.reading import parse_coded
from compressai.registry.entries import ENTRIES
from compressai.runtime.installed import installed_bundle
from compressai.runtime.model import RuntimeModel
from compressai.zoo.defaults import DEFAULT_METRIC, DEFAULT_MODEL

__all__ = ["decode", "encode"]


def encode(
    image: str | os.PathLike[str] | bytes | BinaryIO | Image.Image, quality: float = 75
) -> bytes:
    """Code an image with the default model.

    Without torch where a bundle of the model is at hand (see ``docs/bundle.md``), else with it.

    Args:
        image: a file, by name or open; its content, as any object of bytes; or an image of Pillow.
        quality: 0 to 100, as for JPEG files: more is better and larger.

    Returns:
        The content of a ``.cai`` file.

    Raises:
        OSError, ValueError: the image cannot be read, or ``quality`` is out of range.
        TypeError: ``image`` is of another kind, or ``quality`` is no number.
    """
    if isinstance(quality, bool) or not isinstance(quality, (int, float, np.number)):
        raise TypeError(f"quality must be a number, got {type(quality).__name__}")
    if isinstance(image, (bytearray, memoryview)):
        image = bytes(image)
    if not (isinstance(image, (str, os.PathLike, bytes, Image.Image)) or hasattr(image, "read")):
        raise TypeError(
            "image must be a file, its content, or an image of Pillow (PIL.Image.fromarray makes "
            f"one of an array), got {type(image).__name__}"
        )
    if isinstance(image, io.TextIOBase):
        raise TypeError("image must be a file that is open for bytes, got one of text")
    if not 0 <= quality <= 100:
        raise ValueError(f"quality must be 0 to 100, got {quality}")
    net = _bundle(quality) or _torch_model(DEFAULT_MODEL, quality, DEFAULT_METRIC)
    source: Any = io.BytesIO(image) if isinstance(image, bytes) else image
    samples = read_image(source, as_array=isinstance(net, RuntimeModel))
    return encode_image(net, samples, quality=quality).to_bytes()


def decode(data: bytes | str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Decode an image that was coded with a model whose weights are at hand.

    Args:
        data: the content of a ``.cai`` file, as any object of bytes, or the file, by name or open.

    Returns:
        An image of mode L, LA, RGB or RGBA.

    Raises:
        BitstreamError: the file is damaged, or its weights are not at hand.
        OSError, ValueError: it cannot be read.
        TypeError: ``data`` is of another kind.
    """
    if isinstance(data, str) and not data:
        raise ValueError("data must be the name of a file, got an empty one")
    if isinstance(data, (str, os.PathLike)):
        content: Any = Path(data).read_bytes()
    else:
        content = data.read() if hasattr(data, "read") else data
    # bytes() of a number would be as many zeros.
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise TypeError(
            f"data must be the content of a file, or the file, got {type(content).__name__}"
        )
    coded = parse_coded(bytes(content))
    return decode_image(_model_of(coded), coded).to_image()


def _model_of(coded: CodedImage) -> Any:
    if coded.quality is None or coded.random_weights:
        raise WrongWeightsError(
            f"the file was coded with weights of {coded.model} that have no name: decode it with "
            "compressai.bitstream.decode_image and the model that coded it"
        )
    return decoding_bundle(coded) or _torch_model(
        coded.model, coded.quality, coded.metric or DEFAULT_METRIC
    )


def _bundle(quality: float) -> RuntimeModel | None:
    try:
        return installed_bundle(DEFAULT_MODEL, quality, DEFAULT_METRIC)
    except ImportError:
        return None


def _torch_model(model: str, quality: float, metric: str) -> Any:
    # Slow to import, and not needed where there is a bundle.
    from compressai.zoo import image_models

    if model not in image_models:
        raise UnknownModelError(
            f"the file was coded with {model}, which this version does not know: update it"
        )
    # The same weights serve a whole scale.
    chosen = None if ENTRIES[model].scale else quality
    try:
        return image_models[model](chosen, metric, pretrained=True).eval()
    except RuntimeError as error:
        raise WrongWeightsError(str(error)) from error
    except ValueError as error:
        raise UnknownModelError(f"the file names weights that do not exist: {error}") from error
