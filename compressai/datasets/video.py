# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Folders of frames, three frames an item."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from compressai._images import find_images, read_rgb
from compressai.registry import register_dataset

__all__ = ["VideoFolder"]


@register_dataset("VideoFolder")
class VideoFolder(Dataset):
    """Clips that lie as folders of images; an item is three frames of one clip.

    ::

        root/train.list               # one folder a line: "00001/0001"
        root/test.list
        root/sequences/00001/0001/im1.png ... im7.png

    The three frames go through the transform together, as one image of nine channels, so that a
    random crop is the same for all of them. It has to make a tensor of the image first::

        transforms.Compose([transforms.ToTensor(), transforms.RandomCrop(256)])

    Frames are found and read as :class:`ImageFolder` finds and reads images.

    Args:
        root: directory that holds the lists and ``sequences``.
        rnd_interval: leave out frames at random: each item has one distance between its frames,
            at most a third of the clip, drawn anew each time. Otherwise they are the first three.
        rnd_temp_order: reverse the frames of every second item, at random.
        transform: makes a tensor ``(9, H, W)`` of an array ``(H, W, 9)``, uint8, RGB; needed.
        split: name of the list without its suffix.

    Attributes:
        sample_folders: the folders of the clips.
        max_frames: frames of an item, 3.

    Randomness is that of Python's :mod:`random`.

    Raises:
        RuntimeError: there is no transform, no list, or no directory ``sequences``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        rnd_interval: bool = False,
        rnd_temp_order: bool = False,
        transform: Callable[[np.ndarray], Any] | None = None,
        split: str = "train",
    ) -> None:
        if transform is None:
            raise RuntimeError("transform must be given: it has to make a tensor of the frames")
        root = Path(root)
        listing = root / f"{split}.list"
        if not listing.is_file():
            raise RuntimeError(f"split={split!r} needs the list {str(listing)!r}")
        sequences = root / "sequences"
        if not sequences.is_dir():
            raise RuntimeError(f"the clips must be below {str(sequences)!r}, it does not exist")
        lines = listing.read_text(encoding="utf-8").splitlines()
        self.sample_folders = [sequences / line.strip() for line in lines if line.strip()]
        self.max_frames = 3
        self.rnd_interval = rnd_interval
        self.rnd_temp_order = rnd_temp_order
        self.transform = transform

    @property
    def samples(self) -> list[Path]:
        """The folders of the clips, under the name that all datasets have."""
        return self.sample_folders

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        """Three frames, tensors of three channels.

        Raises:
            RuntimeError: the folder does not exist or holds fewer than three images, its frames
                differ in size, or the transform fails or gives anything but a tensor of nine
                channels.
            OSError: a frame cannot be read.
            ValueError: a frame is damaged; names the file.
        """
        folder = self.sample_folders[index]
        if not folder.is_dir():
            raise RuntimeError(f"clip {index} of the list, {str(folder)!r}, does not exist")
        paths = find_images(folder)
        if len(paths) < self.max_frames:
            raise RuntimeError(
                f"a clip must have at least {self.max_frames} frames, {str(folder)!r} has "
                f"{len(paths)} image files"
            )
        paths = paths[:: self._interval(len(paths))][: self.max_frames]
        if self.rnd_temp_order and random.random() < 0.5:
            paths.reverse()
        frames = [np.asarray(read_rgb(path)) for path in paths]
        if len({frame.shape for frame in frames}) != 1:
            raise RuntimeError(f"the frames of {str(folder)!r} differ in size")
        try:
            stacked = self.transform(np.concatenate(frames, axis=-1))
        except Exception as error:
            raise RuntimeError(f"{str(folder)!r}: the transform fails: {error}") from error
        channels = 3 * self.max_frames
        if not isinstance(stacked, Tensor) or stacked.size(0) != channels:
            shape = tuple(getattr(stacked, "shape", ()))
            raise RuntimeError(
                f"transform must give a tensor ({channels}, H, W), got {type(stacked).__name__} "
                f"{shape}: begin with ToTensor()"
            )
        return stacked.chunk(self.max_frames)

    def _interval(self, files: int) -> int:
        if not self.rnd_interval:
            return 1
        # A third of the clip is what CompressAI allows; in one of 4 files it is too much.
        return random.randint(1, min((files + 2) // 3, (files - 1) // 2))

    def __len__(self) -> int:
        return len(self.sample_folders)
