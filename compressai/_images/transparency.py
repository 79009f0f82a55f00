# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The transparent colour of PNG files, which Pillow does not scale as it scales the samples."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image

from compressai._images.losses import file_of, png_chunks

__all__ = ["Transparency"]

# What Pillow makes of samples of so many bits: 0 ... 255, or 0 ... 65535.
_SCALES = {"1": 255, "L;2": 85, "L;4": 17, "L": 1, "I;16B": 1}
_BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "I;16B": 16}


class Transparency:
    """What a PNG file says about its transparent colour; of other images, nothing.

    Args:
        image: as ``Image.open`` gives it, not loaded.
    """

    def __init__(self, image: Image.Image) -> None:
        self._value: int | None = None
        self._alpha: Image.Image | None = None
        self._grey = False
        file, tiles = file_of(image), getattr(image, "tile", None)
        if not tiles:
            return
        layout = tiles[0][3]
        # Pillow has no mode for 16-bit grey with alpha and gives RGBA.
        self._grey = str(layout).startswith("LA;16")
        if image.format != "PNG" or file is None or image.mode == "P":
            return
        colour = png_chunks(file).get(b"tRNS", b"")
        if layout in _SCALES and len(colour) >= 2:
            # Only as many bits count as the samples have (PNG specification, 11.3.1.1).
            value = int.from_bytes(colour[:2], "big") & (2 ** _BITS[layout] - 1)
            self._value = value * _SCALES[layout]
        elif layout == "RGB;16B" and len(colour) >= 6:
            self._alpha = _exact_alpha(image, struct.unpack(">3H", colour[:6]))

    def apply(self, image: Image.Image) -> Image.Image:
        """The loaded image, with the right transparency."""
        if self._value is not None:
            image.info["transparency"] = self._value
        if self._alpha is not None:
            image.info.pop("transparency", None)
            image.putalpha(self._alpha)
        if self._grey:
            image = image.convert("LA")
        return image


def _exact_alpha(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Where 16-bit colours differ from the transparent one, although Pillow keeps only 8 bits.

    Read as if they were little-endian, the lower halves are what Pillow takes for the upper ones.
    """
    file = image.fp
    position = file.tell()
    halves = []
    for layout in ("RGB;16B", "RGB;16L"):
        with Image.open(file, formats=("PNG",)) as half:
            half.tile = [tile._replace(args=layout) for tile in half.tile]
            half.load()
            halves.append(np.asarray(half))
    file.seek(position)
    high, low = (np.array([c >> shift & 255 for c in colour], np.uint8) for shift in (8, 0))
    differs = ((halves[0] != high) | (halves[1] != low)).any(-1)
    return Image.fromarray(np.where(differs, 255, 0).astype(np.uint8))
