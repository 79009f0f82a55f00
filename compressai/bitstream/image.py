# SPDX-License-Identifier: BSD-3-Clause-Clear
"""An image as a model sees it, and its way from the files that people have and back to them."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from compressai._files import atomic_write
from compressai._images import MAX_PIXELS, read_samples
from compressai._moved import old_names
from compressai.bitstream.errors import DamagedFileError

__all__ = [
    "ImageData",
    "check_exif",
    "check_icc",
    "check_image_file",
    "read_alpha",
    "read_image",
    "save_image",
]

__getattr__ = old_names(__name__)

# Samples that are made 8-bit at a time, so that a large image takes little memory on its way.
_STRIP = 2**22


@dataclass
class ImageData:
    """An image as a model sees it.

    Attributes:
        pixels: float32 ``(3, H, W)`` in [0, 1], sRGB unless there is an ``icc``; without torch, an
            array of NumPy.
        alpha: 8-bit alpha plane, or ``None`` if every pixel is opaque.
        grey: whether the image has no colours.
        notes: sentences on what of the source is not kept, or, of a damaged file, could not be
            decoded.
        icc: ICC profile that says what the colours mean; empty for sRGB.
        exif: EXIF metadata; empty if there are none.
        source_mode: colour mode of the source, as Pillow calls it; empty if unknown.
    """

    # A union would be refused by type checkers wherever a tensor is asked for.
    pixels: Any
    alpha: Image.Image | None = None
    grey: bool = False
    notes: list[str] = field(default_factory=list)
    icc: bytes = b""
    exif: bytes = b""
    source_mode: str = ""

    @property
    def mode(self) -> str:
        """Pillow's name of the colour mode: ``L``, ``LA``, ``RGB`` or ``RGBA``."""
        return ("L" if self.grey else "RGB") + ("A" if self.alpha is not None else "")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]

    def alpha_png(self) -> bytes:
        """The alpha plane as a PNG file; empty if there is none. :func:`read_alpha` reads it."""
        if self.alpha is None:
            return b""
        buffer = io.BytesIO()
        # A new image: the plane may still carry profile and texts of its source.
        Image.fromarray(np.asarray(self.alpha)).save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    def to_image(self) -> Image.Image:
        """An 8-bit image of Pillow, in the colour mode :attr:`mode`; values are rounded."""
        width, height = self.size
        samples = np.empty((height, width, 3), dtype=np.uint8)
        rows = max(1, _STRIP // max(1, width))
        for top in range(0, height, rows):
            part = self.pixels[:, top : top + rows]
            if not isinstance(part, np.ndarray):
                part = part.detach().float().cpu().numpy()
            strip = np.rint(part * np.float32(255)).clip(0, 255)
            samples[top : top + rows] = strip.astype(np.uint8).transpose(1, 2, 0)
        image = Image.fromarray(samples)
        if self.grey:
            image = image.convert("L")
        if self.alpha is not None:
            image.putalpha(self.alpha)
        return image


def read_alpha(png: bytes, size: tuple[int, int]) -> Image.Image | None:
    """The alpha plane in a coded image.

    Args:
        png: the plane as a PNG file; empty if there is none.
        size: width and height of the image.

    Returns:
        An image of mode ``L``, or ``None``.

    Raises:
        DamagedFileError: it cannot be read, or is not of that size.
    """
    if not png:
        return None
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            if image.size != size or image.mode != "L":
                raise DamagedFileError(
                    f"the alpha plane is {image.mode} of size {image.size}, not L of size {size}"
                )
            image.load()
            return image.copy()
    except DamagedFileError:
        raise
    # Pillow fails in as many ways as a damaged or hostile file can be written.
    except Exception as error:
        raise DamagedFileError(f"the alpha plane is damaged: {error}") from error


def check_icc(profile: bytes) -> bytes:
    """The ICC profile in a coded image, if it looks like one.

    Raises:
        DamagedFileError: it does not.
    """
    if profile and profile[36:40] != b"acsp":
        raise DamagedFileError("the colour profile is none that others could read")
    return profile


def check_exif(exif: bytes, *, tables: bool = False) -> bytes:
    """The EXIF metadata in a coded image, if they can be read.

    Args:
        exif: the metadata.
        tables: whether those of camera, position and interoperability must be readable, too.

    Raises:
        DamagedFileError: they cannot.
    """
    if not exif:
        return b""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # Pillow warns of what is cut, and goes on
            found = Image.Exif()
            found.load(exif)
            for table in (0x8769, 0x8825, 0xA005) if tables else ():
                found.get_ifd(table)
    # Pillow fails in as many ways as damaged or hostile metadata can be written.
    except Exception as error:
        raise DamagedFileError(f"the EXIF metadata are damaged: {error}") from error
    return exif


def read_image(
    source: str | Path | BinaryIO | Image.Image,
    *,
    keep_metadata: bool = False,
    max_pixels: int | None = MAX_PIXELS,
    as_array: bool = False,
) -> ImageData:
    """Read an image of any kind that Pillow knows.

    EXIF orientation is applied; embedded colour profiles and CMYK are converted to sRGB; palettes
    become colours; 16-bit greyscale keeps its precision up to the network's input; transparency
    is kept as an alpha plane. What is lost is told in :attr:`ImageData.notes`: frames, bits of
    samples, gamma, colour spaces and HDR transfer functions that are not converted, metadata.
    8-bit samples become exactly ``sample / 255`` in single precision.

    Args:
        source: a regular file, or an image of Pillow.
        keep_metadata: keep EXIF (but not the orientation, which is applied), and keep RGB or
            greyscale samples as they are, together with the profile that says what they mean,
            instead of converting them: wide colours are not clipped.
        max_pixels: larger images are refused, by the size in their header, before their pixels
            take memory; ``None``: only Pillow's own limit holds.
        as_array: give pixels as an array of NumPy rather than a tensor, without torch.

    Returns:
        The image.

    Raises:
        OSError: the system does not let the file be read: ``FileNotFoundError``,
            ``IsADirectoryError``, ``PermissionError`` and so on.
        ValueError: it is a pipe or a device, no image, damaged, or has more pixels than
            ``max_pixels`` or Pillow's safety limit.
    """
    read = read_samples(source, keep_metadata=keep_metadata, max_pixels=max_pixels)
    pixels: Any = read.pixels
    if not as_array:
        # Slow to import, and not needed to code without it.
        import torch

        pixels = torch.from_numpy(pixels)
    return ImageData(pixels, read.alpha, read.grey, read.notes, read.icc, read.exif, read.mode)


@dataclass(frozen=True)
class _FileKind:
    """What a kind of image file can hold; ``options`` make it hold as much as it can."""

    format: str
    exact: bool = True
    alpha: bool = True
    metadata: bool = True
    options: dict[str, object] = field(default_factory=dict)


_JPEG = _FileKind("JPEG", exact=False, alpha=False, options={"quality": 95, "subsampling": 0})
_KINDS = {
    ".png": _FileKind("PNG"),
    ".tif": _FileKind("TIFF"),
    ".tiff": _FileKind("TIFF"),
    ".webp": _FileKind("WEBP", options={"lossless": True, "exact": True}),
    ".bmp": _FileKind("BMP", alpha=False, metadata=False),
    ".pgm": _FileKind("PPM", alpha=False, metadata=False),
    ".ppm": _FileKind("PPM", alpha=False, metadata=False),
    ".pnm": _FileKind("PPM", alpha=False, metadata=False),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
}
# Of the files that save_image writes.
IMAGE_SUFFIXES = tuple(_KINDS)


def check_image_file(path: str | Path, mode: str, metadata: bool = False) -> str | None:
    """Find out before decoding whether :func:`save_image` can write a file.

    Args:
        path: the file.
        mode: colour mode of the image.
        metadata: whether the image has a colour profile or EXIF.

    Returns:
        A sentence on what the file will not keep, or ``None``.

    Raises:
        ValueError: unknown suffix, or the kind of file cannot hold the mode.
    """
    kind = _kind_of(path)
    if mode.endswith("A") and not kind.alpha:
        raise ValueError(f"{path}: {kind.format} files cannot keep transparency; use .png")
    if metadata and not kind.metadata:
        return f"{kind.format} files do not keep colour profile and EXIF; {path} has none"
    if not kind.exact:
        return f"{kind.format} files are lossy: {path} does not hold the decoded values exactly"
    return None


def save_image(image: ImageData, path: str | Path, *, replace: bool = True) -> None:
    """Write an image as a file of the kind that its suffix names, without loss where it can.

    Args:
        image: the image; its ``icc`` and ``exif`` are written where the kind has a place.
        path: the file; written at once or not at all.
        replace: whether the file is replaced if it exists.

    Raises:
        ValueError: as :func:`check_image_file`.
        FileExistsError: the file exists and is not to be replaced.
        OSError: the file cannot be written.
    """
    check_image_file(path, image.mode)
    kind = _kind_of(path)
    metadata = {"icc_profile": image.icc, "exif": image.exif} if kind.metadata else {}
    options = {**kind.options, **{name: value for name, value in metadata.items() if value}}
    with atomic_write(path, replace=replace) as unfinished:
        image.to_image().save(unfinished, format=kind.format, **options)


def _kind_of(path: str | Path) -> _FileKind:
    suffix = Path(path).suffix.lower()
    if suffix not in _KINDS:
        raise ValueError(f"{path}: the suffix must be one of {' '.join(_KINDS)}, got {suffix!r}")
    return _KINDS[suffix]
