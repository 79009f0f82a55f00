# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Factories for channel-slice models: context heads, slice codecs, reading sizes off weights.

A model file names its paper's pieces and calls these; it holds no loop over slices of its own.
"""

from __future__ import annotations

from compressai.models._helpers.channel_context import (
    MeanScaleContextHead,
    build_mean_scale_head,
)
from compressai.models._helpers.channel_slice import (
    build_channel_slice_codec,
    build_lrp_slice_codec,
    equal_slices,
    proportional_slices,
)

__all__ = [
    "MeanScaleContextHead",
    "build_channel_slice_codec",
    "build_lrp_slice_codec",
    "build_mean_scale_head",
    "equal_slices",
    "proportional_slices",
]
