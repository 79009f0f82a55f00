# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Make the files of this folder that are not there yet.

Files that are here are never made again: they must decode for ever. Add a line to ``CASES`` for
what is new, and run this from the root of the repository. Those of version 1 and of CompressAI's
format, images of version 2 without places in their checksums, and the other checkpoints were made
by earlier revisions of this script.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import compressai
from compressai.bitstream import (
    decode_image,
    decode_video,
    encode_image,
    encode_video,
    open_video,
    read_image,
    save_image,
    write_coded,
)
from compressai.checkpoint import save_checkpoint
from compressai.datasets import RawVideoSequence
from compressai.models import get_scale_table
from compressai.models._helpers import MeanScaleContextHead
from compressai.models.lite import Lite
from compressai.models.video import ScaleSpaceFlow

__all__ = ["main"]

HERE = Path(__file__).parent
PHOTO = HERE.parents[1] / "examples" / "assets" / "chelsea.png"
# Name of the file, model, colour mode, box of the photo, arguments of `encode_image`. Sync-safe
# files, so that they decode to the same latent on every machine, and one that does so anyway.
CASES: tuple[tuple[str, str, str, tuple[int, int, int, int], dict[str, Any]], ...] = (
    ("v2-factorized-rgb", "bmshj2018-factorized", "RGB", (150, 90, 187, 113), {"sync_safe": False}),
    ("v2-mean-la", "mbt2018-mean", "LA", (150, 90, 220, 103), {}),
    ("v2-checkerboard-rgba", "cheng2020-anchor-checkerboard", "RGBA", (150, 90, 171, 160), {}),
    ("v2-mean-tiles", "mbt2018-mean", "RGB", (90, 60, 240, 130), {"tile": 64}),
    ("v2-mean-placed", "mbt2018-mean", "RGBA", (90, 60, 190, 120), {"tile": 64}),
    ("v2-lite", "lite", "RGB", (150, 90, 210, 160), {}),
)


def _image(mode: str, box: tuple[int, int, int, int]) -> Image.Image:
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


def _save_lite(path: Path) -> None:
    """A small model with slices, and with symbols that are not all zero."""
    torch.manual_seed(0)
    arguments = {
        "N": 8,
        "M": 24,
        "details": 8,
        "widths": (8, 12),
        "depths": (1, 1),
        "context_widths": (8,),
    }
    net = Lite(**arguments).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(12)
        for module in net.latent_codec.modules():
            if isinstance(module, MeanScaleContextHead):
                module.scale_cc[-1].bias.fill_(1)
    net.update(scale_table=get_scale_table(0.11, 16, 12))
    save_checkpoint(path, net, architecture="lite", arguments=arguments)


def _save_video_model(path: Path) -> None:
    """A small model whose latents are spread, and whose scales are far from a rounding."""
    torch.manual_seed(0)
    arguments = {"N": 4, "M": 8}
    net = ScaleSpaceFlow(**arguments).eval()
    with torch.no_grad():
        for name in ("img", "motion", "res"):
            for layer in getattr(net, f"{name}_encoder")[::2]:
                layer.weight.mul_(3)
            scale = getattr(net, f"{name}_hyperprior").hyper_decoder_scale.deconv3
            scale.weight.mul_(0.01)
            scale.bias.fill_(1.3)
    net.update(scale_table=get_scale_table(0.11, 16, 12))
    save_checkpoint(path, net, architecture="ssf2020", arguments=arguments)


def _save_video(path: Path) -> None:
    """Four frames of a camera that pans over the photo; the first and the last are key frames."""
    net = compressai.load(HERE / "ssf2020.safetensors")
    with Image.open(PHOTO) as photo, tempfile.TemporaryDirectory() as folder:
        frames = [photo.convert("YCbCr").crop((x, 90, x + 40, 114)) for x in (150, 153, 157, 162)]
        clip = Path(folder, "clip_40x24_30fps_8bit_yuv444.yuv")
        clip.write_bytes(b"".join(plane.tobytes() for frame in frames for plane in frame.split()))
        with open(path, "wb") as file:
            encode_video(net, RawVideoSequence.from_file(clip), file, model="ssf2020", gop=3)
    with open_video(path) as reader, open(path.with_suffix(".yuv"), "wb") as file:
        file.writelines(frame.tobytes() for frame in decode_video(net, reader))
    print(path.name, path.stat().st_size, "bytes")


def main() -> None:
    if not (lite := HERE / "lite.safetensors").exists():
        _save_lite(lite)
    if not (video := HERE / "ssf2020.safetensors").exists():
        _save_video_model(video)
    for name, model, mode, box, arguments in CASES:
        path = HERE / f"{name}.cai"
        if path.exists():
            continue
        net = compressai.load(HERE / f"{model}.safetensors")
        sample = read_image(_image(mode, box), keep_metadata=True)
        coded = encode_image(net, sample, model=model, **arguments)
        save_image(decode_image(net, coded), path.with_suffix(".png"))
        print(path.name, write_coded(coded, path), "bytes")
    if not (video := HERE / "v2-video.cav").exists():
        _save_video(video)


if __name__ == "__main__":
    main()
