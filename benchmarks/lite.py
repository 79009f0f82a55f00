# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How long does ``lite-vbr`` take against ``lite``, prepared in float32?

Codes a photo, scaled to the size, with both, in turn, on one thread, at the qualities of ``lite``
and at those of ``lite-vbr`` that have the same multiplier. Prints processor time, bytes, and the
ratio of encoding and decoding together (of the shortest times, which other programs disturb least);
ends with an error if it is above 1.5 on average.

    python benchmarks/lite.py CHECKPOINT [--photo FILE] [--size 512 768] [--repeats 7]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from _report import PHOTO, alternate, machine
from PIL import Image
from synchrony import size_of
from torch import Tensor
from torchvision.transforms.functional import to_tensor

from compressai.checkpoint import load_checkpoint
from compressai.inference import prepare
from compressai.models.lite_vbr import lagrangian
from compressai.zoo import lite
from compressai.zoo.image import training_recipe

LIMIT = 1.5


def same_multiplier(quality: int) -> float:
    """The quality of ``lite-vbr`` that has the multiplier of a quality of ``lite``."""
    lmbda = training_recipe("lite", quality)["lmbda"]
    return 100 * math.log(lmbda / lagrangian(0)) / math.log(lagrangian(100) / lagrangian(0))


def tasks_of(net: Any, x: Tensor, **options: float) -> tuple[int, dict[str, Callable[[], Any]]]:
    """Bytes, and what is timed."""
    coded = net.compress(x, **options)
    sides = (coded["strings"], coded["shape"])
    return size_of(coded), {
        "compress": partial(net.compress, x, **options),
        "decompress": partial(net.decompress, *sides, **options),
    }


def measure(checkpoint: Path, x: Tensor, repeats: int) -> list[dict[str, Any]]:
    """Figures of each quality of ``lite``."""
    variable, rows = prepare(load_checkpoint(checkpoint).eval(), "fp32"), []
    for quality in (1, 2, 3, 4):
        fixed = prepare(lite(quality, pretrained=True).eval(), "fp32")
        matching = same_multiplier(quality)
        sizes, seconds = {}, {}
        old, new = tasks_of(fixed, x), tasks_of(variable, x, quality=matching)
        for name, (size, tasks) in {"lite": old, "lite-vbr": new}.items():
            sizes[name] = size
            seconds.update({(name, task): function for task, function in tasks.items()})
        times = alternate(seconds, repeats, time.process_time)
        best = {key: min(values) for key, values in times.items()}
        total = {
            name: sum(best[name, task] for task in ("compress", "decompress")) for name in sizes
        }
        rows.append(
            {
                "quality": {"lite": quality, "lite-vbr": round(matching, 2)},
                "bytes": sizes,
                "seconds": {" ".join(key): value for key, value in best.items()},
                "ratio": total["lite-vbr"] / total["lite"],
            }
        )
    return rows


def main(argv: list[str]) -> int:
    """Print the figures; 1 if the model is too slow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--size", type=int, nargs=2, default=(512, 768), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    height, width = args.size
    with Image.open(args.photo) as photo:
        resized = photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    x = to_tensor(resized)[None]
    rows = measure(args.checkpoint, x, args.repeats)
    mean = sum(row["ratio"] for row in rows) / len(rows)
    print(json.dumps({"machine": machine(), "qualities": rows, "ratio": mean}, indent=1))
    return int(mean > LIMIT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
