# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Samples of all of Pillow's modes to sRGB, with a note on everything that is lost."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

__all__ = ["WHITE", "RefusedImageError", "to_rgb", "to_rgb_image"]

_GREY = ("1", "L", "LA", "La")
# Where ``info`` of an image tells the value of white, if that is none of those in use.
WHITE = "compressai_white"
_WIDE_GREY = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")


class RefusedImageError(ValueError):
    """An image that is intact, but not taken."""


def to_rgb(image: Image.Image, notes: list[str]) -> tuple[np.ndarray, Image.Image | None, bool]:
    """Separate an image into colours and transparency.

    Args:
        image: an image of any mode, upright. ``info`` may tell the value of white as
            :data:`WHITE`.
        notes: gets a sentence for everything that is lost.

    Returns:
        ``(pixels, alpha, grey)``: float32 ``(3, H, W)`` in [0, 1], sRGB; the 8-bit alpha plane or
        ``None`` if all is opaque; whether there are no colours.

    Raises:
        ValueError: samples are not finite, or of a mode that cannot be converted.
    """
    if image.mode in _WIDE_GREY:
        grey = _wide_grey(image, notes)
        pixels = np.broadcast_to(grey, (3, *grey.shape)).copy()
        return pixels, _alpha_of_wide_grey(image), True
    image, alpha, is_grey = _split(image, notes)
    pixels = np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")
    pixels /= np.float32(255)
    return pixels, alpha, is_grey


def to_rgb_image(image: Image.Image, notes: list[str]) -> Image.Image:
    """The colours of :func:`to_rgb` in 8 bits.

    Args:
        image, notes: as there.

    Returns:
        An image of mode RGB.

    Raises:
        ValueError: as there.
    """
    if image.mode in _WIDE_GREY:
        grey = np.rint(_wide_grey(image, notes) * np.float32(255)).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return _split(image, notes)[0]


def _split(image: Image.Image, notes: list[str]) -> tuple[Image.Image, Image.Image | None, bool]:
    """8-bit RGB, the alpha plane if not all is opaque, and whether there are no colours."""
    alpha = None
    profile = image.info.get("icc_profile")
    grey = image.mode in _GREY
    if image.has_transparency_data:
        image = image.convert("LA" if grey else "RGBA")
        alpha = _unless_opaque(image.getchannel("A"))
        image = image.convert("L" if grey else "RGB")
    if profile:
        image = _apply_profile(image, profile, notes)
    if image.mode == "CMYK":
        notes.append("CMYK without a usable colour profile is converted to RGB by rule of thumb")
    return image.convert("RGB"), alpha, grey


def _unless_opaque(alpha: Image.Image) -> Image.Image | None:
    return None if alpha.getextrema() == (255, 255) else alpha


def _wide_grey(image: Image.Image, notes: list[str]) -> np.ndarray:
    """Greyscale of more than 8 bits, whose white no mode of Pillow defines but 16 bits."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise RefusedImageError("the image holds samples that are not finite")
    white = image.info.get(WHITE, 65535)
    if image.mode == "F":
        # The three ranges in use: of computer graphics, of Pillow, and of scientific cameras.
        highest = values.max(initial=0)
        white = 1 if highest <= 1 else 255 if highest <= 255 else 65535
    notes.append(f"greyscale from 0 to {white} (white) is decoded to 8 bits")
    if values.min(initial=0) < 0 or values.max(initial=0) > white:
        notes.append(f"samples outside of 0 to {white} are clipped")
    if image.info.get("icc_profile"):
        notes.append("the embedded colour profile is dropped")
    return (values.astype(np.float32) / np.float32(white)).clip(0, 1)


def _alpha_of_wide_grey(image: Image.Image) -> Image.Image | None:
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return None
    opaque = np.where(np.asarray(image) == transparent, 0, 255).astype(np.uint8)
    return _unless_opaque(Image.fromarray(opaque))


def _apply_profile(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """The image in sRGB; as it is if that is what the profile describes, or if it is no use."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        if image.mode not in ("L", "RGB", "CMYK"):
            image = image.convert("L" if image.mode in _GREY else "RGB")
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        notes.append(f"the embedded colour profile cannot be used ({error}) and is dropped")
        return image
    notes.append("colours are converted from the embedded profile to sRGB")
    return converted
