# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How fast scans are, and how far their arithmetic may be apart.

    python benchmarks/selective_scan.py speed     [--size 512 768] [--repeats 1] [--threads 1]
    python benchmarks/selective_scan.py deviation [--size 512 768]

``speed`` scans the maps of MambaVC's first stage, 512 channels of half the image's side, on the
native kernel and in torch, in turn. Times are those of the processor.

``deviation`` gives networks that both sides of a codec compute the same input in two arithmetics:
on the native kernel and in torch, each against double precision. The figure is the largest
``|a - b| / (1 + |b| / 2)``, in the unit of the tolerance of synchronised coding. Scans alone are
measured for lengths up to that of a whole image.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from _report import alternate, machine, summary
from torch import Tensor, nn

from compressai.layers.ssm import SS2D, cross_selective_scan
from compressai.registry import ENTRIES

AIM = 8


def scan_of(block: SS2D, backend: str, x: Tensor) -> Tensor:
    weights = (block.dt_projs_weight, block.dt_projs_bias, block.A_logs, block.Ds)
    return cross_selective_scan(x, block.x_proj_weight, None, *weights, scan_backend=backend)


def speed(size: tuple[int, int], repeats: int) -> dict[str, Any]:
    torch.manual_seed(0)
    block = SS2D(256)
    x = torch.randn(1, 512, size[0] // 2, size[1] // 2)
    updates = 4 * 16 * x.numel()
    with torch.no_grad():
        seconds = alternate(
            {backend: lambda b=backend: scan_of(block, b, x) for backend in ("native", "torch")},
            repeats,
            time.process_time,
        )
    return {
        "map": list(x.shape),
        "seconds": {name: summary(values) for name, values in seconds.items()},
        "ns_per_update": {n: summary(v)["median"] / updates * 1e9 for n, v in seconds.items()},
        "ratio": summary([a / b for a, b in zip(seconds["torch"], seconds["native"])]),
    }


def apart(a: Tensor, b: Tensor) -> float:
    return float(((a.double() - b).abs() / (1 + b.abs() / 2)).max())


def both(run: Callable[[nn.Module, Tensor], Tensor], network: nn.Module, x: Tensor) -> dict:
    """Deviations of a network's result from double precision, by what computes its scans."""
    with torch.no_grad():
        wide = run(copy.deepcopy(network).double(), x.double())
        results = {}
        for backend in ("native", "torch"):
            for module in network.modules():
                if isinstance(module, SS2D):
                    module.scan_backend = backend
            results[backend] = run(network, x)
    return {
        **{backend: apart(result, wide) for backend, result in results.items()},
        "of_each_other": apart(results["native"], results["torch"].double()),
    }


def deviation(size: tuple[int, int]) -> list[dict[str, Any]]:
    torch.manual_seed(0)
    rows = []
    for height, width in ((16, 24), (32, 48), (128, 192)):
        for slower in (1, 100):
            # Weights as they are drawn, whose states last for up to a thousand positions, and
            # states that last longer by a factor.
            block = SS2D(32).eval()
            with torch.no_grad():
                block.A_logs -= math.log(slower)
            x = torch.randn(1, 64, height, width)
            row = both(lambda b, v: scan_of(b, b.scan_backend, v), block, x)
            facts = {"network": "scan", "slower": slower, "positions": height * width}
            rows.append({**facts, **row})
    h, w = size[0] // 16, size[1] // 16
    net = ENTRIES["mambaic"].model().eval()
    codec = net.latent_codec
    z = torch.randn(1, net.hyper_channels, h // 4, w // 4).mul(3).round()
    contexts = torch.randn(1, 2 * net.M + 4 * net.M // net.num_slices, h, w)
    for name, network, x in (
        ("h_mean_s", codec.h_s.h_mean_s, z),
        ("context_vss.1", codec.y.context_vss[1], contexts),
    ):
        rows.append({"network": name, **both(lambda n, v: n(v), network, x)})
    return rows


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "deviation"))
    parser.add_argument("--size", nargs=2, type=int, default=(512, 768), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "selective_scan", "command": command, **machine()}))
    if args.what == "speed":
        result = speed(tuple(args.size), args.repeats)
        print(json.dumps(result))
        print(f"native: {result['ratio']['median']:.1f} x as fast (aim: at least {AIM})")
    else:
        for row in deviation(tuple(args.size)):
            print(json.dumps(row))


if __name__ == "__main__":
    main()
