# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Classical codecs to compare with, through the libraries that have them.

Each is asked to do its best at what it is commonly used for: lossy 8-bit colours. External programs
are in ``external.py``, learned models in ``model.py``.
"""

from __future__ import annotations

import io
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import PIL
from PIL import Image, features

from compressai.evaluation._extras import require

__all__ = ["CODECS", "Coded", "ImageCodec", "PillowCodec", "find_codec"]


@dataclass(frozen=True)
class Coded:
    """An image that went through a codec.

    Attributes:
        content: all bytes of the coded file.
        decoded: 8-bit RGB image.
        encode_seconds: from pixels in memory to the bytes, wall clock.
        decode_seconds: from the bytes to pixels in memory, wall clock.
    """

    content: bytes
    decoded: Image.Image
    encode_seconds: float
    decode_seconds: float


class ImageCodec(ABC):
    """Something that turns images into bytes and bytes into images.

    Attributes:
        name: short name, unique among the codecs of an evaluation.
        description: which implementation, with its version.
        qualities: the settings that make a rate-distortion curve.
        media_type: what browsers call the coded files if they can show them, else ``None``.
    """

    name: str
    description: str
    qualities: tuple[Any, ...]
    media_type: str | None = None

    def identity(self) -> dict[str, Any]:
        """What tells this codec from others whose figures must not be mixed, as JSON data."""
        return {"name": self.name, "description": self.description}

    @abstractmethod
    def code(self, image: Image.Image, quality: Any) -> Coded:
        """Code an image and decode it again.

        Args:
            image: 8-bit RGB image.
            quality: on the codec's own scale.

        Returns:
            The bytes and what they decode to.

        Raises:
            ValueError: there is no such quality.
        """


@dataclass(frozen=True)
class _Format:
    """A format of Pillow.

    Attributes:
        options: for :meth:`PIL.Image.Image.save`, of a quality.
        bounds: lowest and highest quality.
        qualities: a sweep for a curve.
        media_type: see :class:`ImageCodec`.
        feature: how :mod:`PIL.features` calls it, if it may be left out of a build.
        plugin: module that teaches Pillow the format, and the extra that brings it.
    """

    options: Callable[[float], dict[str, Any]]
    bounds: tuple[float, float]
    qualities: tuple[float, ...]
    media_type: str | None = None
    feature: str | None = None
    plugin: tuple[str, str] | None = None


_PERCENT = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)

_FORMATS: Mapping[str, _Format] = {
    "JPEG": _Format(
        lambda q: {"quality": q, "optimize": True, "subsampling": "4:2:0"},
        (0, 100),
        (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95),
        "image/jpeg",
    ),
    "WEBP": _Format(
        lambda q: {"quality": q, "method": 6}, (0, 100), (0, *_PERCENT), "image/webp", "webp"
    ),
    "AVIF": _Format(lambda q: {"quality": q, "speed": 6}, (0, 100), _PERCENT, "image/avif", "avif"),
    "JXL": _Format(
        lambda q: {"quality": q, "effort": 7, "lossless": False},
        (0, 100),
        (*_PERCENT, 97),
        plugin=("pillow_jxl", "jxl"),
    ),
    # Qualities are the PSNR in dB that OpenJPEG aims at. 0 would be lossless.
    "JPEG2000": _Format(
        lambda q: {
            "quality_mode": "dB",
            "quality_layers": [q],
            "irreversible": True,
            "mct": 1,
            "no_jp2": True,
        },
        (1, 100),
        (20, 22, 24, 26, 28, 30, 32, 34, 36, 38, 40, 42, 44),
        feature="jpg_2000",
    ),
}


class PillowCodec(ImageCodec):
    """A format that Pillow, or a plugin of it, writes and reads in memory.

    ``JPEG`` (quality 0 to 100, optimised tables, 4:2:0), ``WEBP`` (method 6), ``AVIF`` (speed 6),
    ``JXL`` (effort 7; extra ``jxl``), all 0 to 100; ``JPEG2000`` (bare codestream, irreversible
    transform; the quality is the PSNR in dB to aim at, 1 to 100).

    Args:
        format: one of these.
        options: for :meth:`PIL.Image.Image.save` in place of those above, of a quality.

    Raises:
        ValueError: another format.
        ImportError: this Pillow cannot write it; says what to install.
    """

    def __init__(
        self, format: str, options: Callable[[float], dict[str, Any]] | None = None
    ) -> None:
        if format not in _FORMATS:
            raise ValueError(f"format must be one of {', '.join(_FORMATS)}, got {format!r}")
        kind = _FORMATS[format]
        self.name = format.lower()
        self.description = f"{format}. Pillow version {PIL.__version__}"
        if kind.plugin is not None:
            require(*kind.plugin, f"the codec {self.name}")
            plugin = kind.plugin[0].replace("_", "-") + "-plugin"
            self.description = f"{format}. {plugin} version {version(plugin)}"
        elif kind.feature is not None and not features.check(kind.feature):
            raise ImportError(
                f"this build of Pillow ({PIL.__version__}) cannot write {format}: "
                "pip install --upgrade pillow"
            )
        self.qualities = kind.qualities
        self.media_type = kind.media_type
        self._format = format
        self._bounds = kind.bounds
        self._options = options or kind.options

    def code(self, image: Image.Image, quality: float) -> Coded:
        low, high = self._bounds
        if not low <= quality <= high:
            raise ValueError(
                f"quality of {self.name} must be between {low} and {high}, got {quality}"
            )
        # Pillow would put the profile and texts of the source into some kinds of files.
        bare = image.copy()
        bare.info.clear()
        buffer = io.BytesIO()
        start = time.perf_counter()
        bare.save(buffer, format=self._format, **self._options(quality))
        between = time.perf_counter()
        buffer.seek(0)
        with Image.open(buffer, formats=(self._format,)) as coded:
            decoded = coded.convert("RGB")
        end = time.perf_counter()
        return Coded(buffer.getvalue(), decoded, between - start, end - between)


CODECS: dict[str, Callable[[], ImageCodec]] = {
    format.lower(): lambda format=format: PillowCodec(format) for format in _FORMATS
}


def find_codec(name: str) -> ImageCodec:
    """A classical codec by its name.

    Args:
        name: key of :data:`CODECS`: ``jpeg``, ``webp``, ``avif``, ``jxl``, ``jpeg2000``.

    Returns:
        The codec, with the settings that :class:`PillowCodec` tells.

    Raises:
        ValueError: unknown name.
        ImportError: its library is not installed.
    """
    if name not in CODECS:
        raise ValueError(f"codec must be one of {', '.join(CODECS)}, got {name!r}")
    return CODECS[name]()
