# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``compressai`` program. Everything it does can be done from Python, too.

Commands import what they run with inside of their functions: help, completion and refused command
lines come without torch, which takes seconds.
"""

from __future__ import annotations

from compressai.cli.app import main

__all__ = ["main"]
