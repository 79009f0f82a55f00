# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A folder of pictures with one directory for each split."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from compressai.registry import register_dataset

__all__ = ["ImageFolder"]


@register_dataset("ImageFolder")
class ImageFolder(Dataset):
    """Pictures of ``root/split``, in order of their names.

    ::

        root/train/img000.png
        root/train/img001.png
        root/test/img000.png

    Every regular file of the directory counts as a picture, whatever its suffix; directories
    below it are not entered.

    Args:
        root: directory that holds the splits.
        transform: applied to the RGB picture.
        split: directory below ``root``.

    Attributes:
        samples: the paths of the pictures.

    Raises:
        RuntimeError: the directory of the split does not exist.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Image.Image], Any] | None = None,
        split: str = "train",
    ) -> None:
        directory = Path(root) / split
        if not directory.is_dir():
            raise RuntimeError(f"split={split!r} needs the directory {str(directory)!r}")
        self.samples = sorted(path for path in directory.iterdir() if path.is_file())
        self.transform = transform

    def __getitem__(self, index: int) -> Any:
        """The picture as ``PIL.Image.Image`` in mode RGB, or what the transform makes of it."""
        with Image.open(self.samples[index]) as file:
            image = file.convert("RGB")
        return image if self.transform is None else self.transform(image)

    def __len__(self) -> int:
        return len(self.samples)
