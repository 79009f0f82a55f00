# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Kernels work on the threads that torch has, and bring no OpenMP library of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from compressai import _kernels

needs_kernels = pytest.mark.skipif(not _kernels.available(), reason="no kernels for the processor")
needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc")

# Each thread count in a process of its own, since threads stay.
PROGRAM = """
import ctypes, os, sys
threads, torch_first = int(sys.argv[1]), sys.argv[2] == "torch"
def count(): return len(os.listdir("/proc/self/task"))
def libraries():
    with open("/proc/self/maps") as file:
        names = {line.split()[-1].rpartition("/")[2] for line in file}
    return sum("omp" in name.split(".so")[0] and ".so" in name for name in names)
if torch_first:
    import torch
    torch.set_num_threads(threads)
    torch.rand(2**20).add_(1).exp_().sum()
import numpy as np
from importlib.util import find_spec, module_from_spec
spec = find_spec("compressai._kernels")
before, loaded = count(), libraries()
kernels = module_from_spec(spec)
spec.loader.exec_module(kernels)
x = np.random.default_rng(1).standard_normal((2, 31, 33, 32), dtype=np.float32)
weights = np.random.default_rng(2).standard_normal((3, 3, 32), dtype=np.float32)
results = []
for team in (1, threads):
    out = np.zeros_like(x)
    kernels.depthwise3x3(x, weights, None, 1.0, False, None, out, team)
    results.append(out)
shared = hasattr(ctypes.CDLL(None), "GOMP_parallel")
right = np.array_equal(*results) and bool(results[0].any())
print(shared, count() - before, libraries() - loaded, right)
"""


def _run(threads: int, first: str) -> list[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads), first],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    return done.stdout.split()


@needs_kernels
@needs_proc
@pytest.mark.parametrize("threads", [2, 5])
def test_threads_are_those_that_torch_has_already(threads: int) -> None:
    """They are found by name, none are added, and the result is that of one thread."""
    assert _run(threads, "torch") == ["True", "0", "0", "True"]


@needs_kernels
@needs_proc
def test_where_no_openmp_is_loaded_threads_of_the_call_do_the_same() -> None:
    assert _run(3, "numpy") == ["False", "0", "0", "True"]
