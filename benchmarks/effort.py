# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What each effort of an encoder takes and gains on one photo.

::

    python benchmarks/effort.py photo.png --quality 3 --efforts 1 2 3 4 5 6

Time is the processor's, of one thread. The objective is rate plus weighted distortion, with the
bytes of the strings and the decoded image, against effort 1.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence

import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from compressai.models import CompressionModel
from compressai.zoo import image_models

_SIDE = 256


def measure(net: CompressionModel, x: torch.Tensor, effort: int) -> tuple[float, float, float]:
    """Seconds, bits per pixel and PSNR in dB of ``x`` ``(1, 3, H, W)``."""
    start = time.process_time()
    coded = net.compress(x, effort=effort)
    seconds = time.process_time() - start
    x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    bits = 8 * sum(len(strings[0]) for strings in coded["strings"])
    error = float((x_hat - x).square().mean())
    return seconds, bits / x[0, 0].numel(), -10 * math.log10(error)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("photo", help=f"its middle of {_SIDE} x {_SIDE} pixels is taken")
    parser.add_argument("--model", default="lite", help="name in the zoo (default: lite)")
    parser.add_argument("--quality", type=int, default=3)
    parser.add_argument("--efforts", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    args = parser.parse_args(argv)
    with Image.open(args.photo) as photo:
        image = photo.convert("RGB")
    left, top = ((side - _SIDE) // 2 for side in image.size)
    if left < 0 or top < 0:
        parser.error(f"{args.photo} is smaller than {_SIDE} x {_SIDE}")
    x = to_tensor(image.crop((left, top, left + _SIDE, top + _SIDE)))[None]
    torch.set_num_threads(1)
    net = image_models[args.model](args.quality, pretrained=True).eval()
    # What is imported and built at first use is not counted.
    measure(net, x, 2)
    _, bpp, psnr = measure(net, x, 1)

    def objective(bpp: float, psnr: float) -> float:
        return bpp + net.lagrangian_multiplier() * 255**2 * 10 ** (-psnr / 10)

    plain = objective(bpp, psnr)
    print("effort  seconds     bpp   PSNR  objective")
    for effort in args.efforts:
        seconds, bpp, psnr = measure(net, x, effort)
        gain = 100 * (objective(bpp, psnr) / plain - 1)
        print(f"{effort:6} {seconds:8.2f} {bpp:7.4f} {psnr:6.2f} {gain:8.1f} %", flush=True)


if __name__ == "__main__":
    main()
