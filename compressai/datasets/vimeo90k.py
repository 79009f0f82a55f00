# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The frames of Vimeo-90K as single images."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from compressai.datasets.image import ImageFiles
from compressai.registry import register_dataset

__all__ = ["Vimeo90kDataset"]

_PREFIXES = {3: "tri", 7: "sep"}
_LISTS = {"train": "trainlist", "valid": "testlist"}


@register_dataset("Vimeo90kDataset")
class Vimeo90kDataset(ImageFiles):
    """Every frame of the triplets or septuplets of Vimeo-90K, one item a frame.

    ::

        root/tri_trainlist.txt        # one line a clip: "00001/0001"
        root/tri_testlist.txt
        root/sequences/00001/0001/im1.png ... im3.png

    Frames are read as :class:`ImageFolder` reads images.

    Args:
        root: directory of the unpacked archive.
        transform: applied to the RGB image.
        split: ``"train"`` or ``"valid"`` (the list named "test" by the authors).
        tuplet: 3 or 7, frames of a clip.

    Attributes:
        samples: the paths of the frames, as strings.

    Raises:
        KeyError: another split or tuplet.
        FileNotFoundError: the list file does not exist.

    Source: Xue et al. 2019, "Video enhancement with task-oriented flow".
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Image.Image], Any] | None = None,
        split: str = "train",
        tuplet: int = 3,
    ) -> None:
        root = Path(root)
        clips = (root / self._list_filename(split, tuplet)).read_text(encoding="utf-8").splitlines()
        samples = [
            str(root / "sequences" / clip.strip() / f"im{frame}.png")
            for clip in clips
            if clip.strip()
            for frame in range(1, tuplet + 1)
        ]
        super().__init__(samples, transform)

    def _list_filename(self, split: str, tuplet: int) -> str:
        if tuplet not in _PREFIXES:
            raise KeyError(f"tuplet must be one of {tuple(_PREFIXES)}, got {tuplet!r}")
        if split not in _LISTS:
            raise KeyError(f"split must be one of {tuple(_LISTS)}, got {split!r}")
        return f"{_PREFIXES[tuplet]}_{_LISTS[split]}.txt"
