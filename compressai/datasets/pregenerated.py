# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Crops of one size that were written to a raw file once, to be read without decoding."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from compressai.registry import register_dataset

__all__ = ["PreGeneratedMemmapDataset"]

_FILES = {"train": "training.npy", "valid": "validation.npy"}


def _coerce_size_2_t(x: Any) -> tuple[int, int]:
    """An integer or two of them to ``(height, width)``."""
    size = (x, x) if isinstance(x, int) else tuple(x)
    if len(size) != 2 or any(not isinstance(n, int) or n <= 0 for n in size):
        raise ValueError(f"image_size must be a positive integer or two of them, got {x!r}")
    return size


@register_dataset("PreGeneratedMemmapDataset")
class PreGeneratedMemmapDataset(Dataset):
    """Images of equal size in ``root/training.npy`` or ``root/validation.npy``.

    Despite the suffix these files are raw: uint8 samples, ``N x H x W x 3``, without any header.

    Args:
        root: directory of the files.
        transform: applied to the RGB image.
        split: ``"train"`` or ``"valid"``.
        image_size: ``(H, W)`` of every image, or one integer for both.

    Attributes:
        data: the images, a read-only memory map ``(N, H, W, 3)``.

    Raises:
        RuntimeError: ``root`` is not a directory.
        ValueError: another split, a bad ``image_size``, or a file that does not hold a whole
            number of such images.
        FileNotFoundError: the file of the split does not exist.
        AssertionError: the file is empty.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Callable[[Image.Image], Any] | None = None,
        split: str = "train",
        image_size: tuple[int, int] | int = (256, 256),
    ) -> None:
        root = Path(root)
        if not root.is_dir():
            raise RuntimeError(f"root must be a directory, got {str(root)!r}")
        if split not in _FILES:
            raise ValueError(f"split must be one of {tuple(_FILES)}, got {split!r}")
        self.split = split
        self.image_size = _coerce_size_2_t(image_size)
        self.transform = transform
        self.path = root / _FILES[split]

        num_bytes = self.path.stat().st_size
        if num_bytes == 0:
            raise AssertionError(f"{str(self.path)!r} is empty")
        if num_bytes % (3 * self.image_size[0] * self.image_size[1]):
            raise ValueError(
                f"{str(self.path)!r} has {num_bytes} bytes, not a multiple of "
                f"{self.image_size[0]} x {self.image_size[1]} x 3"
            )
        self.data = self._open()

    def _open(self) -> np.memmap:
        flat = np.memmap(self.path, dtype=np.uint8, mode="r")
        return flat.reshape(-1, *self.image_size, 3)

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map is a copy of the file: a spawned loader worker opens its own.
        return {name: value for name, value in self.__dict__.items() if name != "data"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.data = self._open()

    def __getitem__(self, index: int) -> Any:
        """The image as ``PIL.Image.Image`` in mode RGB, or what the transform makes of it."""
        image = Image.fromarray(np.array(self.data[index]))
        return image if self.transform is None else self.transform(image)

    def __len__(self) -> int:
        return self.data.shape[0]
