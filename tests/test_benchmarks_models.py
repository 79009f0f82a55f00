# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The benchmark of models: what it measures adds up, and leaves models as they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from tiny_nets import tiny_net

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _find_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_stages_cover_the_time_and_the_model_is_left_alone() -> None:
    from _stages import STAGES, split_time

    net = tiny_net("elic2022-official")
    attributes = {name: set(vars(module)) for name, module in net.named_modules()}
    ticks = iter(range(10_000))
    split = split_time(net, lambda: net.compress(torch.rand(1, 3, 64, 64)), lambda: next(ticks))
    assert tuple(split) == STAGES
    assert sum(split.values()) == next(ticks) - 1
    assert all(split[stage] > 0 for stage in STAGES if stage != "g_s")
    assert split["g_s"] == 0
    assert {name: set(vars(module)) for name, module in net.named_modules()} == attributes


def test_synchronised_coding_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    import models

    command = ["--models", "lite", "--paths", "fp32", "--sizes", "64x64", "--repeats", "1"]
    models.main([*command, "--threads", "1", "--sync-safe"])
    _, result, *_ = capsys.readouterr().out.splitlines()
    stages = json.loads(result)["paths"]["fp32"]["stages"]
    assert all(stages[stage] > 0 for stage in ("h_s", "contexts", "coder"))
    sys.modules.pop("models")


def test_figures_are_printed_as_table_and_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import models

    target = tmp_path / "split.svg"
    sizes = ["--sizes", "64x64", "128x65", "--batch", "2", "--repeats", "1", "--plot", str(target)]
    models.main(["--models", "lite", "--paths", "fp32", "bf16", "--threads", "1", *sizes])
    lines = capsys.readouterr().out.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    assert rows[0]["benchmark"] == "models"
    assert [row["size"] for row in rows[1:3]] == [[64, 64], [128, 128]]
    fp32 = rows[1]["paths"]["fp32"]
    assert isinstance(fp32["same_strings"], bool)
    assert set(fp32["seconds"]) == {"compress", "decompress", "compress of a batch, each"}
    assert rows[1]["paths"]["bf16"]["same_strings"] == fp32["same_strings"]
    # As tests/test_memory.py holds lite to, whose transforms need little.
    assert fp32["memory"]["coding_over_transforms"] < 1.5
    assert set(rows[2]["paths"]) == set(rows[3]["growth"]) == {"reference", "bf16"}
    assert any(line.startswith("fp32 ") for line in lines)
    assert target.stat().st_size > 1000
    sys.modules.pop("models")
