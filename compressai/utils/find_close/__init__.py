# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The quality closest to a rate or distortion: ``python -m compressai.utils.find_close``."""

from __future__ import annotations

__all__ = []
