# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Finding the images to evaluate on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from compressai._files import check_regular

__all__ = ["SUFFIXES", "find_images"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def find_images(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as given, and the images in folders, at any depth, without what is hidden.

    Args:
        sources: files and folders.

    Returns:
        Files, each once, those of a folder sorted.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a folder has no images, or a source is a pipe, a device or the like.
    """
    found: dict[Path, None] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise FileNotFoundError(f"{source} does not exist")
        if not source.is_dir():
            check_regular(source)
            found[source] = None
            continue
        inside = sorted(
            path
            for path in source.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(source).parts)
        )
        if not inside:
            raise ValueError(f"{source} has no images ({' '.join(SUFFIXES)})")
        found.update(dict.fromkeys(inside))
    return list(found)
