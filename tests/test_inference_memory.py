# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Freed memory is kept for the next transform by programs that want it, within limits."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tiny_nets import tiny_net

from compressai import _freed_memory as memory
from compressai.inference import prepare


class Library:
    """Stands for the C library and keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def mallopt(self, parameter: int, value: int) -> None:
        self.calls.append((parameter, value))

    def malloc_trim(self, pad: int) -> None:
        self.calls.append((pad,))


@pytest.mark.parametrize("growth", [1 << 30, (1 << 30) + 1])
def test_memory_is_kept_as_long_as_anyone_is_inside(
    monkeypatch: pytest.MonkeyPatch, growth: int
) -> None:
    library = Library()
    sizes = iter([5000, 5000 + growth, 7000])
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    monkeypatch.setattr(memory, "_resident", lambda: next(sizes))
    monkeypatch.setattr(memory, "_least", 6000)
    monkeypatch.setattr(memory, "_MOST", 1 << 30)

    def fail() -> None:
        with memory.reused_memory():
            assert (-4, 0) in library.calls
            with memory.reused_memory():
                pass
            assert (0,) not in library.calls
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    trimmed = growth > 1 << 30
    assert library.calls.count((0,)) == trimmed
    assert memory._least == (7000 if trimmed else 5000)
    assert library.calls.index((-4, 65536)) > library.calls.index((-4, 0))


MEMORY = """
import resource, sys, torch
from compressai import _freed_memory as memory

memory._MOST = 1 << 30

def use(maps):
    with memory.reused_memory():
        [torch.ones(1 << 22) for _ in range(maps)]  # of 16 MB
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

start = use(0)
kept = use(16) - start
use(16), use(16)  # until no small block lies between the maps
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use(16)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
print(kept, faults, use(70) - start)
"""


def test_memory_stays_up_to_a_quarter_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 18}
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    assert memory._most() == 1 << 28
    sizes["SC_PHYS_PAGES"] = 1 << 24
    assert memory._most() == 4 << 30


@pytest.mark.skipif(memory._glibc() is None, reason="needs glibc")
def test_memory_stays_up_to_a_limit() -> None:
    """In a process of its own: what others have freed is kept as well."""
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    kept, faults, left = map(int, run.stdout.split())
    assert kept >= 240
    assert faults < 10_000  # of the 65,536 pages that it takes without
    assert left < 100


def test_memory_is_left_alone_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory._glibc.cache_clear()
    try:
        with memory.reused_memory():
            assert memory._users == 0
    finally:
        memory._glibc.cache_clear()


def test_only_a_program_that_wants_it_keeps_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    monkeypatch.setattr(memory, "_kept", False)
    prepared = prepare(tiny_net("mbt2018-mean"), "fp32")
    x = torch.rand(1, 3, 64, 64)
    prepared.g_a(x)
    assert not library.calls
    memory.keep_freed_memory()
    prepared.g_a(x)
    assert (-4, 0) in library.calls
