# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Images and clips to train on, raw video, and helpers to build caches."""

from __future__ import annotations

from compressai.datasets.image import ImageFiles, ImageFolder
from compressai.datasets.pregenerated import PreGeneratedMemmapDataset
from compressai.datasets.rawvideo import (
    RawVideoSequence,
    VideoFormat,
    get_num_frms,
    get_raw_video_file_info,
    make_dtype,
    video_formats,
)
from compressai.datasets.video import VideoFolder
from compressai.datasets.vimeo90k import Vimeo90kDataset

__all__ = [
    "ImageFiles",
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
