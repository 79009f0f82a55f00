# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Pictures of all kinds to tensors that a model takes, and back."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from torch import Tensor

from compressai.bitstream.errors import DamagedFileError

__all__ = ["Picture", "read_picture"]


@dataclass
class Picture:
    """A picture as a model sees it.

    Attributes:
        pixels: float32 ``(3, H, W)`` in [0, 1], sRGB.
        alpha: 8-bit alpha plane, or ``None`` if every pixel is opaque.
        grey: whether the picture has no colours.
        notes: sentences on what of the source is not kept.
    """

    pixels: Tensor
    alpha: Image.Image | None = None
    grey: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def mode(self) -> str:
        """Pillow's name of the colour mode: ``L``, ``LA``, ``RGB`` or ``RGBA``."""
        return ("L" if self.grey else "RGB") + ("A" if self.alpha is not None else "")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]

    def alpha_png(self) -> bytes:
        """The alpha plane as a PNG file; empty if there is none."""
        if self.alpha is None:
            return b""
        buffer = io.BytesIO()
        self.alpha.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue()

    def to_image(self) -> Image.Image:
        """An 8-bit picture of Pillow, in the colour mode :attr:`mode`."""
        values = self.pixels.mul(255).round().clamp(0, 255).to(torch.uint8)
        image = Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())
        if self.grey:
            image = image.convert("L")
        if self.alpha is not None:
            image.putalpha(self.alpha)
        return image

    @classmethod
    def from_decoded(cls, pixels: Tensor, mode: str, alpha_png: bytes) -> Picture:
        """Put a decoded picture together; see the attributes.

        Raises:
            DamagedFileError: the alpha plane cannot be read, or has another size.
        """
        alpha = None
        if alpha_png:
            try:
                with Image.open(io.BytesIO(alpha_png), formats=("PNG",)) as image:
                    if image.size != (pixels.shape[2], pixels.shape[1]):
                        raise DamagedFileError("the alpha plane has another size than the picture")
                    alpha = image.convert("L")
            except (OSError, SyntaxError) as error:
                raise DamagedFileError(f"the alpha plane is damaged: {error}") from error
        return cls(pixels, alpha, grey=mode.startswith("L"))


def read_picture(source: str | Path | BinaryIO | Image.Image) -> Picture:
    """Read a picture of any kind that Pillow knows.

    EXIF orientation is applied; embedded colour profiles and CMYK are converted to sRGB; palettes
    become colours; 16-bit greyscale keeps its precision up to the network's input; transparency
    is kept as an alpha plane. What is lost is told in :attr:`Picture.notes`.

    Args:
        source: a file, or a picture of Pillow.

    Returns:
        The picture.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture, or damaged.
    """
    if isinstance(source, Image.Image):
        return _convert(source)
    try:
        with Image.open(source) as image:
            return _convert(image)
    except UnidentifiedImageError as error:
        raise ValueError(f"{source} is no picture that can be read: {error}") from error
    except (SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{source} cannot be read: {error}") from error
    except OSError as error:
        if isinstance(error, (FileNotFoundError, IsADirectoryError, PermissionError)):
            raise
        raise ValueError(f"{source} is damaged: {error}") from error


def _convert(image: Image.Image) -> Picture:
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append(f"only the first of {image.n_frames} frames is kept")
    if _has_wide_colours(image):
        notes.append("16-bit colours are reduced to 8 bits")
    profile = image.info.get("icc_profile")
    if len(image.getexif()) > 0 or "xmp" in image.info:
        notes.append("metadata (EXIF, XMP) is not kept; the orientation is applied")
    image = ImageOps.exif_transpose(image)

    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        notes.append("greyscale of more than 8 bits is decoded to 8 bits")
        grey = torch.from_numpy(_wide_grey(image))
        return Picture(grey.expand(3, *grey.shape).contiguous(), grey=True, notes=notes)
    alpha = None
    if image.has_transparency_data:
        image = image.convert("LA" if image.mode in ("1", "L", "LA", "La") else "RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema() == (255, 255):
            alpha = None
    if image.mode == "CMYK":
        notes.append("CMYK is converted to sRGB")
    grey = image.mode in ("1", "L", "LA", "La")
    if profile and not grey:
        image = _to_srgb(image, profile, notes)
    rgb = np.asarray(image.convert("RGB"), dtype=np.float32)
    pixels = torch.from_numpy(rgb / np.float32(255)).permute(2, 0, 1).contiguous()
    return Picture(pixels, alpha, grey, notes)


def _has_wide_colours(image: Image.Image) -> bool:
    """Whether Pillow drops the lower half of 16-bit colours while it decodes."""
    tiles = getattr(image, "tile", None) or ()
    return image.mode in ("RGB", "RGBA") and any(";16" in str(tile[3]) for tile in tiles)


def _wide_grey(image: Image.Image) -> np.ndarray:
    values = np.asarray(image).astype(np.float32)
    if image.mode == "F" and values.size and values.max() <= 1:
        return values.clip(0, 1)
    return (values / np.float32(65535)).clip(0, 1)


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        colours = image.convert("RGB") if image.mode not in ("RGB", "CMYK") else image
        converted = ImageCms.profileToProfile(
            colours, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError) as error:
        notes.append(f"the embedded colour profile cannot be used ({error}) and is dropped")
        return image
    notes.append("colours are converted from the embedded profile to sRGB")
    return image if converted is None else converted
