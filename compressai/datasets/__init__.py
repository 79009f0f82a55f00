# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Pictures to train on: folders, Vimeo-90K, raw memory maps, and helpers to build caches."""

from __future__ import annotations

from .image import ImageFolder
from .pregenerated import PreGeneratedMemmapDataset
from .vimeo90k import Vimeo90kDataset

__all__ = ["ImageFolder", "PreGeneratedMemmapDataset", "Vimeo90kDataset"]
