# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``make bench`` ends in time, prints one table, and names what it did not measure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def overview(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delenv("COMPRESSAI_BENCH_PROGRAM", raising=False)
    import overview

    monkeypatch.setattr(overview, "SIZE", (64, 64))
    yield overview
    sys.modules.pop("overview")


def rows_of(out: str) -> tuple[list[dict[str, Any]], list[list[str]]]:
    lines = out.splitlines()
    told = [json.loads(line) for line in lines if line.startswith("{")]
    table = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    return told[1:], [[cell.strip() for cell in row] for row in table if "---" not in row]


def test_models_and_another_program_are_in_one_table(
    overview: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    # A program that has one of the two models, and prints something.
    (tmp_path / "build_model.py").write_text(
        "import sys\n"
        f"sys.path.append({str(ROOT)!r})\n"
        "from compressai.zoo import image_models\n"
        "def build(name):\n"
        "    print('building', name)\n"
        "    return image_models[name](1) if name == 'bmshj2018-factorized' else None\n"
    )
    monkeypatch.setenv("COMPRESSAI_BENCH_PROGRAM", str(tmp_path))
    names = ["lite", "bmshj2018-factorized"]
    overview.main(["--only-models", "--models", *names, "--minutes", "30"])
    figures, (titles, *cells) = rows_of(capsys.readouterr().out)
    assert [row["model"] for row in figures] == names == [row[0] for row in cells]
    assert titles[3] == "than the other program"
    assert cells[0][3] == ""
    assert cells[1][3] != ""
    assert figures[1]["same_weights"] is True
    for row, told in zip(figures, cells):
        assert len(row["times_plain"]) == overview.MOST_REPEATS
        assert row["bytes"] > 0
        assert row["growth"] > 0
        assert sum(int(cell.rstrip("%")) for cell in told[4:7]) in (99, 100, 101)


def test_what_there_is_no_time_for_is_named(
    overview: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    overview.main(["--only-models", "--models", "lite", "mbt2018", "--minutes", "0.001"])
    out = capsys.readouterr().out
    figures, cells = rows_of(out)
    # The first is measured, once, though nothing else of it.
    assert [len(row["times_plain"]) for row in figures] == [1]
    assert "bytes" not in figures[0]
    assert len(cells) == 2
    assert out.splitlines()[-1] == "not measured, for the time was over: mbt2018"


def test_parts_that_take_too_long_are_ended_and_named(overview: Any) -> None:
    assert overview.run("coder.py", seconds=0.01) == "not measured: it took more than 1 s"
    assert overview.run("coder.py", "--nonsense", seconds=60) == "not measured: status 2"


def test_models_whose_process_ends_are_named_and_others_measured(
    overview: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure = overview.measure

    def failing(name: str, *arguments: Any) -> dict[str, Any]:
        if name == "mbt2018":
            raise RuntimeError("the process that was to show has ended")
        return measure(name, *arguments)

    monkeypatch.setattr(overview, "measure", failing)
    with pytest.raises(SystemExit):
        overview.main(["--only-models", "--models", "mbt2018", "lite", "--minutes", "0.02"])
    out = capsys.readouterr().out
    figures, cells = rows_of(out)
    assert [row["model"] for row in figures] == ["lite"]
    assert len(cells) == 2
    assert out.splitlines()[-1] == "mbt2018: the process that was to show has ended"
