# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What tiles cost and save: quality and bytes against no tiles, and memory of a large image.

Quality: an image is coded whole and in tiles; the loss is the difference of the PSNR, in all of it
and within the strips where tiles overlap. Memory: an image of 8192 x 8192 (the given one,
enlarged) goes from a PNG file to a .cai file and back, each way in a process of its own, which
reports the most memory that it had.

    python benchmarks/tiles.py [--images FILE...] [--sides 128 256]
    python benchmarks/tiles.py --memory [--side 8192] [--tile auto]

The model is lite with the weights that ship, in all qualities (--memory: in the highest), or that
of --checkpoint. It ends with an error if an image loses more than 0.05 dB by tiles, or takes more
than 4 GB.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from _report import PHOTO, machine
from PIL import Image
from torch import Tensor, nn

import compressai
from compressai.bitstream import (
    CodedImage,
    ImageData,
    decode_image,
    encode_image,
    read_coded,
    read_image,
    save_image,
    write_coded,
)
from compressai.zoo import lite

MOST_LOSS_DB = 0.05
MOST_GB = 4.0
QUALITIES = (1, 2, 3, 4)


def load(checkpoint: Path | None, quality: int = QUALITIES[-1]) -> nn.Module:
    if checkpoint is not None:
        return compressai.load(checkpoint)
    return lite(quality=quality, metric="mse", pretrained=True).eval()


def psnr(decoded: ImageData, image: ImageData, where: Tensor | None = None) -> float:
    error = (decoded.pixels - image.pixels).square().mean(0)
    return -10 * math.log10(float((error if where is None else error[where]).mean()))


def overlaps(coded: CodedImage) -> Tensor:
    """Where more than one tile counts."""
    several = torch.zeros(coded.height, coded.width, dtype=torch.bool)
    for index, box in enumerate(coded.tiling):
        part = several[box.y : box.y + box.height, box.x : box.x + box.width]
        part |= coded.tiling.weights(index) < 1
    return several


def measure_quality(
    net: nn.Module, path: Path, sides: list[int], quality: int | None = None
) -> list[dict[str, Any]]:
    """Rows of the report: for each side, what tiles lose against none."""
    image = read_image(path)
    whole = encode_image(net, image, model="lite", tile=None)
    decoded, size = decode_image(net, whole), len(whole.to_bytes())
    rows = []
    for side in sides:
        tiled = encode_image(net, image, model="lite", tile=side)
        if len(tiled.tiles) == 1:
            continue
        blended, where = decode_image(net, tiled), overlaps(tiled)
        rows.append(
            {
                "image": path.name,
                "quality": quality,
                "size": image.size,
                "tile": side,
                "overlap": tiled.tile_overlap,
                "tiles": len(tiled.tiles),
                "psnr_untiled": round(psnr(decoded, image), 3),
                "psnr_loss": round(psnr(decoded, image) - psnr(blended, image), 4),
                "psnr_loss_in_overlaps": round(
                    psnr(decoded, image, where) - psnr(blended, image, where), 4
                ),
                "bytes_ratio": round(len(tiled.to_bytes()) / size, 4),
            }
        )
    return rows


def encode_large(checkpoint: Path | None, source: Path, target: Path, tile: str) -> None:
    image = read_image(source)
    side = tile if tile == "auto" else int(tile)
    write_coded(encode_image(load(checkpoint), image, model="lite", tile=side), target)


def decode_large(checkpoint: Path | None, source: Path, target: Path, tile: str) -> None:
    save_image(decode_image(load(checkpoint), read_coded(source)), target)


def report_memory(queue: Any, function: Any, arguments: tuple[Any, ...]) -> None:
    start = time.perf_counter()
    function(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    queue.put({"GB": round(peak / 1e9, 3), "seconds": round(time.perf_counter() - start, 1)})


def measure_memory(checkpoint: Path | None, path: Path, side: int, tile: str) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")  # a fork would count the memory of this process
    report: dict[str, Any] = {"size": (side, side), "tile": tile}
    with tempfile.TemporaryDirectory() as folder:
        names = [Path(folder) / name for name in ("large.png", "large.cai", "decoded.png")]
        with Image.open(path) as photo:
            large = photo.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
            large.save(names[0], compress_level=1)
        for place, function in enumerate((encode_large, decode_large)):
            queue = context.SimpleQueue()
            arguments = (checkpoint, names[place], names[place + 1], tile)
            process = context.Process(target=report_memory, args=(queue, function, arguments))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"{function.__name__} failed")
            report[function.__name__] = queue.get()
        report["bytes"] = names[1].stat().st_size
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="another model; default: lite of the zoo")
    parser.add_argument("--images", type=Path, nargs="+", default=[PHOTO])
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 256])
    parser.add_argument("--memory", action="store_true", help="measure memory in place of quality")
    parser.add_argument("--side", type=int, default=8192, help="of the image for --memory")
    parser.add_argument("--tile", default="auto", help="for --memory")
    options = parser.parse_args()
    report: dict[str, Any] = {"machine": machine()}
    if options.memory:
        memory = report["memory"] = measure_memory(
            options.checkpoint, options.images[0], options.side, options.tile
        )
        worst = max(memory[way]["GB"] for way in ("encode_large", "decode_large"))
        problem = f"{worst} GB, more than {MOST_GB}" if worst > MOST_GB else None
    else:
        qualities = QUALITIES if options.checkpoint is None else (None,)
        rows = report["quality"] = [
            row
            for quality in qualities
            for net in [load(options.checkpoint, quality or 1)]
            for path in options.images
            for row in measure_quality(net, path, options.sides, quality)
        ]
        worst = report["worst_psnr_loss"] = max(row["psnr_loss"] for row in rows)
        problem = f"{worst} dB, more than {MOST_LOSS_DB}" if worst > MOST_LOSS_DB else None
    print(json.dumps(report, indent=1))
    if problem:
        raise SystemExit(problem)


if __name__ == "__main__":
    main()
