# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Make the seeds that fuzzing starts from: small files of every kind.

Seeds are made again only where the format gets something new: `python tests/fuzz/make_seeds.py`.
"""

from __future__ import annotations

import argparse
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from targets import CORPUS, SEEDS, load_net
from videos import video_seeds

from compressai.bitstream import encode_image, read_image
from compressai.models import FactorizedPrior

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
        sample = read_image(rgb)
        files[model] = encode_image(load_net(model), sample, model=model)
    tall = read_image(rgba.convert("LA").resize((10, 90)))
    net = load_net("bmshj2018-factorized")
    tiled = encode_image(net, tall, model="bmshj2018-factorized", tile=64, tile_overlap=8)
    files["tiled"] = replace(tiled, exif=exif.tobytes(), icc=bytes(36) + b"acsp", quality=3)
    for name, coded in files.items():
        for target in ("container", "image"):
            (SEEDS / target / f"{name}.cai").write_bytes(coded.to_bytes())
    for path in sorted(CORPUS.iterdir()):
        if path.suffix in (".cai", ".bin"):
            (SEEDS / "container" / path.name).write_bytes(path.read_bytes())
            (SEEDS / "image" / path.name).write_bytes(path.read_bytes())
    make_checkpoints(SEEDS / "checkpoint")
    (SEEDS / "video").mkdir(exist_ok=True)
    for name, content in video_seeds(PHOTO):
        (SEEDS / "video" / name).write_bytes(content)


def make_checkpoints(folder: Path) -> None:
    """Files, pickles and headers, told apart by their first byte; see ``fuzz_checkpoint``."""
    net = FactorizedPrior(1, 1)
    weights = net.state_dict()
    few = {key: weights[key] for key in list(weights)[-3:]}
    metadata = {"format": 1, "architecture": "bmshj2018-factorized", "arguments": {"N": 1, "M": 1}}
    contents = {
        "weights": few,
        "training": {"state_dict": few, "compressai": metadata, "loss": np.float32(1)},
        "other": {"args": argparse.Namespace(a=1), "path": [few]},
    }
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        for kind in ("zip", "legacy"):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=kind == "zip")
            (folder / f"{name}-{kind}").write_bytes(b"\0" + buffer.getvalue())
            if kind == "zip":
                with zipfile.ZipFile(buffer) as archive:
                    pickled = archive.read("archive/data.pkl")
                (folder / f"{name}-pickle").write_bytes(b"\1" + pickled)
    told = {"compressai": json.dumps(metadata)}
    content = safetensors.torch.save(weights, metadata=told)
    length = int.from_bytes(content[:8], "little")
    (folder / "model-header").write_bytes(b"\2" + content[8 : 8 + length].strip())
    (folder / "few-header").write_bytes(b"\0" + safetensors.torch.save(few, metadata=told))


if __name__ == "__main__":
    main()
