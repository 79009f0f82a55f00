# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded pictures as files: the format, and the way from a picture to a file and back."""

from __future__ import annotations

from compressai.bitstream.container import CodedPicture, CodedTile
from compressai.bitstream.decoding import decode_picture
from compressai.bitstream.encoding import encode_picture
from compressai.bitstream.errors import (
    BitstreamError,
    ChecksumError,
    DamagedFileError,
    DesyncError,
    ImpossibleHeaderError,
    NotACodedPictureError,
    TooLargeError,
    TruncatedFileError,
    UnknownModelError,
    UnsupportedFileError,
    UnsupportedVersionError,
    WrongWeightsError,
)
from compressai.bitstream.hashes import fingerprint, hash_latent
from compressai.bitstream.legacy import LegacyPicture
from compressai.bitstream.limits import MAX_PIXELS
from compressai.bitstream.picture import (
    Picture,
    check_picture_file,
    read_picture,
    save_picture,
)
from compressai.bitstream.reading import parse_coded, read_coded, write_coded
from compressai.bitstream.tiling import Tiling

__all__ = [
    "MAX_PIXELS",
    "BitstreamError",
    "ChecksumError",
    "CodedPicture",
    "CodedTile",
    "DamagedFileError",
    "DesyncError",
    "ImpossibleHeaderError",
    "LegacyPicture",
    "NotACodedPictureError",
    "Picture",
    "Tiling",
    "TooLargeError",
    "TruncatedFileError",
    "UnknownModelError",
    "UnsupportedFileError",
    "UnsupportedVersionError",
    "WrongWeightsError",
    "check_picture_file",
    "decode_picture",
    "encode_picture",
    "fingerprint",
    "hash_latent",
    "parse_coded",
    "read_coded",
    "read_picture",
    "save_picture",
    "write_coded",
]
