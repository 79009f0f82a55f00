# SPDX-License-Identifier: BSD-3-Clause-Clear
"""bfloat16 costs hardly any quality, and the benchmark that says so sees when it does."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from program import save_crops
from tiny_nets import one_thread

from compressai.inference import prepare

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _find_benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "weights"))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)
    with one_thread():
        yield
    sys.modules.pop("precision", None)


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    save_crops({tmp_path / "crop.png": (96, 20, 352, 212)})
    return tmp_path / "crop.png"


def test_shipped_weights_lose_little_in_bf16(crop: Path, capsys: pytest.CaptureFixture) -> None:
    import precision

    status = precision.main([str(crop)])
    lines = capsys.readouterr().out.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")][1:]
    losses = [row["pictures"]["crop.png"]["loss_db"] for row in rows]
    assert [row["quality"] for row in rows] == [1, 2, 3, 4]
    assert all(loss != 0 for loss in losses)
    assert max(losses) <= 0.02
    assert status == 0


def test_benchmark_sees_what_coarse_transforms_lose(
    crop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import precision

    def coarse(net, precision):
        prepared = prepare(net, "fp32")
        if precision == "bf16":
            synthesis = prepared.g_s
            vars(prepared)["g_s"] = lambda y_hat: synthesis((y_hat * 2).round() / 2)
        return prepared

    monkeypatch.setattr(precision, "prepare", coarse)
    assert precision.main([str(crop), "--quality", "4"]) == 1


def test_random_weights_are_refused(crop: Path) -> None:
    import precision

    with pytest.raises(ValueError, match="no trained weights"):
        precision.main([str(crop), "--model", "mbt2018-mean", "--quality", "1"])
