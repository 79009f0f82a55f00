# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai info``."""

from __future__ import annotations

from compressai.cli.messages import print_report
from compressai.cli.options import AsJson, CodedFile

__all__ = ["info"]


def info(file: CodedFile, as_json: AsJson = False) -> None:
    """Show what a coded picture says about itself."""
    from compressai.bitstream import CodedPicture, read_coded

    coded = read_coded(file)
    size = file.stat().st_size
    print_report(
        {
            "file": str(file),
            "format": "cai 1" if isinstance(coded, CodedPicture) else "CompressAI 1.2",
            "bytes": size,
            "bpp": 8 * size / (coded.width * coded.height),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "fingerprint": coded.fingerprint.hex() or None,
            "shape": coded.shape,
            "string_bytes": [len(string) for string in coded.strings],
            "alpha_bytes": len(coded.alpha),
        },
        as_json,
    )
