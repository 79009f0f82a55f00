# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Finding the pictures to evaluate on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["SUFFIXES", "find_pictures"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def find_pictures(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as given, and the pictures in folders, at any depth.

    Args:
        sources: files and folders.

    Returns:
        Files, each once, those of a folder sorted.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: a folder has no pictures.
    """
    found: dict[Path, None] = {}
    for source in map(Path, sources):
        if not source.exists():
            raise FileNotFoundError(f"{source} does not exist")
        if source.is_file():
            found[source] = None
            continue
        inside = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not inside:
            raise ValueError(f"{source} has no pictures ({' '.join(SUFFIXES)})")
        found.update(dict.fromkeys(inside))
    return list(found)
