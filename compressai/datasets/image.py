# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Images in files: a list of them, or a folder with one directory for each split."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from torch.utils.data import Dataset

from compressai._images import find_images
from compressai.datasets.utils import transformed
from compressai.registry import register_dataset

__all__ = ["ImageFiles", "ImageFolder"]


class ImageFiles(Dataset):
    """Images in files, in the order of a list.

    They are read as ``compressai encode`` reads them: turned upright as EXIF says, embedded
    colour profiles and CMYK converted to sRGB, white of 16-bit, integer and float greyscale at
    255, without transparency. 8-bit samples of other images are as in the file.

    Args:
        samples: the files.
        transform: applied to the RGB image.

    Attributes:
        samples: the files.
    """

    def __init__(
        self, samples: Sequence[str | Path], transform: Callable[[Image.Image], Any] | None = None
    ) -> None:
        self.samples = list(samples)
        self.transform = transform

    def __getitem__(self, index: int) -> Any:
        """The image as ``PIL.Image.Image`` in mode RGB, or what the transform makes of it.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is damaged or no image, or ``transform`` refuses it; names the file.
        """
        return transformed(self.samples[index], self.transform)

    def __len__(self) -> int:
        return len(self.samples)


@register_dataset("ImageFolder")
class ImageFolder(ImageFiles):
    """Images of ``root/split``, in order of their names.

    ::

        root/train/img000.png
        root/train/img001.png
        root/test/img000.png

    Regular files count whose suffix is that of an image, and those of other names if Pillow knows
    what they are; hidden files (``.DS_Store``) do not, nor others that are no images. Directories
    below it are not entered. They are read as by :class:`ImageFiles`.

    Args:
        root: directory that holds the splits.
        transform: applied to the RGB image.
        split: directory below ``root``.

    Attributes:
        samples: the paths of the images.

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
        super().__init__(find_images(directory), transform)
