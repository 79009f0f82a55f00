# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The errors that a file can cause."""

from __future__ import annotations

__all__ = ["BitstreamError", "DamagedFileError", "UnsupportedFileError", "WrongWeightsError"]


class BitstreamError(ValueError):
    """A file cannot be decoded; the message says why and what to do."""


class UnsupportedFileError(BitstreamError):
    """The file is of another kind, of a later version, for an unknown model, or too large."""


class DamagedFileError(BitstreamError):
    """The file is truncated or was changed."""


class WrongWeightsError(BitstreamError):
    """The file was made with other weights than those at hand."""
