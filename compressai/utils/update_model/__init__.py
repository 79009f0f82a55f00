# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checkpoints into weights for coding: ``python -m compressai.utils.update_model``."""

from __future__ import annotations

__all__ = []
