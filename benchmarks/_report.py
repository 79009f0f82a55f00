# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What benchmarks share: alternating timings, numbers of threads, and a line about the machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["PHOTO", "alternate", "machine", "summary", "threads"]

# What is measured unless photos are given: 451x300, in the repository.
PHOTO = Path(__file__).parents[1] / "examples" / "assets" / "chelsea.png"


def machine() -> dict[str, Any]:
    """The processor, number of threads and versions that figures depend on."""
    import numpy
    import torch

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """That many threads of torch."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def alternate(
    functions: Mapping[str, Callable[[], Any]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each function, called in turn, so that all see the same state of the machine.

    Args:
        functions: what to time, by name; each is called once before the timing.
        repeats: timed calls of each.
        clock: seconds at this moment. ``time.process_time`` leaves out what other programs
            take of the processor, if there is only one thread to time.

    Returns:
        Seconds, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            start = clock()
            function()
            seconds[name].append(clock() - start)
    return seconds


def summary(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest of some figures."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
