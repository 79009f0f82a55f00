# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Requests a second that examples/serve.py answers without torch and with it, in one run.

``python benchmarks/serving.py`` starts both servers, sends requests to one after the other, from as
many clients as there are cores, several times, and prints the medians, their ratio, the time to the
first answer of a server that was just started, and its memory.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from _report import PHOTO

SERVER = Path(__file__).parents[1] / "examples" / "serve.py"
ENGINES = ("runtime", "torch")


@contextmanager
def started(engine: str, workers: int) -> Iterator[tuple[str, int]]:
    """A server: its host and port, and the number of its process."""
    command = [sys.executable, SERVER, "--port", "0", "--engine", engine, "--workers", str(workers)]
    # As docs/deploy.md has it: else each of many threads keeps memory of its own.
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield urlsplit(process.stdout.readline().strip()).netloc, process.pid
        finally:
            process.terminate()


def ask(place: str, path: str, content: bytes) -> bytes:
    """One request.

    Raises:
        RuntimeError: it was refused.
    """
    connection = http.client.HTTPConnection(place)
    connection.request("POST", path, content)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(body.decode())
    connection.close()
    return body


def rate(place: str, path: str, content: bytes, clients: int, seconds: float) -> float:
    """Answers a second."""
    counts = [0] * clients
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        while time.perf_counter() < end:
            ask(place, path, content)
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def memory(process: int) -> float:
    """Peak of a process in MB; Linux only."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1e3


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3, help="of each round (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="(default: 5)")
    parser.add_argument("--clients", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, {args.clients} clients")
    photo = PHOTO.read_bytes()
    starts: dict[str, float] = {}
    start = time.perf_counter()
    with started("runtime", args.clients) as (runtime, runtime_process):
        coded = ask(runtime, "/encode?quality=60", photo)
        starts["runtime"] = time.perf_counter() - start
        start = time.perf_counter()
        with started("torch", args.clients) as (torch, torch_process):
            ask(torch, "/encode?quality=60", photo)
            starts["torch"] = time.perf_counter() - start
            places = {"runtime": runtime, "torch": torch}
            for title, path, content in (
                ("decode", "/decode", coded),
                ("encode", "/encode?quality=60", photo),
            ):
                found: dict[str, list[float]] = {engine: [] for engine in ENGINES}
                for place in places.values():
                    ask(place, path, content)
                for _ in range(args.rounds):
                    for engine, place in places.items():
                        found[engine].append(rate(place, path, content, args.clients, args.seconds))
                ours, theirs = (statistics.median(found[engine]) for engine in ENGINES)
                print(
                    f"{title:8} {ours:7.1f} requests/s without torch, {theirs:7.1f} with, "
                    f"ratio {ours / theirs:.2f}"
                )
            for engine, process in (("runtime", runtime_process), ("torch", torch_process)):
                print(f"{engine:8} {starts[engine]:7.1f} s to the first answer", end="")
                print(f", {memory(process):.0f} MB")


if __name__ == "__main__":
    main()
