# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded pictures as files: the format, and the way from a picture to a file and back."""

from __future__ import annotations

from compressai.bitstream.codec import MAX_PIXELS, decode_picture, encode_picture, fingerprint
from compressai.bitstream.container import CodedPicture
from compressai.bitstream.errors import (
    BitstreamError,
    DamagedFileError,
    UnsupportedFileError,
    WrongWeightsError,
)
from compressai.bitstream.legacy import LegacyPicture
from compressai.bitstream.picture import (
    Picture,
    check_picture_file,
    read_picture,
    save_picture,
)
from compressai.bitstream.reading import parse_coded, read_coded

__all__ = [
    "MAX_PIXELS",
    "BitstreamError",
    "CodedPicture",
    "DamagedFileError",
    "LegacyPicture",
    "Picture",
    "UnsupportedFileError",
    "WrongWeightsError",
    "check_picture_file",
    "decode_picture",
    "encode_picture",
    "fingerprint",
    "parse_coded",
    "read_coded",
    "read_picture",
    "save_picture",
]
