# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Version of the library, and the commit it was built from (``unknown`` outside a checkout)."""

from __future__ import annotations

__version__ = "1.3.0"

try:
    from compressai._build_info import git_version
except ImportError:
    git_version = "unknown"

__all__ = ["__version__", "git_version"]
