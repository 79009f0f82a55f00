# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image files of every kind as sRGB samples: for coding, for training, for evaluation alike.

This package knows Pillow and what it leaves out; models and coded files are floors above.
"""

from __future__ import annotations

from compressai._images.reading import (
    MAX_PIXELS,
    Samples,
    buffer_image,
    check_pixels,
    find_images,
    image_suffixes,
    oriented_size,
    read_rgb,
    read_samples,
    read_size,
)

__all__ = [
    "MAX_PIXELS",
    "Samples",
    "buffer_image",
    "check_pixels",
    "find_images",
    "image_suffixes",
    "oriented_size",
    "read_rgb",
    "read_samples",
    "read_size",
]
