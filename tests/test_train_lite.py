# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Promises of the program that trains the small model, and of the one that gathers its data."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_models_lite import TINY as SMALL

from compressai.checkpoint import load_checkpoint
from compressai.models.lite import Lite

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY: dict[str, Any] = {**SMALL, "context_widths": [6, 5]}


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def training() -> ModuleType:
    return example("train_lite")


@pytest.fixture(scope="module")
def preparation() -> ModuleType:
    return example("prepare_photos")


@pytest.fixture(scope="module")
def photos(preparation: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data as ``prepare_photos.py`` writes them, of three invented images."""
    pytest.importorskip("pillow_jxl")
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    rows = []
    (folder / "pack").mkdir()
    for file in ("a.png", "LadyBird.jpg", "b.png"):
        noise = generator.integers(0, 256, (150, 320, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((1120, 600)).save(folder / "pack" / file)
        rows.append(preparation.Photo("pack", file, "nobody", "CC0"))
    preparation.write(rows, folder, folder / "photos.zip")
    return folder / "photos.zip"


# -- data -----------------------------------------------------------------------------------------


def test_every_photograph_has_a_credit_and_each_held_out_one_exists(
    preparation: ModuleType,
) -> None:
    assert all(photo.author and photo.licence for photo in preparation.PHOTOS)
    assert len({photo.file for photo in preparation.PHOTOS}) == len(preparation.PHOTOS)
    for name in preparation.VALIDATION:
        assert sum(name in photo.file for photo in preparation.PHOTOS) == 1


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1400, 1000), (700, 500)),
        ((6000, 3000), (1600, 800)),
        ((512, 512), (512, 512)),
    ],
)
def test_large_photographs_are_at_least_halved(
    preparation: ModuleType, size: tuple[int, int], wanted: tuple[int, int]
) -> None:
    assert preparation.scaled_down(Image.new("L", size)).size == wanted
    assert preparation.scaled_down(Image.new("L", size)).mode == "RGB"


def test_held_out_photographs_are_never_trained_on(training: ModuleType, photos: Path) -> None:
    data = training.Photos(photos)
    assert [x.shape for x in data.validation()] == [(1, 3, 256, 512)]
    assert len(data.splits["validation"]) == 1
    # Both others at 560 x 300; the next size would be less than 256 high.
    assert [sample.shape for sample in data.splits["train"]] == 2 * [(300, 560, 3)]


def test_crops_depend_on_the_generator_alone(training: ModuleType, photos: Path) -> None:
    data = training.Photos(photos)
    first, second = (data.batch(6, 64, np.random.default_rng(3)) for _ in range(2))
    assert first.shape == (6, 3, 64, 64)
    assert first.dtype == torch.uint8
    assert torch.equal(first, second)
    assert not torch.equal(first, data.batch(6, 64, np.random.default_rng(4)))


# -- training -------------------------------------------------------------------------------------


def run(training: ModuleType, folder: Path, photos: Path, *more: str) -> dict[str, torch.Tensor]:
    """Train a tiny model and give the state that is left."""
    fixed = ["--data", photos, "--run", folder, "--model-args", json.dumps(TINY)]
    crops = ["--crops", 64, 128, "--batch-sizes", 3, 2, "--crop-weights", 1, 1]
    rest = ["--warm-up", 2, "--log-every", 1, "--threads", torch.get_num_threads(), *more]
    training.main([str(word) for word in (*fixed, *crops, *rest)])
    return training.safetensors.torch.load_file(folder / training.STATE)


def test_interrupted_run_ends_like_one_that_never_stopped(
    training: ModuleType, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = ("--steps", "5", "--save-minutes", "0")
    whole = run(training, tmp_path / "whole", photos, *always)

    update, taken = training.Training.update, []

    def stop_after_two(self: Any, *args: Any) -> Any:
        taken.append(self.step)
        if len(taken) == 2:
            training.signal.raise_signal(training.signal.SIGTERM)
        return update(self, *args)

    monkeypatch.setattr(training.Training, "update", stop_after_two)
    run(training, tmp_path / "parts", photos, *always)
    assert len(taken) == 2
    parts = run(training, tmp_path / "parts", photos, *always)
    assert taken == [0, 1, 2, 3, 4]
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


def test_run_stops_when_its_time_is_over_and_leaves_its_state(
    training: ModuleType, photos: Path, tmp_path: Path
) -> None:
    words = ["--run", tmp_path, "--data", photos, "--minutes", 3, "--crops", 64]
    words += ["--batch-sizes", 2, "--crop-weights", 1, "--model-args", json.dumps(TINY)]
    words += ["--threads", torch.get_num_threads()]
    args = training.parse_args([str(word) for word in words])
    minutes = iter(range(1000))
    training.train(training.Training(args), args, now=lambda: 60 * next(minutes))
    assert training.Training(args).step in (1, 2)


def test_state_of_the_default_model_fits_into_sixteen_megabytes(training: ModuleType) -> None:
    with torch.device("meta"):
        net = Lite()
        optimizer = training.Optimizer(dict(net.named_parameters()))
    size = 0
    for name, parameter in net.named_parameters():
        kinds = ("weight", "average", *optimizer.state[name])
        size += sum(parameter.numel() * training._stored_type(kind).itemsize for kind in kinds)
    assert size <= 15.9e6


def test_transforms_in_bfloat16_train(training: ModuleType, photos: Path, tmp_path: Path) -> None:
    state = run(training, tmp_path, photos, "--steps", "2", "--precision", "bf16")
    assert all(bool(value.isfinite().all()) for value in state.values())


def test_training_is_not_slowed_down_by_denormal_numbers(
    training: ModuleType, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []

    def batches(*args: Any) -> Iterator[torch.Tensor]:
        for batch in original(*args):
            flushed.append(float(torch.tensor(1e-39) * 1) == 0)
            yield batch

    original = training.batches
    monkeypatch.setattr(training, "batches", batches)
    run(training, tmp_path, photos, "--steps", "1")
    if torch.set_flush_denormal(False):  # this processor knows such a mode
        assert flushed == [True]
    assert float(torch.tensor(1e-39) * 1) != 0


def test_every_rate_learns_from_a_few_steps(
    training: ModuleType, photos: Path, tmp_path: Path
) -> None:
    run(training, tmp_path, photos, "--steps", "40", "--learning-rate", "1e-2", "--cool-down", "1")
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if entry["event"] == "train"]
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_steps_of_kernels_are_orthogonal(training: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((24, 100), (100, 24), (16, 16)):
        singular = torch.linalg.svdvals(
            training.orthogonal(torch.randn(shape, generator=generator))
        )
        # The coefficients trade exactness for speed: singular values end near 1.
        assert float(singular.max()) < 1.3
        assert float(singular[: len(singular) // 2].min()) > 0.6


def test_exported_model_does_what_the_averaged_weights_do(
    training: ModuleType, photos: Path, tmp_path: Path
) -> None:
    run(training, tmp_path, photos, "--steps", "2")
    file = tmp_path / "lite.safetensors"
    words = ["--run", tmp_path, "--model-args", json.dumps(TINY), "--export", file]
    words = [str(word) for word in (*words, "--threads", torch.get_num_threads())]
    training.main(words)
    average = training.Training(training.parse_args(words)).average
    net = load_checkpoint(file)
    assert isinstance(net, Lite)
    x = torch.rand(1, 3, 64, 64)
    for quality in (0, 73.5, 100):
        with torch.no_grad():
            found, wanted = net(x, quality), average(x, quality)
        # Weights are rounded to half precision.
        assert torch.allclose(found["x_hat"], wanted["x_hat"], atol=1e-2)


def test_training_stops_before_a_bad_gradient_reaches_the_weights(
    training: ModuleType, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> torch.Tensor:
        return torch.full((4, 3, 64, 64), float("nan"))

    monkeypatch.setattr(training.Photos, "batch", broken)
    with pytest.raises(FloatingPointError, match="norm of the gradient is nan in step 0"):
        run(training, tmp_path, photos, "--steps", "1")


def test_learning_rate_rises_falls_slowly_and_then_to_zero(training: ModuleType) -> None:
    words = ["--run", "x", "--data", "x", "--steps", "1000", "--warm-up", "10"]
    args = training.parse_args([*words, "--cool-down", "200", "--slow-down", "300"])
    rates = [training.learning_rate(step, args) for step in range(1001)]
    assert rates[0] == pytest.approx(args.learning_rate / 10)
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[9:]))
    assert rates[300] == pytest.approx(args.learning_rate / 2**0.5)
    assert rates[-1] == 0
