# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The largest image that is read unless the caller says otherwise."""

from __future__ import annotations

__all__ = ["MAX_PIXELS"]

# A file of a few bytes can ask for an image of any size. At this one, a single activation of 192
# channels at half the size takes 26 GB.
MAX_PIXELS = 2**27
