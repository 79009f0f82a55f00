# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Colour conversion and chroma resampling: functions, transform objects, frames of raw video."""

from __future__ import annotations

from compressai.transforms import functional
from compressai.transforms.frames import (
    frame_to_planes,
    planes_to_frame,
    planes_to_rgb,
    rgb_to_planes,
)
from compressai.transforms.transforms import RGB2YCbCr, YCbCr2RGB, YUV420To444, YUV444To420

__all__ = [
    "RGB2YCbCr",
    "YCbCr2RGB",
    "YUV420To444",
    "YUV444To420",
    "frame_to_planes",
    "functional",
    "planes_to_frame",
    "planes_to_rgb",
    "rgb_to_planes",
]
