# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A long run: random images of random sizes to files and back, with several models in turn.

Every image is coded, written to bytes, read and decoded by another instance of the model. The
file holds a hash of the latent, so that a single different bit of ``y_hat`` ends the run; so does
an image of another size or mode. Sizes are from 1 x 1 to 600 x 600; images are flat, noise,
gradients, or extreme. At the end, memory must be what it was in the middle. (It grows with the
number of different sizes that came, because oneDNN keeps up to 1,024 operations that it has
compiled for their sizes, and with nothing else: the same images once more take no more.)

    python benchmarks/soak.py [--images 1000] [--seed 0] [--checkpoint FILE]

lite has the weights that ship, in its lowest quality, or those of the checkpoint; TCM, CCA and ELIC
are tiny and have random weights.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import machine
from PIL import Image
from torch import nn

import compressai
from compressai.bitstream import decode_image, encode_image, parse_coded, read_image
from compressai.zoo import lite

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from slice_nets import small_net
from tiny_nets import tiny_net

MAX_SIDE = 600
# A few sizes come for the first time in the second half, and what an allocator keeps is not lost.
_SLACK_BYTES = 32e6


def make_nets(checkpoint: Path | None = None) -> dict[str, nn.Module]:
    """The models by name, with tables, in evaluation mode."""
    torch.manual_seed(0)
    nets = {
        "lite": (
            lite(quality=1, metric="mse", pretrained=True).eval()
            if checkpoint is None
            else compressai.load(checkpoint)
        ),
        "tcm": small_net("tcm"),
        "cca": small_net("cca"),
        "elic2022-official": tiny_net("elic2022-official"),
    }
    for net in nets.values():
        net.update()
    return nets


def random_images(seed: int, max_side: int = MAX_SIDE) -> Iterator[Image.Image]:
    """Without end: flat, noise, gradients, and extremes, of random sizes and modes."""
    rng = np.random.default_rng(seed)
    yield Image.new("RGB", (1, 1), (255, 0, 255))
    while True:
        height, width = np.exp(rng.uniform(0, np.log(max_side + 1), 2)).astype(int).clip(1)
        kind = rng.integers(4)
        if kind == 0:
            samples = np.broadcast_to(rng.integers(0, 256, 3), (height, width, 3))
        elif kind == 1:
            samples = rng.integers(0, 256, (height, width, 3))
        elif kind == 2:
            down, along = (
                np.linspace(0, 1, height)[:, None, None],
                np.linspace(0, 1, width)[:, None],
            )
            samples = 255 * (down * rng.random(3) + along * rng.random(3)) / 2
        else:
            cell = int(rng.integers(1, 9))
            checks = np.add.outer(np.arange(height) // cell, np.arange(width) // cell) % 2
            samples = 255 * checks[..., None] * rng.integers(0, 2, 3)
        image = Image.fromarray(np.ascontiguousarray(samples).astype(np.uint8))
        yield image.convert(str(rng.choice(["RGB", "RGB", "L", "RGBA"])))


def memory() -> float:
    """Bytes of memory that this process has now, without what its allocator only keeps in store."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # other C libraries have no such call
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * float(os.sysconf("SC_PAGE_SIZE"))


def run(
    images: int, seed: int = 0, nets: dict[str, nn.Module] | None = None, max_side: int = MAX_SIDE
) -> dict[str, Any]:
    """Code that many images, in turn with each model.

    Args:
        images: how many, in all.
        seed: of the images.
        nets: the models; default: those of :func:`make_nets`.
        max_side: of the images, in pixels.

    Returns:
        What happened, as JSON data.

    Raises:
        BitstreamError: a file did not decode to the latent that was coded.
        RuntimeError: an image came back in another size or mode.
    """
    nets = make_nets() if nets is None else nets
    others = {name: copy.deepcopy(net) for name, net in nets.items()}
    report: dict[str, Any] = {"images": 0, "pixels": 0, "bytes": 0, "by_model": {}}
    resident = []
    start = time.perf_counter()
    for number, image in zip(range(images), random_images(seed, max_side)):
        name = list(nets)[number % len(nets)]
        coded = encode_image(
            nets[name], read_image(image), model=name, sync_safe=True, hash_y_hat=True
        )
        content = coded.to_bytes()
        decoded = decode_image(others[name], parse_coded(content)).to_image()
        if decoded.size != image.size:
            raise RuntimeError(f"image {number} of {image.size} came back as {decoded.size}")
        report["images"] += 1
        report["pixels"] += image.width * image.height
        report["bytes"] += len(content)
        report["by_model"][name] = report["by_model"].get(name, 0) + 1
        if (number + 1) % max(1, images // 10) == 0:
            resident.append(memory())
    report["seconds"] = round(time.perf_counter() - start, 1)
    report["memory_MB"] = [round(value / 1e6, 1) for value in resident]
    report["memory_is_flat"] = resident[-1] <= resident[len(resident) // 2 - 1] + _SLACK_BYTES
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, help="other weights of lite")
    options = parser.parse_args()
    report = run(options.images, options.seed, make_nets(options.checkpoint))
    print(json.dumps({"machine": machine(), **report}, indent=1))
    if not report["memory_is_flat"]:
        raise SystemExit("memory grew")


if __name__ == "__main__":
    main()
