# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Classical video codecs on a folder of raw video."""

from __future__ import annotations

__all__ = []
