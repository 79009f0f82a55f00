# SPDX-License-Identifier: BSD-3-Clause-Clear
"""All benchmarks that ``make bench`` runs, within a time, and one table of what they found.

First the coder, sequential scans, cores that are shared and a training step, each briefly; then
every model of the zoo at 512x768, synchronised where it can be, as files are: the model as it is
(``plain``) against the prepared one, by turns, with the share of each stage of the latter, the
memory that it takes, and the time of a pixel at four times the area over that at 512x768, where 1
is linear. What is left of the time is divided among the models that are left: those that take long
are measured once, and without memory and growth if even that takes too long. What was not measured
is named.

Models have the weights that ship, else random ones, whose networks take as long.

    make bench
    python benchmarks/overview.py [--minutes 37] [--models lite tcm ...] [--only-models]
        [--clock cpu]

With ``--clock cpu``, for machines on which other programs run, models are timed with one thread,
in seconds of the processor.

With ``COMPRESSAI_BENCH_PROGRAM``, a folder with CompressAI or with the authors' program of a model,
that is measured beside ours, with the same weights where it takes them; see
``benchmarks/_other_program.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from _other_program import OtherProgram, other_program
from _paths import CLOCKS, Runner, build, images
from _report import machine

from compressai.zoo import image_models

HERE = Path(__file__).parent
SIZE = (512, 768)
STAGES = {"transforms": ("g_a", "g_s"), "h_s, contexts": ("h_a", "h_s", "contexts")}
MOST_REPEATS = 5
# Of the time, what the parts before the models may take.
SHARE_OF_PARTS = 0.25


class Clock:
    """What is left of the time.

    Args:
        minutes: all of it.
    """

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - time.monotonic()


def run(script: str, *arguments: object, seconds: float) -> list[dict[str, Any]] | str:
    """The lines of JSON that a benchmark prints, or why there are none."""
    command = [sys.executable, HERE / script, *arguments]
    seconds = max(1, seconds)
    try:
        done = subprocess.run(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return f"not measured: it took more than {seconds:.0f} s"
    except subprocess.CalledProcessError as error:
        return f"not measured: status {error.returncode}"
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def spread(values: Sequence[float]) -> str:
    """The median, and the ends if there are several."""
    text = f"{statistics.median(values):.2f}"
    return f"{text} ({min(values):.2f} .. {max(values):.2f})" if len(values) > 1 else text


def parts(clock: Clock) -> list[str]:
    """A line for each benchmark that is not about all models."""
    most = SHARE_OF_PARTS * clock.left
    lines = []
    found = run("coder.py", "--symbols", 300_000, "--repeats", 5, seconds=most / 4)
    if isinstance(found, str):
        lines.append(f"coder: {found}")
    else:
        rates = found[1]["symbols_per_second"]
        plain, several = (found[1][key] for key in ("times_constriction", "times_plain"))
        lines.append(
            f"coder: encodes {plain['encode']['median']:.1f} and decodes "
            f"{plain['decode']['median']:.1f} times as fast as constriction "
            f"({rates['encode']['median'] / 1e6:.0f} and {rates['decode']['median'] / 1e6:.0f} M "
            f"symbols/s); interleaved strings decode {several['decode']['median']:.2f} times as "
            f"fast as plain ones, {found[1]['interleaved_bytes_over_plain'] - 1:.4%} bytes more"
        )
    found = run("autoregressive.py", "--repeats", 1, seconds=most / 4)
    if isinstance(found, str):
        lines.append(f"sequential scans: {found}")
    else:
        told = (
            f"{row['model']} {row['times_forward']['compress']['median']:.2f} and "
            f"{row['times_forward']['decompress']['median']:.2f}"
            for row in found[1:]
        )
        lines.append(
            f"sequential scans, compress and decompress over the network alone: {', '.join(told)}"
        )
    found = run("concurrency.py", "--rounds", 1, "--seconds", 2, seconds=most / 2)
    if isinstance(found, str):
        lines.append(f"concurrency: {found}")
    else:
        ratios = {
            policy: max(r["ratio"] for r in found[-1]["loads"] if r["waiting"] == policy)
            for policy in ("default", "passive")
        }
        shared = [row for row in found[-1]["together"] if row["way"] == "shared"]
        lines.append(
            f"beside busy programs: the slowest transform takes {ratios['passive']:.2f} times its "
            f"quiet time, {ratios['default']:.2f} where threads wait by default"
        )
        lines.append(
            "clients at the same time: "
            + ", ".join(f"{row['clients']}: {row['throughput']:.2f}" for row in shared)
            + " of the best sum of single threads"
        )
    found = run("models.py", "--training", "--models", "lite", "--repeats", 2, seconds=most / 4)
    if isinstance(found, str):
        lines.append(f"training step of lite: {found}")
    else:
        step = found[1]
        lines.append(
            f"training step of lite: {step['training_step']['fp32']['median']:.2f} s, in bfloat16 "
            f"{step['times_faster']['median']:.2f} times as fast"
        )
    return lines


def whole(runner: Runner) -> float:
    """Seconds to compress and decompress."""
    total: float = runner.ask("seconds", "compress") + runner.ask("seconds", "decompress")
    return total


def measure(name: str, seconds: float, threads: int, clock: str = "wall") -> dict[str, Any]:
    """Figures of one model, within about so many seconds if it can be."""
    start = time.monotonic()

    def left() -> float:
        return seconds - (time.monotonic() - start)

    with ExitStack() as stack:
        plain, fast = (
            stack.enter_context(Runner(name, 1, path, threads, clock, True))
            for path in ("reference", "auto")
        )
        for runner in (plain, fast):
            size, _ = runner.ask("show", SIZE, 1)
        other = _other(stack, name, tuple(size), threads)
        times: dict[str, list[float]] = {"plain": [], "prepared": [], "other": []}

        def once() -> None:
            times["plain"].append(whole(plain))
            times["prepared"].append(whole(fast))
            if other is not None:
                times["other"].append(other.seconds())

        before = left()
        once()
        # Beside the repeats there are stages and memory, of about three passes.
        cost = max(before - left(), 1e-3)
        for _ in range(min(MOST_REPEATS - 1, int(left() / cost) - 3)):
            once()
        row: dict[str, Any] = {"model": name, "size": size, "seconds": times}
        row["stages"] = fast.ask("split")
        row["times_plain"] = [a / b for a, b in zip(times["plain"], times["prepared"])]
        if other is not None:
            row["times_other"] = [a / b for a, b in zip(times["other"], times["prepared"])]
            row["same_weights"] = other.same_weights
        if left() > 2 * cost:
            peaks = fast.ask("memory")["peak_bytes"]
            row["bytes"] = max(peaks[task]["tensors"] for task in ("compress", "decompress"))
        if left() > 6 * cost:
            larger, _ = fast.ask("show", (2 * SIZE[0], 2 * SIZE[1]), 1)
            a_pixel = whole(fast) / (larger[0] * larger[1])
            row["growth"] = a_pixel * size[0] * size[1] / statistics.median(times["prepared"])
    return row


def _other(stack: ExitStack, name: str, size: tuple[int, int], threads: int) -> OtherProgram | None:
    """The model of the other program, warmed up."""
    folder = other_program()
    if folder is None:
        return None
    place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    net = build(name, 1)
    torch.save({k: v.detach() for k, v in net.named_parameters()}, place / "weights.pt")
    torch.save(images(1, *size), place / "image.pt")
    del net
    try:
        program = OtherProgram(
            folder, name, place / "weights.pt", place / "image.pt", threads=threads
        )
        stack.enter_context(program)
        if program.same_weights is None:
            return None
        program.seconds()
    except RuntimeError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None
    return program


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """In Markdown."""
    others = any("times_other" in row for row in rows)
    titles = ["model", "plain, s", "prepared, times as fast"]
    titles += ["than the other program"] if others else []
    titles += [*STAGES, "coder and rest", "MB", "growth"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in rows:
        total = sum(row["stages"].values())
        shares = [sum(row["stages"][s] for s in names) / total for names in STAGES.values()]
        cells = [row["model"], f"{statistics.median(row['seconds']['plain']):.2f}"]
        cells.append(spread(row["times_plain"]))
        if others:
            cells.append(spread(row["times_other"]) if "times_other" in row else "")
        cells += [f"{share:.0%}" for share in (*shares, 1 - sum(shares))]
        cells.append(f"{row['bytes'] / 1e6:.0f}" if "bytes" in row else "")
        cells.append(f"{row['growth']:.2f}" if "growth" in row else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    # The last model that is begun takes its time, too.
    parser.add_argument("--minutes", type=float, default=37, help="for all (default: 37)")
    parser.add_argument(
        "--models", nargs="+", default=list(image_models), choices=sorted(image_models)
    )
    parser.add_argument("--only-models", action="store_true", help="nothing else")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="of models")
    args = parser.parse_args(argv)
    clock, threads = Clock(args.minutes), 1 if args.clock == "cpu" else torch.get_num_threads()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    about = {**machine(), "load": round(load, 1)}
    print(json.dumps({"benchmark": "overview", "minutes": args.minutes, **about}), flush=True)
    lines = [] if args.only_models else parts(clock)
    rows, missing, broken = [], [], []
    for number, name in enumerate(args.models):
        share = clock.left / (len(args.models) - number)
        if clock.left < 0:
            missing.append(name)
            continue
        try:
            rows.append(measure(name, share, threads, args.clock))
        except RuntimeError as error:  # a process of it ended, such as one that took all memory
            broken.append(f"{name}: {error}")
            continue
        print(json.dumps(rows[-1]), flush=True)
    print(
        f"\n{about['processor']}, threads of torch: {threads}, seconds by clock {args.clock}, load "
        f"{load:.1f} before and {os.getloadavg()[0]:.1f} after, 512 x 768\n"
    )
    print("\n".join([*table(rows), "", *lines]))
    if missing:
        print(f"not measured, for the time was over: {', '.join(missing)}")
    if broken:
        print("\n".join(["not measured, for a process failed:", *broken]))
        raise SystemExit(1)


if __name__ == "__main__":
    main()
