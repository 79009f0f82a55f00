# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How fast models code, as they are and prepared, measured in turn in one run.

The reference is the model as it is: plain calls, default layout, float32. Beside it stand the
preparations of ``compressai.inference.prepare``: ``fp32``, and ``bf16`` only where ``--precision
auto`` takes it, unless asked for. Each runs in a process of its own. For each there is the time of
each stage, the memory on top (of all tensors that live at the same time, and its ratio to what the
larger of ``g_a`` and ``g_s`` takes alone), and for batches the time of one image.

Sizes behind the first are for the growth, and only one preparation is measured there, once: the
time of a pixel over that at the first size, where 1 is linear.

    python benchmarks/models.py [--models tcm ...] [--sizes 512x768 2048x1365] [--repeats 5]

With ``--sync-safe``, coding is synchronised, as it is in files: preparations then have the networks
of the entropy path on native code, too.

With ``--training``, a training step in float32 against one in bfloat16 and channels-last layout.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from _paths import CLOCKS, Runner, build
from _report import alternate, machine, summary
from _stages import STAGES

from compressai.inference import has_native_bfloat16
from compressai.losses import RateDistortionLoss
from compressai.zoo import image_models

IN_BATCH = "compress of a batch, each"


def measure(
    paths: dict[str, Runner], size: tuple[int, int], repeats: int, batch: int, *, thorough: bool
) -> dict[str, Any]:
    """Figures of one model at one size; only if ``thorough``, with memory."""
    shown = {name: path.ask("show", size, batch) for name, path in paths.items()}

    def timed(task: str) -> dict[str, list[float]]:
        seconds: dict[str, list[float]] = {name: [] for name in paths}
        # The first call gets its memory from the system.
        for _ in range(1 + repeats):
            for name, path in paths.items():
                seconds[name].append(path.ask("seconds", task))
        return {name: values[1:] for name, values in seconds.items()}

    seconds = {task: timed(task) for task in ("compress", "decompress")}
    if batch > 1:
        seconds[IN_BATCH] = {
            name: [value / batch for value in values] for name, values in timed("batch").items()
        }

    def whole(name: str) -> list[float]:
        return [a + b for a, b in zip(seconds["compress"][name], seconds["decompress"][name])]

    size_of, strings = shown["reference"]
    result: dict[str, Any] = {"size": size_of, "batch": batch, "paths": {}}
    for name, path in paths.items():
        result["paths"][name] = {
            "seconds": {task: summary(values[name]) for task, values in seconds.items()},
            "times_faster": summary([a / b for a, b in zip(whole("reference"), whole(name))]),
            "stages": path.ask("split"),
            "same_strings": shown[name][1] == strings,
        }
        if thorough:
            result["paths"][name]["memory"] = path.ask("memory")
    return result


def measure_training(name: str, quality: int, repeats: int, clock: str) -> dict[str, Any]:
    """A step in float32 against one in bfloat16 and channels-last layout."""
    criterion = RateDistortionLoss(lmbda=0.01)

    def stepper(fast: bool) -> Callable[[], None]:
        net = build(name, quality).train()
        x = torch.rand(4, 3, 256, 256)
        if fast:
            net = net.to(memory_format=torch.channels_last)
            x = x.contiguous(memory_format=torch.channels_last)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-5)

        def step() -> None:
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                out = net(x)
            criterion(out, x)["loss"].backward()
            optimizer.step()

        return step

    steps = {"fp32": stepper(False), "bf16 and channels last": stepper(True)}
    seconds = alternate(steps, repeats, CLOCKS[clock])
    plain, fast = seconds.values()
    return {
        "model": name,
        "training_step": {key: summary(values) for key, values in seconds.items()},
        "times_faster": summary([a / b for a, b in zip(plain, fast)]),
    }


def growth(results: list[dict[str, Any]]) -> dict[str, float]:
    """Time of a pixel at the last size over that at the first, for each path."""

    def a_pixel(result: dict[str, Any], path: str) -> float:
        seconds = result["paths"][path]["seconds"]
        total = seconds["compress"]["median"] + seconds["decompress"]["median"]
        return total / (result["size"][0] * result["size"][1])

    first, last = results[0], results[-1]
    return {path: a_pixel(last, path) / a_pixel(first, path) for path in last["paths"]}


def print_table(name: str, result: dict[str, Any]) -> None:
    height, width = result["size"]
    print(f"\n{name}, {height} x {width}, seconds (medians)")
    print(
        f"{'':10} {'compress':>9} {'decompr.':>9} {'faster':>7} {'peak MB':>8} {'ratio':>5}  same  "
        "time split"
    )
    for path, figures in result["paths"].items():
        seconds, stages = figures["seconds"], figures["stages"]
        whole = sum(stages.values())
        split = " ".join(f"{stage} {stages[stage] / whole:.0%}" for stage in STAGES)
        memory = " " * 14
        if "memory" in figures:
            peaks = figures["memory"]["peak_bytes"]
            peak = max(peaks[task]["tensors"] for task in ("compress", "decompress")) / 1e6
            memory = f"{peak:8.0f} {figures['memory']['coding_over_transforms']:5.2f}"
        print(
            f"{path:10} {seconds['compress']['median']:9.3f} "
            f"{seconds['decompress']['median']:9.3f} {figures['times_faster']['median']:6.2f}x "
            f"{memory}  {'yes' if figures['same_strings'] else 'no':4}  {split}"
        )

    if result["batch"] > 1:
        print(f"in a batch of {result['batch']}, compression")
        for path, figures in result["paths"].items():
            alone = figures["seconds"]["compress"]["median"]
            each = figures["seconds"][IN_BATCH]["median"]
            print(
                f"{path:10} {each:9.3f} s an image, {1 / each:.2f} images/s, {alone / each:.2f}x "
                "as fast as one by one"
            )


def plot(results: dict[str, dict[str, Any]], target: Path) -> None:
    """Draw the time split of every model and path; the reference of each model is as long as 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = []
    for name, result in results.items():
        unit = sum(result["paths"]["reference"]["stages"].values())
        for path, figures in result["paths"].items():
            shares = {stage: value / unit for stage, value in figures["stages"].items()}
            bars.insert(0, (f"{name}, {path}", shares))
    pyplot.rcParams["svg.hashsalt"] = "compressai"
    figure, axes = pyplot.subplots(figsize=(9, 1 + 0.35 * len(bars)), layout="constrained")
    left = [0.0] * len(bars)
    for stage in STAGES:
        widths = [stages[stage] for _, stages in bars]
        axes.barh([label for label, _ in bars], widths, left=left, label=stage)
        left = [a + b for a, b in zip(left, widths)]
    axes.set_xlabel("time of compress and decompress, reference = 1")
    axes.legend(ncols=len(STAGES), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    figure.savefig(target)


def parse_size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    return int(height), int(width)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", default=list(image_models), choices=sorted(image_models)
    )
    parser.add_argument("--quality", type=int, default=1)
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=parse_size,
        default=[(512, 768)],
        metavar="HxW",
        help="rounded up to what the model takes",
    )
    parser.add_argument(
        "--paths", nargs="+", choices=["fp32", "bf16"], help="besides the reference"
    )
    parser.add_argument("--batch", type=int, default=1, help="code as many images at once, too")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for busy machines, with --threads 1"
    )
    parser.add_argument("--sync-safe", action="store_true", help="code in synchrony, as files do")
    parser.add_argument("--training", action="store_true", help="time training steps instead")
    parser.add_argument("--plot", type=Path, help="draw the time split at the first size")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    paths = args.paths or [
        path for path in ("fp32", "bf16") if path != "bf16" or has_native_bfloat16()
    ]
    grown = "bf16" if "bf16" in paths else paths[0]
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "models", "command": command, **machine()}))
    if args.training:
        for name in args.models:
            print(json.dumps(measure_training(name, args.quality, args.repeats, args.clock)))
        return

    first: dict[str, dict[str, Any]] = {}
    for name in args.models:
        results = []
        with ExitStack() as stack:
            arguments = args.threads, args.clock, args.sync_safe
            running = {
                path: stack.enter_context(Runner(name, args.quality, path, *arguments))
                for path in ("reference", *paths)
            }
            for size in args.sizes:
                if not results:
                    result = measure(running, size, args.repeats, args.batch, thorough=True)
                else:
                    two = {path: running[path] for path in ("reference", grown)}
                    result = measure(two, size, 1, 1, thorough=False)
                results.append(result)
                print(json.dumps({"model": name, "quality": args.quality, **result}), flush=True)
                print_table(name, result)
        if len(results) > 1:
            figures = growth(results)
            print(json.dumps({"model": name, "growth": figures}))
            print("growth:", ", ".join(f"{path} {value:.2f}" for path, value in figures.items()))
        first[name] = results[0]
    if args.plot:
        plot(first, args.plot)


if __name__ == "__main__":
    main()
