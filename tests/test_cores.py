# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Cores are shared out fairly, never twice, and given back whatever happens."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from compressai import cores
from compressai.cores import Cores, allowed_threads, torch_threads, usable_cores


def test_a_lone_request_gets_all_cores_each_time() -> None:
    shared = Cores(4)
    for _ in range(20):
        with shared.hold() as threads:
            assert threads == 4


def test_no_more_cores_are_held_than_there_are_and_all_come_back() -> None:
    shared = Cores(3)
    lock = threading.Lock()
    held: list[int] = []
    most = 0

    def work(_: int) -> None:
        nonlocal most
        with shared.hold() as threads:
            with lock:
                held.append(threads)
                most = max(most, sum(held))
            with lock:
                held.remove(threads)
            if threads % 2:
                raise ValueError("a request that fails")

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, number) for number in range(200)]:
            future.exception()
    assert 0 < most <= 3
    assert not held
    for _ in range(8):  # until the crowd is forgotten
        with shared.hold() as threads:
            pass
    assert threads == 3


def test_clients_that_come_back_at_once_keep_one_core_each() -> None:
    """Of two clients in turn, neither takes both cores while the other is away for a moment."""
    shared = Cores(2)
    first_holds, second_waits = threading.Event(), threading.Event()
    got: list[int] = []

    def second() -> None:
        first_holds.wait()
        second_waits.set()
        with shared.hold() as threads:
            got.append(threads)

    thread = threading.Thread(target=second)
    thread.start()
    with shared.hold() as threads:
        assert threads == 2
        first_holds.set()
        second_waits.wait()
        while shared._present < 2:
            pass
    thread.join()
    assert got == [1]
    with shared.hold() as threads:
        assert threads == 1


def test_operations_of_torch_have_the_threads_that_are_held() -> None:
    before = torch.get_num_threads()
    shared = Cores(before + 2)
    with shared.hold() as threads:
        assert torch.get_num_threads() == threads == before + 2
    assert torch.get_num_threads() == before


def test_threads_that_torch_meets_later_have_the_usual_number() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        barrier = threading.Barrier(4)

        def work() -> None:
            barrier.wait()
            with torch_threads(1):
                assert torch.get_num_threads() == 1
                barrier.wait()

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_limit_of_processor_time_is_a_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    for text, expected in (
        (None, 16),
        ("max 100000\n", 16),
        ("350000 100000\n", 3),
        ("50000 100000\n", 1),
        ("3200000 100000\n", 16),
    ):
        if text is not None:
            (tmp_path / "cpu.max").write_text(text)
        assert usable_cores() == expected


def test_no_more_threads_than_torch_was_told() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert allowed_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, -1])
def test_a_number_of_cores_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="count must be at least 1"):
        Cores(count)


def test_waiting_is_chosen_before_torch_is_loaded_and_leaves_other_choices_alone() -> None:
    told = """
import os, sys
from compressai.cores import wait_passively
assert "torch" not in sys.modules
print(wait_passively(), os.environ["OMP_WAIT_POLICY"])
import torch
print(wait_passively())
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        result = subprocess.run(
            [sys.executable, "-c", told],
            env={**environment, **given},
            capture_output=True,
            text=True,
            check=True,
        )
        assert result.stdout.split() == ["True", expected, "False"]


def test_the_program_lets_threads_wait_passively() -> None:
    told = """
import os, sys
from compressai.cli import main
try:
    main(["--version"])
finally:
    print(os.environ["OMP_WAIT_POLICY"], "torch" in sys.modules)
"""
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    result = subprocess.run(
        [sys.executable, "-c", told], env=environment, capture_output=True, text=True
    )
    assert result.stdout.split()[-2:] == ["passive", "False"]


def test_threads_that_use_pillow_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening and saving, and a coded image that is opened only while it is saved again."""
    from PIL import Image

    import compressai.pillow
    from compressai.pillow import models, plugin

    cores_of_plugin = Cores(2)
    monkeypatch.setattr(models, "_cores", cores_of_plugin)
    held: list[int] = []

    def counted(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            held.append(2 - (cores_of_plugin._free or 0))
            assert 1 <= held[-1] <= 2
            return function(*args, **kwargs)

        return call

    for name in ("decode_image", "encode_image"):
        monkeypatch.setattr(plugin, name, counted(getattr(plugin, name)))
    image = Image.linear_gradient("L").resize((64, 64)).convert("RGB")

    def work(_: int) -> bytes:
        first, second = io.BytesIO(), io.BytesIO()
        image.save(first, "CAI", quality=20)
        Image.open(first).save(second, "CAI", quality=20)
        return second.getvalue()

    with ThreadPoolExecutor(4) as pool:
        files = list(pool.map(work, range(6)))
    assert len(held) == 18
    assert len(set(files)) == 1
    assert cores_of_plugin._free == 2
    with pytest.raises(ValueError, match="count must be at least 1"):
        compressai.pillow.configure(cores=0)
