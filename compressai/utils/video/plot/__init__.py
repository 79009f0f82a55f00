# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate-distortion curves of video codecs."""

from __future__ import annotations

__all__ = []
