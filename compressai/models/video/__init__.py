# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Video compression models, one file for each group of authors."""

from __future__ import annotations

from compressai.models.video.google import ScaleSpaceFlow

__all__ = ["ScaleSpaceFlow"]
