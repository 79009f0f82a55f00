# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Make the files of this folder that are not there yet.

Files that are here are never made again: they must decode for ever. Add a line to ``CASES`` for
what is new, and run this from the root of the repository. Those of version 1 and of CompressAI's
format, and the checkpoints, were made by earlier revisions of this script.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

import compressai
from compressai.bitstream import (
    decode_picture,
    encode_picture,
    read_picture,
    save_picture,
    write_coded,
)

__all__ = ["main"]

HERE = Path(__file__).parent
PHOTO = HERE.parents[1] / "examples" / "assets" / "chelsea.png"
# Name of the file, model, colour mode, box of the photo, arguments of `encode_picture`. Sync-safe
# files, so that they decode to the same latent on every machine, and one that does so anyway.
CASES: tuple[tuple[str, str, str, tuple[int, int, int, int], dict[str, Any]], ...] = (
    ("v2-factorized-rgb", "bmshj2018-factorized", "RGB", (150, 90, 187, 113), {"sync_safe": False}),
    ("v2-mean-la", "mbt2018-mean", "LA", (150, 90, 220, 103), {}),
    ("v2-checkerboard-rgba", "cheng2020-anchor-checkerboard", "RGBA", (150, 90, 171, 160), {}),
    ("v2-mean-tiles", "mbt2018-mean", "RGB", (90, 60, 240, 130), {"tile": 64}),
)


def _picture(mode: str, box: tuple[int, int, int, int]) -> Image.Image:
    with Image.open(PHOTO) as photo:
        image = photo.convert("RGB").crop(box)
    if mode.startswith("L"):
        image = image.convert("L")
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    image.info = {"exif": exif.tobytes()}
    return image


def main() -> None:
    for name, model, mode, box, arguments in CASES:
        path = HERE / f"{name}.cai"
        if path.exists():
            continue
        net = compressai.load(HERE / f"{model}.safetensors")
        picture = read_picture(_picture(mode, box), keep_metadata=True)
        coded = encode_picture(net, picture, model=model, **arguments)
        save_picture(decode_picture(net, coded), path.with_suffix(".png"))
        print(path.name, write_coded(coded, path), "bytes")


if __name__ == "__main__":
    main()
