# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Recipes of training: what they set, what a run tells beside them, and who else is told."""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import types
from pathlib import Path

import pytest
import torch
from program import blurred_noise

from compressai.cores import usable_cores
from compressai.registry import ENTRIES
from compressai.training import main
from compressai.training.expected import Expected
from compressai.training.options import PROGRAM, parse_args
from compressai.training.recipes import PiecewiseRate, Recipe, find_recipe, recipe_names
from compressai.training.report import Reporter

ROOT = Path(__file__).parents[1]
SMALL = ["--model-args", "N=8", "M=12", "--patch-size", "64", "64", "-n", "0", "--seed", "1"]


def _images(folder: Path) -> Path:
    for i in range(4):
        (folder / f"deep/{i}").mkdir(parents=True)
        blurred_noise((80, 72), seed=i).save(folder / f"deep/{i}/photo.png")
    return folder


@pytest.mark.parametrize("name", ["mbt2018-mean", "tcm", "dcae", "hpcm-base", "lite"])
def test_recipes_say_data_length_rates_and_source(name: str) -> None:
    assert name in recipe_names()
    recipe = find_recipe(name)
    assert recipe.data
    assert recipe.source
    assert (recipe.steps is None) != (recipe.epochs is None)
    shares = [share for share, _ in recipe.rates]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert all(rate > 0 for _, rate in recipe.rates)
    assert not recipe.beginning or recipe.measured
    args = parse_args(["-d", "x", "--recipe", name], PROGRAM)
    assert (args.model, args.batch_size, args.epochs) == (name, recipe.batch_size, recipe.epochs)
    assert args.learning_rate == recipe.rates[0][1]
    assert ENTRIES[name].scale or args.lmbda == ENTRIES[name].losses["mse"][args.quality]["lmbda"]


def test_unknown_recipes_name_those_there_are() -> None:
    with pytest.raises(ValueError, match="name must be one of mbt2018-mean, tcm"):
        find_recipe("x")


def test_options_take_precedence_and_other_models_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["-d", "x", "--recipe", "dcae", "--quality", "6", "--batch-size", "2", "--epochs", "9"]
    args = parse_args(words, PROGRAM)
    assert (args.quality, args.batch_size, args.epochs, args.lmbda) == (6, 2, 9, 0.05)
    with pytest.raises(SystemExit):
        parse_args(["-d", "x", "--recipe", "dcae", "-m", "tcm"], PROGRAM)
    assert "--recipe dcae is not for --model tcm" in capsys.readouterr().err


def test_program_trains_lite_on_all_cores_and_the_example_what_scripts_expect() -> None:
    ours, theirs = parse_args(["-d", "x"], PROGRAM), parse_args(["-d", "x"])
    assert (ours.model, ours.num_workers) == ("lite", usable_cores())
    assert (theirs.model, theirs.num_workers) == ("bmshj2018-factorized", 4)


def test_beginning_of_lite_is_that_of_its_log() -> None:
    """Means over the qualities of the log, whose distortions are averaged before the decibels."""
    recipe = find_recipe("lite")
    log = (ROOT / "docs" / "lite" / "training.jsonl").read_text().splitlines()
    rows = {row["step"]: row for row in map(json.loads, log) if row["event"] == "validation"}
    for step, bpp, psnr in recipe.beginning:
        tests = [value for key, value in rows[step].items() if re.fullmatch(r"q[0-9]+", key)]
        mse = statistics.fmean(10 ** (-test["psnr"] / 10) for test in tests)
        assert bpp == pytest.approx(statistics.fmean(test["bpp"] for test in tests), abs=6e-4)
        assert psnr == pytest.approx(-10 * math.log10(mse), abs=6e-3)
    assert recipe.measured in Expected(recipe, 1, None).introduction()


@pytest.mark.parametrize("name", ["mbt2018-mean", "tcm", "dcae"])
def test_beginnings_are_those_of_their_logs(name: str) -> None:
    recipe = find_recipe(name)
    log = (ROOT / "docs" / "recipes" / f"{name}.jsonl").read_text().splitlines()
    tests = [json.loads(line) for line in log]
    assert [step for step, _, _ in recipe.beginning] == [test["step"] for test in tests]
    for (_, bpp, psnr), test in zip(recipe.beginning, tests):
        assert (bpp, psnr) == (round(test["bpp"], 3), round(test["psnr"], 2))
    # How far that is, and that steps were smaller than the recipe's.
    assert f"{recipe.beginning[-1][0]} steps" in recipe.measured
    assert "crop" in recipe.measured


def test_end_is_the_point_that_authors_published() -> None:
    bpp, psnr = find_recipe("hpcm-base").end(3)
    assert (bpp, psnr) == (0.2729, 32.4012)
    assert find_recipe("hpcm-base").end(7) is None
    assert find_recipe("mbt2018-mean").end(3) is None


def test_learning_rates_change_where_the_recipe_says() -> None:
    recipe = find_recipe("hpcm-base")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-4)
    schedule = PiecewiseRate(optimizer, recipe.rates, recipe.epochs)
    rates = []
    for _ in range(recipe.epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(torch.tensor(1.0))
    changes = {epoch: rates[epoch] for epoch in range(1, 3001) if rates[epoch] != rates[epoch - 1]}
    assert changes == pytest.approx({2750: 3e-5, 2850: 1e-5, 2950: 1e-6})


def test_tests_are_told_beside_what_was_measured(tmp_path: Path) -> None:
    recipe = Recipe(
        "hpcm-base", "d", 1, (64, 64), ((0, 1e-4),), "s", steps=9,
        beginning=((0, 1.0, 20.0), (100, 0.6, 24.0)), measured="m",
    )  # fmt: skip
    expected = Expected(recipe, 3, tmp_path)
    text = expected.note(50, {"mse_loss": 0.01, "bpp_loss": 0.9})
    assert text is not None
    assert "Step 50: 0.900 bpp, 20.00 dB (expected about now: 0.800 bpp, 22.00 dB)" in text
    assert "+12.40 dB, -0.627 bpp to the end" in text
    assert "expected about now" not in str(expected.note(101, {"mse_loss": 0.01, "bpp_loss": 0.9}))
    assert expected.note(102, {"ms_ssim_loss": 0.9, "bpp_loss": 0.9}) is None
    pytest.importorskip("matplotlib")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_run_follows_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, run = _images(tmp_path / "images"), tmp_path / "run"
    words = ["-d", str(images), "--recipe", "mbt2018-mean", *SMALL, "--epochs", "2"]
    main([*words, "--save-dir", str(run), "--log-file", str(tmp_path / "log")], PROGRAM)
    out = capsys.readouterr().out
    assert "Recipe mbt2018-mean: " in out
    assert "Run: mbt2018-mean, 2 epochs of 3 images, 2 steps; tests on 1 image\n" in out
    assert "Learning rate: 0.0001" in out
    assert "Step 1: " in out
    assert "dB; run ends in " in out
    pytest.importorskip("matplotlib")
    assert (run / "curve.png").exists()


def test_runs_without_a_recipe_tell_decibels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-d", str(_images(tmp_path / "images")), "-m", "mbt2018-mean", *SMALL, "--no-save"]
    main([*words, "--epochs", "1", "--val-fraction", "0.5"], PROGRAM)
    out = capsys.readouterr().out
    assert out.startswith("Run: mbt2018-mean, 1 epoch of 2 images, 1 step; tests on 2 images\n")
    assert "\nPSNR: " in out


def test_crops_that_do_not_fit_the_model_are_refused_before_the_first_epoch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-d", str(_images(tmp_path / "images")), "-m", "mbt2018-mean", *SMALL, "--no-save"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--patch-size", "64", "72"], PROGRAM)
    assert str(stopped.value) == (
        "train: --patch-size: sides must be multiples of 64 for mbt2018-mean, got 64 72"
    )
    assert capsys.readouterr().out == ""


def test_trackers_are_told_all_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[object] = []
    module = types.ModuleType("trackio")
    module.init = lambda **options: told.append(options)  # type: ignore[attr-defined]
    module.log = told.append  # type: ignore[attr-defined]
    module.finish = lambda: told.append("finished")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "trackio", module)
    reporter = Reporter(tmp_path / "log", track="trackio", options={"seed": "1"})
    reporter.record("train", epoch=0, step=7, batch=7, loss=0.5)
    reporter.close()
    first, second, last = told
    assert first == {"project": "compressai", "config": {"seed": "1"}}
    assert second == {"train/step": 7, "train/epoch": 0, "train/loss": 0.5}
    assert last == "finished"
    assert json.loads((tmp_path / "log").read_text())["loss"] == 0.5
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="--track wandb needs that package: pip install wandb"):
        Reporter(track="wandb")
