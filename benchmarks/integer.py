# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What does ``lite-integer`` cost against ``lite``, and does every arithmetic decode the same?

Codes photos with ``lite``, plainly and with ``sync_safe``, and with ``lite-integer``, at each
quality. Prints bytes, PSNR, and the time of the processor (one thread) for compressing and
decompressing, as medians of ratios of alternating runs; and how many streams of ``lite-integer``
decode to the encoder's latent, to the bit, with other arithmetic (see ``synchrony.py``). Ends with
an error if one does not, or if ``lite-integer`` costs more than 3 % of bytes, 0.05 dB or 20 % of
time on average.

    python benchmarks/integer.py [--photos FILE_OR_FOLDER ...] [--qualities 1 2 3 4]
        [--size 512 768] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from _report import PHOTO, alternate, machine, summary
from synchrony import Decoders, photos, psnr, size_of
from torch import Tensor

from compressai.zoo import lite, lite_integer

# What integers may cost, see ``synchrony.py``. They round and look up between convolutions, which
# takes more time than shifting thresholds.
LIMITS = {"bytes": 0.03, "psnr": 0.05, "time": 1.2}


def measure(quality: int, images: list[tuple[str, Tensor]], repeats: int) -> dict[str, Any]:
    """Figures of one quality."""
    nets = {"lite": lite(quality, pretrained=True).eval()}
    nets["sync-safe"] = nets["lite"]
    nets["integer"] = lite_integer(quality, pretrained=True).eval()
    options = {name: {"sync_safe": name == "sync-safe"} for name in nets}
    decoders = Decoders(nets["integer"], 0)
    del decoders.settings["noise"]  # there are no deviations that it could stand for
    rows, ratios = [], {}
    for photo, x in images:
        coded = {name: net.compress(x, **options[name]) for name, net in nets.items()}
        tasks = {}
        for name, net in nets.items():
            sides = (coded[name]["strings"], coded[name]["shape"])
            tasks[name, "compress"] = lambda n=name, net=net, x=x: net.compress(x, **options[n])
            tasks[name, "decompress"] = lambda n=name, net=net, s=sides: net.decompress(
                *s, **options[n]
            )
        size = {name: size_of(c) for name, c in coded.items()}
        quality_of = {name: psnr(tasks[name, "decompress"]()["x_hat"], x) for name in nets}
        rows.append(
            {
                "photo": photo,
                "bpp": 8 * size["lite"] / x[0, 0].numel(),
                "psnr": quality_of["lite"],
                **{
                    name: {
                        "bytes": size[name] / size["lite"] - 1,
                        "psnr": quality_of[name] - quality_of["lite"],
                    }
                    for name in ("sync-safe", "integer")
                },
                "fates": {
                    setting: fate.verdict
                    for setting, fate in decoders.check(coded["integer"]).items()
                },
            }
        )
        seconds = alternate(tasks, repeats, time.process_time)
        for name, task in tasks:
            if name != "lite":
                pairs = zip(seconds[name, task], seconds["lite", task])
                ratios.setdefault(f"{name} {task}", []).extend(a / b for a, b in pairs)
    return {
        "quality": quality,
        "photos": rows,
        "time": {task: summary(values) for task, values in ratios.items() if values},
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures of a quality as a table."""
    rows = result["photos"]
    print(f"quality {result['quality']}, {len(rows)} photos, against lite:")
    for name in ("sync-safe", "integer"):
        more = [row[name]["bytes"] for row in rows]
        decibels = [row[name]["psnr"] for row in rows]
        times = "".join(
            f", {task.removeprefix(name).strip()} {figures['median']:.3f} x"
            for task, figures in result["time"].items()
            if task.startswith(name)
        )
        print(
            f"  {name:10}bytes {statistics.mean(more):+.2%} (up to {max(more):+.2%}), "
            f"PSNR {statistics.mean(decibels):+.3f} dB (down to {min(decibels):+.3f}){times}"
        )
    fates = {setting: [row["fates"][setting] for row in rows] for setting in rows[0]["fates"]}
    same = (f"{setting} {fate.count('same')}/{len(fate)}" for setting, fate in fates.items())
    print(f"  the same latent: {', '.join(same)}")


def within_limits(result: dict[str, Any]) -> bool:
    """Whether every stream was decoded and nothing costs more than it may."""
    rows = result["photos"]
    costs = {key: statistics.mean(row["integer"][key] for row in rows) for key in ("bytes", "psnr")}
    return (
        all(verdict == "same" for row in rows for verdict in row["fates"].values())
        and costs["bytes"] <= LIMITS["bytes"]
        and abs(costs["psnr"]) <= LIMITS["psnr"]
        and all(
            figures["median"] <= LIMITS["time"]
            for task, figures in result["time"].items()
            if task.startswith("integer")
        )
    )


def main(argv: list[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", nargs="+", type=Path, default=[PHOTO])
    parser.add_argument("--qualities", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--size", nargs=2, type=int, default=(512, 768), metavar=("H", "W"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    torch.set_num_threads(1)  # of which the clock counts the time
    print(json.dumps({"benchmark": "integer", "command": command, **machine()}))
    images = list(photos(args.photos, tuple(args.size)))
    results = []
    for quality in args.qualities:
        results.append(measure(quality, images, args.repeats))
        print(json.dumps(results[-1]))
        show(results[-1])
    failed = ", ".join(str(result["quality"]) for result in results if not within_limits(result))
    if failed:
        raise SystemExit(f"beyond the limits: quality {failed}")
    return results


if __name__ == "__main__":
    main()
