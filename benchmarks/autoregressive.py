# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How much the sequential scan of the autoregressive models costs.

The limit is the network itself: one parallel ``forward`` of the same image. Prints, for each
model, the time of ``compress`` and ``decompress`` as multiples of that, measured in turn.

    python benchmarks/autoregressive.py [--models mbt2018 ...] [--size 512 768] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import sys

import torch
from _report import alternate, machine, summary

from compressai.zoo import image_models


def measure(name: str, quality: int, size: tuple[int, int], repeats: int) -> dict:
    torch.manual_seed(0)
    net = image_models[name](quality).eval()
    net.update()
    x = torch.rand(1, 3, *size)
    coded = net.compress(x)

    def forward() -> None:
        with torch.no_grad():
            net(x)

    seconds = alternate(
        {
            "forward": forward,
            "compress": lambda: net.compress(x),
            "decompress": lambda: net.decompress(coded["strings"], coded["shape"]),
        },
        repeats,
    )
    ratios = {
        task: summary([a / b for a, b in zip(seconds[task], seconds["forward"])])
        for task in ("compress", "decompress")
    }
    return {
        "model": name,
        "quality": quality,
        "size": list(size),
        "positions": size[0] * size[1] // 256,
        "seconds": {task: summary(values) for task, values in seconds.items()},
        "times_forward": ratios,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["mbt2018", "cheng2020-anchor"])
    parser.add_argument("--quality", type=int, default=3)
    parser.add_argument("--size", nargs=2, type=int, default=(512, 768), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "autoregressive", "command": command, **machine()}))
    for name in args.models:
        result = measure(name, args.quality, tuple(args.size), args.repeats)
        print(json.dumps(result))
        ratios = result["times_forward"]
        print(
            f"{name}: compress {ratios['compress']['median']:.2f} x and decompress "
            f"{ratios['decompress']['median']:.2f} x the time of forward (aim: at most 3)"
        )


if __name__ == "__main__":
    main()
