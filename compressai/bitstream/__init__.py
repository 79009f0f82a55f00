# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded pictures as files: the format, and the way from a picture to a file and back."""

from __future__ import annotations

from compressai.bitstream.codec import decode_picture, encode_picture, fingerprint
from compressai.bitstream.container import CodedPicture
from compressai.bitstream.errors import (
    BitstreamError,
    DamagedFileError,
    UnsupportedFileError,
    WrongWeightsError,
)
from compressai.bitstream.picture import Picture, read_picture

__all__ = [
    "BitstreamError",
    "CodedPicture",
    "DamagedFileError",
    "Picture",
    "UnsupportedFileError",
    "WrongWeightsError",
    "decode_picture",
    "encode_picture",
    "fingerprint",
    "read_picture",
]
