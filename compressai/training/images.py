# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Whether the pictures are fit to train on, found out before hours of training are lost."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from compressai._images import oriented_size

__all__ = ["check_images", "find_small", "listed"]

_MOST_NAMES = 3


def find_small(
    paths: Sequence[str | os.PathLike[str]], crop: tuple[int, int]
) -> tuple[list[str], list[str]]:
    """Pictures that are smaller than a crop, by their headers.

    Args:
        paths: the files.
        crop: height and width in pixels.

    Returns:
        Sentences on those that are too small, and on those that cannot be read.
    """
    height, width = crop
    small, unreadable = [], []
    for path in paths:
        try:
            size = oriented_size(Path(path), (width, height))
        except (OSError, ValueError) as error:
            unreadable.append(str(error))
            continue
        if size[0] < width or size[1] < height:
            small.append(f"{os.fspath(path)} has {size[0]} x {size[1]} pixels")
    return small, unreadable


def check_images(paths: Sequence[str | os.PathLike[str]], crop: tuple[int, int]) -> None:
    """Refuse pictures that no crop can be taken of, or whose headers are damaged.

    Args:
        paths: the files.
        crop: height and width in pixels.

    Raises:
        ValueError: there are some; names the first ones.
    """
    small, unreadable = find_small(paths, crop)
    if small:
        raise ValueError(
            f"{listed(small)}, less than the crop of {crop[1]} x {crop[0]}: take them out, or give "
            "a smaller --patch-size"
        )
    if unreadable:
        raise ValueError(listed(unreadable))


def listed(sentences: Sequence[str]) -> str:
    """The first few sentences, and how many more there are."""
    more = len(sentences) - _MOST_NAMES
    return "; ".join(sentences[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
