# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate-distortion plots of result files: ``python -m compressai.utils.plot``."""

from __future__ import annotations

__all__ = []
