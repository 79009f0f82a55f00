# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Learned image models on a folder of images: ``python -m compressai.utils.eval_model``."""

from __future__ import annotations

__all__ = []
