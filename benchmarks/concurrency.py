# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Transforms beside busy programs, and requests at the same time, by torch; ratios in one run.

1. Analysis and synthesis with one thread and with as many as there are cores, without busy programs
   beside and with, with threads that wait as OpenMP's do by default and with passive ones
   (``OMP_WAIT_POLICY``), each in a process of its own. ``fair`` is what a system takes away that
   gives all threads that run the same time. Aim: at a load of twice the cores, at most 2.5 times
   the quiet time. With all cores, the load is counted with our threads and without them.
2. Images coded and decoded by 1, 2, 4 and 8 clients at the same time: images a second, compared
   with as many processes as cores that code with one thread each, and the longest time of an image
   compared with the median of a lone client. ``shared`` is a process whose threads share cores by
   ``compressai.cores.Cores``, ``unshared`` one whose threads all take all cores, ``processes`` are
   of one client and one thread each. Aim of ``shared``: at least 0.9.

    python benchmarks/concurrency.py [--model lite] [--size 512x768] [--seconds 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from _report import PHOTO

from compressai.cores import Cores, usable_cores

POLICIES = ("default", "passive")
CLIENTS = (1, 2, 4, 8)
SPIN = "while True: pass"


# -- in processes of their own ---------------------------------------------------------------------


def _work(
    size: tuple[int, int], model: str
) -> tuple[dict[str, Callable[[], Any]], Callable[..., Any]]:
    """The transforms of a model on a photo, and coding and decoding of it."""
    import torch
    from PIL import Image

    from compressai.bitstream import decode_image, encode_image, read_image
    from compressai.inference import prepare
    from compressai.model_choice import choose_model

    chosen = choose_model(model, None, "mse", None)
    net = prepare(chosen.net)
    photo = Image.open(PHOTO).convert("RGB").resize(size[::-1])
    image = read_image(photo)
    x = (
        image.pixels[None].float() / 255
        if image.pixels.dtype == torch.uint8
        else image.pixels[None]
    )
    x = x[..., : size[0] // 64 * 64, : size[1] // 64 * 64]
    with torch.no_grad():
        y = net.g_a(x)

    def analysis() -> Any:
        with torch.no_grad():
            return net.g_a(x)

    def synthesis() -> Any:
        with torch.no_grad():
            return net.g_s(y)

    def both() -> None:
        coded = encode_image(net, image, workers=1)
        decode_image(net, coded, workers=1)

    return {"analysis": analysis, "synthesis": synthesis}, both


def _serve(size: tuple[int, int], model: str) -> None:
    """Answer questions on standard input, a line of JSON each."""
    import torch

    transforms, both = _work(size, model)
    both()
    for line in sys.stdin:
        question = json.loads(line)
        torch.set_num_threads(question["threads"])
        if question["what"] == "transforms":
            answer: Any = {
                name: statistics.median(_times(function, question["repeats"]))
                for name, function in transforms.items()
            }
        else:
            cores = Cores(question["threads"]) if question["shared"] else None
            answer = _clients(both, question["clients"], question["seconds"], cores)
        print(json.dumps(answer), flush=True)


def _times(function: Callable[[], Any], repeats: int) -> list[float]:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return times


def _clients(
    both: Callable[[], None], clients: int, seconds: float, cores: Cores | None
) -> dict[str, Any]:
    """Images a second, and the time of each image."""
    import torch

    threads, latencies = torch.get_num_threads(), []
    start = time.perf_counter()

    def client() -> None:
        if cores is None:
            torch.set_num_threads(threads)
        while time.perf_counter() - start < seconds:
            begin = time.perf_counter()
            with cores.hold() if cores is not None else contextlib.nullcontext():
                both()
            latencies.append(time.perf_counter() - begin)

    running = [threading.Thread(target=client) for _ in range(clients)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return {"rate": len(latencies) / (time.perf_counter() - start), "latencies": latencies}


# -- in this process -------------------------------------------------------------------------------


class Worker:
    """A process that measures.

    Args:
        policy: of waiting, one of ``POLICIES``.
        arguments: for this program.
    """

    def __init__(self, policy: str, *arguments: str) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
        if policy != "default":
            environment["OMP_WAIT_POLICY"] = policy
        environment["OMP_NUM_THREADS"] = str(usable_cores())
        self.process = subprocess.Popen(
            [sys.executable, Path(__file__), "--worker", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def tell(self, **question: Any) -> None:
        assert self.process.stdin is not None
        print(json.dumps(question), file=self.process.stdin, flush=True)

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("a process that measures has ended")
        return json.loads(line)

    def ask(self, **question: Any) -> Any:
        self.tell(**question)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def busy(programs: int) -> Iterator[None]:
    """So many busy programs beside."""
    running = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(programs)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def loads(workers: dict[str, Worker], cores: int, rounds: int) -> list[dict[str, Any]]:
    """Times beside busy programs over quiet times, by policy, threads and transform."""
    found: dict[tuple[Any, ...], list[float]] = {}
    quiet: dict[tuple[Any, ...], list[float]] = {}
    # Our threads bring the load to twice the cores; or the others alone do.
    cases = sorted({(cores, cores), (cores, 2 * cores), (1, 2 * cores - 1)})
    for _ in range(rounds):
        for threads, others in cases:
            ask = {"what": "transforms", "threads": threads, "repeats": 5}
            for beside in (0, others):
                with busy(beside):
                    for policy, worker in workers.items():
                        for name, seconds in worker.ask(**ask).items():
                            key = (policy, threads, others, name)
                            (found if beside else quiet).setdefault(key, []).append(seconds)
    rows = []
    for key, seconds in found.items():
        policy, threads, others, name = key
        ratios = [a / b for a, b in zip(seconds, quiet[key])]
        rows.append(
            {
                "transform": name,
                "threads": threads,
                "busy_programs": others,
                "waiting": policy,
                "quiet_ms": 1e3 * statistics.median(quiet[key]),
                "ratio": statistics.median(ratios),
                "lowest": min(ratios),
                "highest": max(ratios),
                "fair": max(1.0, (threads + others) / cores),
            }
        )
    return rows


def together(
    workers: Sequence[Worker], cores: int, seconds: float, rounds: int
) -> list[dict[str, Any]]:
    """Throughput and longest latency of clients at the same time; the workers wait passively."""

    def side_by_side(count: int) -> dict[str, Any]:
        alone = {"what": "clients", "threads": 1, "clients": 1, "shared": False}
        for worker in workers[:count]:
            worker.tell(**alone, seconds=seconds)
        answers = [worker.answer() for worker in workers[:count]]
        return {
            "rate": sum(answer["rate"] for answer in answers),
            "latencies": [value for answer in answers for value in answer["latencies"]],
        }

    def threads(count: int, shared: bool) -> dict[str, Any]:
        return workers[0].ask(
            what="clients", threads=cores, clients=count, shared=shared, seconds=seconds
        )

    ways: dict[str, Callable[[int], dict[str, Any]]] = {
        "shared": lambda count: threads(count, True),
        "unshared": lambda count: threads(count, False),
        "processes": side_by_side,
    }
    rates: dict[tuple[int, str], list[float]] = {}
    longest: dict[tuple[int, str], list[float]] = {}
    for count in CLIENTS:
        for _ in range(rounds):
            best = side_by_side(cores)
            lone = statistics.median(threads(1, True)["latencies"])
            for way, run in ways.items():
                got = run(count)
                rates.setdefault((count, way), []).append(got["rate"] / best["rate"])
                longest.setdefault((count, way), []).append(max(got["latencies"]) / lone)
    return [
        {
            "clients": count,
            "way": way,
            "throughput": statistics.median(values),
            "lowest": min(values),
            "highest": max(values),
            "longest": statistics.median(longest[count, way]),
        }
        for (count, way), values in rates.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="lite")
    parser.add_argument("--size", default="512x768", help="height x width (default: 512x768)")
    parser.add_argument("--seconds", type=float, default=4, help="of each round (default: 4)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.worker:
        height, width = map(int, args.size.split("x"))
        _serve((height, width), args.model)
        return
    cores = usable_cores()
    what = ("--model", args.model, "--size", args.size)
    print(f"{args.model}, {args.size}, {cores} cores, load before {os.getloadavg()[0]:.1f}")
    by_policy: dict[str, Worker] = {}
    more: list[Worker] = []
    try:
        by_policy = {policy: Worker(policy, *what) for policy in POLICIES}
        first = loads(by_policy, cores, args.rounds)
        print(f"{'transform':10} threads busy waiting    quiet   loaded / quiet       fair")
        for row in first:
            print(
                f"{row['transform']:10} {row['threads']:7} {row['busy_programs']:4} "
                f"{row['waiting']:8} {row['quiet_ms']:5.0f} ms {row['ratio']:6.2f} "
                f"({row['lowest']:.2f} .. {row['highest']:.2f}) {row['fair']:5.2f}"
            )
        by_policy.pop("default").end()
        more = [Worker("passive", *what) for _ in range(max(*CLIENTS, cores) - 1)]
        second = together([by_policy["passive"], *more], cores, args.seconds, args.rounds)
        print("clients way        images a second / best sum    longest / lone")
        for row in second:
            print(
                f"{row['clients']:7} {row['way']:10} {row['throughput']:6.2f} "
                f"({row['lowest']:.2f} .. {row['highest']:.2f}) {row['longest']:21.2f}"
            )
    finally:
        for worker in (*by_policy.values(), *more):
            worker.end()
    print(json.dumps({"benchmark": "concurrency", "loads": first, "together": second}))


if __name__ == "__main__":
    main()
