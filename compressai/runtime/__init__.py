# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coding without torch: models as bundles, whose networks another program runs.

Files are imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressai._lazy import lazy_names

if TYPE_CHECKING:
    from compressai.runtime.bundle import Bundle, BundleError, write_bundle
    from compressai.runtime.installed import (
        bundle_file,
        bundle_of_file,
        has_all_rates,
        installed_bundle,
    )
    from compressai.runtime.model import RuntimeModel

__all__ = [
    "Bundle",
    "BundleError",
    "RuntimeModel",
    "bundle_file",
    "bundle_of_file",
    "has_all_rates",
    "installed_bundle",
    "write_bundle",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "bundle": "Bundle BundleError write_bundle",
        "installed": "bundle_file bundle_of_file has_all_rates installed_bundle",
        "model": "RuntimeModel",
    },
    modules=["networks"],
)
