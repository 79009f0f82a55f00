# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What dead zones gain in the slices of a model, on photos of a folder or a ZIP file.

::

    python benchmarks/dead_zone.py photos.zip --member validation --dead-zones 0.01 0.02 0.04
    python benchmarks/dead_zone.py photos --slices 3 4

BD-rate over rounding in the same slice, while the others stay as the model has them; of the
middles of the photos, with bits as likelihoods tell them. Choose by photos that nothing is
evaluated on.
"""

from __future__ import annotations

import argparse
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from compressai.evaluation.bjontegaard import bd_rate
from compressai.models import CompressionModel
from compressai.zoo import image_models

_HEIGHT, _WIDTH = 384, 512
_QUALITIES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)


def _files(source: Path, member: str) -> Iterator[bytes]:
    if source.is_dir():
        yield from (path.read_bytes() for path in sorted(source.iterdir()))
        return
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            if name.startswith(member):
                yield archive.read(name)


def middles(source: Path, member: str = "") -> list[Tensor]:
    """``(1, 3, 384, 512)`` of every photo that is large enough."""
    found = []
    for content in _files(source, member):
        with Image.open(io.BytesIO(content)) as photo:
            image = photo.convert("RGB")
        left, top = (image.width - _WIDTH) // 2, (image.height - _HEIGHT) // 2
        if left >= 0 and top >= 0:
            found.append(to_tensor(image.crop((left, top, left + _WIDTH, top + _HEIGHT)))[None])
    return found


@torch.no_grad()
def curve(net: CompressionModel, x: Tensor) -> list[tuple[float, float]]:
    """Bits per pixel and PSNR in dB at each quality."""
    points = []
    for quality in _QUALITIES:
        out = net(x, quality=quality)
        bits = -sum(float(values.log2().sum()) for values in out["likelihoods"].values())
        image = (255 * out["x_hat"].clamp(0, 1)).round() / 255
        error = float((image - x).square().mean())
        points.append((bits / x[0, 0].numel(), -10 * math.log10(error)))
    return points


def main(argv: Sequence[str] | None = None) -> None:
    import pillow_jxl  # noqa: F401  # prepared photos are JPEG XL

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photos", type=Path, help="folder, or ZIP file")
    parser.add_argument("--member", default="", help="beginning of names in the ZIP file")
    parser.add_argument("--model", default="lite", help="channel-slice model of variable rate")
    parser.add_argument("--slices", type=int, nargs="+", help="(default: all)")
    parser.add_argument("--dead-zones", type=float, nargs="+", default=[0.01, 0.02, 0.04])
    args = parser.parse_args(argv)
    images = middles(args.photos, args.member)
    if not images:
        parser.error(f"{args.photos} has no photo of {_WIDTH} x {_HEIGHT} or more")
    torch.set_num_threads(1)
    net = image_models[args.model](pretrained=True).eval()
    leaves = net.latent_codec.y.latent_codec
    print(f"{len(images)} photos; BD-rate in % over rounding")
    print("slice  dead zone    mean   each")
    for k in args.slices if args.slices is not None else range(len(leaves)):
        leaf = leaves[f"y{k}"]
        kept, leaf.dead_zone = leaf.dead_zone, 0.0
        rounding = [curve(net, x) for x in images]
        for leaf.dead_zone in args.dead_zones:
            gains = [bd_rate(a, curve(net, x)) for a, x in zip(rounding, images)]
            each = " ".join(f"{gain:6.2f}" for gain in gains)
            print(f"{k:5} {leaf.dead_zone:10.3f} {sum(gains) / len(gains):7.2f} {each}", flush=True)
        leaf.dead_zone = kept


if __name__ == "__main__":
    main()
