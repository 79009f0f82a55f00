# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image files of every kind as sRGB samples: for coding, for training, for evaluation alike.

This package knows Pillow and what it leaves out; models and coded files are floors above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressai._lazy import lazy_names

if TYPE_CHECKING:
    from compressai._images.limits import MAX_PIXELS
    from compressai._images.reading import (
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "limits": "MAX_PIXELS",
        "reading": (
            "Samples buffer_image check_pixels find_images image_suffixes oriented_size read_rgb "
            "read_samples read_size"
        ),
    },
    modules=["colours", "icons", "jpeg_xl", "losses", "transparency"],
)
