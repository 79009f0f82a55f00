# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The benchmark of the next edition of ``lite`` compares what costs alike, and knows its limit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from test_models_lite_vbr import TINY
from tiny_nets import one_thread

from compressai.checkpoint import save_checkpoint
from compressai.models.lite_vbr import LiteVbr, lagrangian
from compressai.zoo.image import training_recipe

ROOT = Path(__file__).parents[1]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    with one_thread():
        import lite

        yield lite
    sys.modules.pop("lite", None)


def test_qualities_have_the_same_multiplier(benchmark: ModuleType) -> None:
    for quality in (1, 2, 3, 4):
        lmbda = training_recipe("lite", quality)["lmbda"]
        assert lagrangian(benchmark.same_multiplier(quality)) == pytest.approx(lmbda)


def test_ratio_decides(
    benchmark: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.manual_seed(0)
    checkpoint = tmp_path / "lite.safetensors"
    save_checkpoint(checkpoint, LiteVbr(**TINY), architecture="lite-vbr", arguments=TINY)
    # Every call takes a second.
    ticks = iter(range(10**6))
    monkeypatch.setattr(benchmark.time, "process_time", lambda: next(ticks))
    words = [str(checkpoint), "--size", "64", "128", "--repeats", "1"]
    assert benchmark.main(words) == 0
    assert json.loads(capsys.readouterr().out)["ratio"] == 1
    monkeypatch.setattr(benchmark, "LIMIT", 0.9)
    assert benchmark.main(words) == 1
