# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The model that programs take if nobody names one.

The quality is that of its row, :attr:`~compressai.registry.ModelEntry.default_quality`.
"""

from __future__ import annotations

from compressai.registry.entries import DEFAULT_QUALITY

__all__ = ["DEFAULT_METRIC", "DEFAULT_MODEL", "DEFAULT_QUALITY"]

DEFAULT_MODEL = "lite"
DEFAULT_METRIC = "mse"
