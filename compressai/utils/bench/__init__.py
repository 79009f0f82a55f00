# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Classical image codecs on a folder of images: ``python -m compressai.utils.bench``."""

from __future__ import annotations

__all__ = ["codecs"]
