# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Make the seeds that fuzzing starts from: small files of every kind.

Seeds are made again only where the format gets something new: `python tests/fuzz/make_seeds.py`.
"""

from __future__ import annotations

from dataclasses import replace

from PIL import Image
from targets import CORPUS, SEEDS, load_net

from compressai.bitstream import encode_picture, read_picture

__all__ = ["main"]

PHOTO = CORPUS.parents[1] / "examples" / "assets" / "chelsea.png"


def main() -> None:
    with Image.open(PHOTO) as photo:
        rgb = photo.convert("RGB").crop((150, 90, 190, 120))
    rgba = rgb.copy()
    rgba.putalpha(Image.linear_gradient("L").resize(rgb.size))
    exif = Image.Exif()
    exif[0x010F] = "maker"
    files = {}
    for model in ("bmshj2018-factorized", "mbt2018-mean", "cheng2020-anchor-checkerboard"):
        picture = read_picture(rgb)
        files[model] = encode_picture(load_net(model), picture, model=model)
    tall = read_picture(rgba.convert("LA").resize((10, 90)))
    net = load_net("bmshj2018-factorized")
    tiled = encode_picture(net, tall, model="bmshj2018-factorized", tile=64, tile_overlap=8)
    files["tiled"] = replace(tiled, exif=exif.tobytes(), icc=bytes(36) + b"acsp", quality=3)
    for name, coded in files.items():
        for target in ("container", "picture"):
            (SEEDS / target / f"{name}.cai").write_bytes(coded.to_bytes())
    for path in sorted(CORPUS.iterdir()):
        if path.suffix in (".cai", ".bin"):
            (SEEDS / "container" / path.name).write_bytes(path.read_bytes())
            (SEEDS / "picture" / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    main()
