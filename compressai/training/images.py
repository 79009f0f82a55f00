# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which images to train on, and whether they are fit for it, before hours are lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from compressai._images import find_images, oriented_size

__all__ = ["check_images", "find_small", "listed", "split_images"]

_MOST_NAMES = 3
_VAL_FRACTION = 0.1


def split_images(
    root: str | os.PathLike[str], fraction: float | None = None
) -> dict[str, list[Path]]:
    """The images of a folder and of all folders below it, to train on and to test on.

    With ``train/`` and ``test/`` in it, these are the two parts. Else a part of all, chosen by a
    hash of their names, is to test on: the same one in every run, and images that are added move
    hardly any other.

    Args:
        root: the folder.
        fraction: how much of an unsplit folder is to test on, between 0 and 1; ``None`` for 0.1.
            At least one image.

    Returns:
        Files of ``"train"`` and ``"test"``, in order of their names.

    Raises:
        ValueError: the folder does not exist, or a part has no images; ``fraction`` is outside,
            or given for a folder with parts.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder")
    parts = [split for split in ("train", "test") if (root / split).is_dir()]
    if len(parts) == 2:
        if fraction is not None:
            raise ValueError(f"--val-fraction must not be given, {root} has train/ and test/")
        found = {split: _images_below(root / split) for split in parts}
    elif parts == ["test"]:
        raise ValueError(f"{root} has test/ but no train/")
    else:
        fraction = _VAL_FRACTION if fraction is None else fraction
        if not 0 < fraction < 1:
            raise ValueError(f"--val-fraction must be between 0 and 1, got {fraction}")
        paths = _images_below(root / "train" if parts else root)
        by_hash = sorted(
            paths,
            key=lambda path: hashlib.sha256(path.relative_to(root).as_posix().encode()).digest(),
        )
        tested = set(by_hash[: max(1, round(fraction * len(paths)))])
        found = {
            "train": [path for path in paths if path not in tested],
            "test": [path for path in paths if path in tested],
        }
    for split, paths in found.items():
        if not paths:
            raise ValueError(f"there are no images to {split} on in {root}")
    return found


def _images_below(folder: Path) -> list[Path]:
    found = find_images(folder)
    for path, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [image for name in folders for image in find_images(Path(path, name))]
    return sorted(found)


def find_small(
    paths: Sequence[str | os.PathLike[str]], crop: tuple[int, int]
) -> tuple[list[str], list[str]]:
    """Images that are smaller than a crop, by their headers.

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
    """Refuse images that no crop can be taken of, or whose headers are damaged.

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
