# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``compressai`` program. Everything it does can be done from Python, too."""

from __future__ import annotations

from compressai.cli.app import main

__all__ = ["main"]
