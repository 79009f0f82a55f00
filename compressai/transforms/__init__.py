# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Colour conversion and chroma resampling, as functions and as transform objects."""

from __future__ import annotations

from . import functional
from .transforms import RGB2YCbCr, YCbCr2RGB, YUV420To444, YUV444To420

__all__ = ["RGB2YCbCr", "YCbCr2RGB", "YUV420To444", "YUV444To420", "functional"]
