# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A learned video model on a folder of raw video."""

from __future__ import annotations

__all__ = []
