# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The errors that a file can cause."""

from __future__ import annotations

from compressai._moved import old_names

__all__ = [
    "BitstreamError",
    "ChecksumError",
    "DamagedFileError",
    "DesyncError",
    "ImpossibleHeaderError",
    "NotACodedImageError",
    "TooLargeError",
    "TruncatedFileError",
    "UnknownModelError",
    "UnsupportedFileError",
    "UnsupportedVersionError",
    "WrongWeightsError",
]

__getattr__ = old_names(__name__)


class BitstreamError(ValueError):
    """A file cannot be decoded; the message says why and what to do."""


class UnsupportedFileError(BitstreamError):
    """The file is of another kind, of a later version, for an unknown model, or too large."""


class NotACodedImageError(UnsupportedFileError):
    """The file does not begin like any coded image."""


class UnsupportedVersionError(UnsupportedFileError):
    """The file is of a later version of the format, or uses features of one."""


class UnknownModelError(UnsupportedFileError):
    """The file names a model, or weights of it, that this version does not know."""


class TooLargeError(UnsupportedFileError):
    """The image has more pixels than ``max_pixels``."""


class DamagedFileError(BitstreamError):
    """The file is truncated or was changed."""


class TruncatedFileError(DamagedFileError):
    """The file ends before what its header announces."""


class ChecksumError(DamagedFileError):
    """A checksum does not match: some bytes were changed, or are missing."""


class ImpossibleHeaderError(DamagedFileError):
    """The fields of the file have values that no writer gives, or contradict each other."""


class WrongWeightsError(BitstreamError):
    """The file was made with other weights than those at hand."""


class DesyncError(BitstreamError):
    """The file is intact, but this decoder did not follow its encoder.

    The scales and means that decoding needs are computed anew by the decoder. They came out
    differently here: on another device, with another version of torch, or the like.
    """
