# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Pictures and clips to train on, raw video, and helpers to build caches."""

from __future__ import annotations

from .image import ImageFolder
from .pregenerated import PreGeneratedMemmapDataset
from .rawvideo import (
    RawVideoSequence,
    VideoFormat,
    get_num_frms,
    get_raw_video_file_info,
    make_dtype,
    video_formats,
)
from .video import VideoFolder
from .vimeo90k import Vimeo90kDataset

__all__ = [
    "ImageFolder",
    "PreGeneratedMemmapDataset",
    "RawVideoSequence",
    "VideoFolder",
    "VideoFormat",
    "Vimeo90kDataset",
    "get_num_frms",
    "get_raw_video_file_info",
    "make_dtype",
    "video_formats",
]
