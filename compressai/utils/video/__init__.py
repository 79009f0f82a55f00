# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The programs for video: ``python -m compressai.utils.video.{bench,eval_model,plot}``."""

from __future__ import annotations

__all__ = []
