# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Programs that want it keep freed memory for what they allocate next, within limits."""

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


@pytest.mark.parametrize(("pages", "most"), [(1 << 18, 1 << 28), (1 << 24, (1 << 31) - 1)])
def test_memory_stays_up_to_a_quarter_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, pages: int, most: int
) -> None:
    library = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": pages}
    monkeypatch.setattr(memory.os, "sysconf", sizes.__getitem__)
    memory.keep_freed_memory()
    assert library.calls == [(-1, most), (-4, 0)]


# Two in turn, so that one is freed while the next is in use, as in a network.
MEMORY = """
import resource, sys, torch
from compressai import _freed_memory as memory

def use(maps):
    last = None
    for _ in range(maps):
        last = torch.ones(1 << 24)  # 64 MB

if sys.argv[1] == "keep":
    memory.keep_freed_memory()
use(16)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use(16)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
memory.give_back_freed_memory()
with open("/proc/self/statm") as file:
    left = int(file.read().split()[1]) * resource.getpagesize() >> 20
print(faults, left)
"""


def _measured(kind: str) -> list[int]:
    """Pages that were cleared, and megabytes at the end, of a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, kind], capture_output=True, text=True, check=True
    )
    return list(map(int, run.stdout.split()))


@pytest.mark.skipif(memory._glibc() is None, reason="needs glibc")
def test_freed_memory_is_used_again_and_given_back_when_asked() -> None:
    """Of 262,144 pages that 16 maps have."""
    faults, left = _measured("keep")
    others, usual = _measured("leave")
    assert faults < 100_000
    assert others > 2 * faults or others < 100_000  # where the system takes huge pages
    assert left < usual + 100


def test_memory_is_left_alone_without_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    memory._glibc.cache_clear()
    try:
        assert memory._glibc() is None
        memory.keep_freed_memory()
        memory.give_back_freed_memory()
    finally:
        memory._glibc.cache_clear()


def test_transforms_change_nothing_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    prepare(tiny_net("mbt2018-mean"), "fp32").g_a(torch.rand(1, 3, 64, 64))
    assert not library.calls
