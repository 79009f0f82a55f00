# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded images and videos as files: the formats, and the way to a file and back.

Files are imported on first use; what reads formats, such as :func:`parse_coded`, needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressai._lazy import lazy_names
from compressai._moved import RENAMED

if TYPE_CHECKING:
    from compressai.bitstream._budget import MemoryBudget
    from compressai.bitstream.container import CodedImage, CodedTile
    from compressai.bitstream.decoding import decode_image, decoding_bytes
    from compressai.bitstream.encoding import encode_image, encoding_bytes
    from compressai.bitstream.errors import (
        BitstreamError,
        ChecksumError,
        DamagedFileError,
        DesyncError,
        ImpossibleHeaderError,
        NotACodedImageError,
        TooLargeError,
        TruncatedFileError,
        UnknownModelError,
        UnsupportedFileError,
        UnsupportedVersionError,
        WrongWeightsError,
    )
    from compressai.bitstream.hashes import (
        fingerprint,
        hash_latent,
        sketch_distance,
        sketch_frame,
    )
    from compressai.bitstream.image import (
        IMAGE_SUFFIXES,
        ImageData,
        check_image_file,
        read_image,
        save_image,
    )
    from compressai.bitstream.limits import MAX_FRAMES, MAX_PIXELS
    from compressai.bitstream.reading import parse_coded, read_coded, read_content, write_coded
    from compressai.bitstream.tiling import Tiling
    from compressai.bitstream.video_codec import FrameCoder, decode_video, encode_video, open_video
    from compressai.bitstream.video_container import (
        CodedFrame,
        VideoHeader,
        VideoReader,
        VideoWriter,
    )

__all__ = [
    "MAX_FRAMES",
    "MAX_PIXELS",
    "IMAGE_SUFFIXES",
    "BitstreamError",
    "ChecksumError",
    "CodedFrame",
    "CodedImage",
    "CodedTile",
    "DamagedFileError",
    "DesyncError",
    "ImpossibleHeaderError",
    "FrameCoder",
    "MemoryBudget",
    "NotACodedImageError",
    "ImageData",
    "Tiling",
    "TooLargeError",
    "TruncatedFileError",
    "UnknownModelError",
    "UnsupportedFileError",
    "UnsupportedVersionError",
    "VideoHeader",
    "VideoReader",
    "VideoWriter",
    "WrongWeightsError",
    "check_image_file",
    "decode_image",
    "decode_video",
    "decoding_bytes",
    "encode_image",
    "encode_video",
    "encoding_bytes",
    "fingerprint",
    "hash_latent",
    "open_video",
    "parse_coded",
    "read_coded",
    "read_content",
    "read_image",
    "save_image",
    "sketch_distance",
    "sketch_frame",
    "write_coded",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "_budget": "MemoryBudget",
        "container": "CodedImage CodedTile",
        "decoding": "decode_image decoding_bytes",
        "encoding": "encode_image encoding_bytes",
        "errors": (
            "BitstreamError ChecksumError DamagedFileError DesyncError ImpossibleHeaderError "
            "NotACodedImageError TooLargeError TruncatedFileError UnknownModelError "
            "UnsupportedFileError UnsupportedVersionError WrongWeightsError"
        ),
        "hashes": "fingerprint hash_latent sketch_distance sketch_frame",
        "limits": "MAX_FRAMES MAX_PIXELS",
        "image": "IMAGE_SUFFIXES ImageData check_image_file read_image save_image",
        "reading": "parse_coded read_coded read_content write_coded",
        "tiling": "Tiling",
        "video_container": "CodedFrame VideoHeader VideoReader VideoWriter",
        "video_codec": "FrameCoder decode_video encode_video open_video",
    },
    modules=["_fields", "_nets", "_parallel", "legacy", "legacy_video", "version1"],
    renamed=RENAMED[__name__],
)
