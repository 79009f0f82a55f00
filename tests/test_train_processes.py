# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Batches that are shared by processes, or cut into parts, train the same model."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, SequentialSampler

import compressai
from compressai.models import MeanScaleHyperprior
from compressai.training import (
    Processes,
    RecordingBatchSampler,
    Reporter,
    SeededSamples,
    begin_epoch,
    main,
    moving_average,
    parse_args,
)
from compressai.training.run import image_seed

ROOT = Path(__file__).parents[1]
# 23 images by 4 leave a last batch of 3, which two processes cannot halve.
IMAGES = 23
OPTIONS = [
    *("-m", "mbt2018-mean", "--model-args", "N=8", "M=12", "--patch-size", "64", "64"),
    *("--batch-size", "2", "--test-batch-size", "3", "-n", "0", "--seed", "5", "-lr", "1e-3"),
]

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    with Image.open(ROOT / "examples" / "assets" / "chelsea.png") as file:
        photo = file.convert("RGB")
    for split, count in (("train", IMAGES), ("test", 4)):
        (root / split).mkdir()
        for i in range(count):
            photo.crop((9 * i, 7 * i, 9 * i + 90, 7 * i + 80)).save(root / split / f"{i}.png")
    return root


def arguments(images, folder, *more):
    log = ("--log-file", str(folder / "log.jsonl"))
    return ["-d", str(images), "--save-dir", str(folder), *OPTIONS, *log, *more]


def one_process(images, folder, *more):
    folder.mkdir(exist_ok=True)
    main(arguments(images, folder, "--per-picture-seeds", *more))
    return records(folder)


def two_processes(images, folder, *more):
    folder.mkdir(exist_ok=True)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(ROOT / "examples" / "train.py", *arguments(images, folder, *more)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return records(folder), run.stdout, run.stderr


def records(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def losses(found, event="train"):
    return [record["loss"] for record in found if record["event"] == event]


def distance(folder, other):
    """Relative distance of all weights: Adam lets single ones drift, where gradients are tiny."""
    states = [torch.load(f / "checkpoint.pth.tar", weights_only=True) for f in (folder, other)]
    one, two = (
        torch.cat([value.flatten().double() for value in state["state_dict"].values()])
        for state in states
    )
    return float((one - two).norm() / two.norm())


@pytest.mark.slow
def test_two_processes_train_as_one_and_can_be_resumed_by_one(images, tmp_path):
    alone = one_process(images, tmp_path / "one", "-e", "2")
    assert len(losses(alone)) == 4  # steps 0 and 10 of both epochs

    shared, out, err = two_processes(images, tmp_path / "two", "-e", "1")
    assert losses(shared) == pytest.approx(losses(alone)[:2], rel=1e-5)
    assert losses(shared, "test") == pytest.approx(losses(alone, "test")[:1], rel=1e-5)
    assert out.count("Train epoch 0: [20/23 (83%)]") == out.count("Test epoch 0") == 1
    assert "Warning" not in err
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [
        "checkpoint.pth.tar",
        "checkpoint_best.safetensors",
        "checkpoint_best_loss.pth.tar",
        "log.jsonl",
    ]
    compressai.load(tmp_path / "two" / "checkpoint_best.safetensors")

    # The seed of the file counts, not that of the command line.
    resume = ("--checkpoint", str(tmp_path / "two" / "checkpoint.pth.tar"), "-e", "2")
    resumed = one_process(images, tmp_path / "two", *resume, "--seed", "6")
    assert losses(resumed) == pytest.approx(losses(alone), rel=1e-5)
    assert distance(tmp_path / "two", tmp_path / "one") < 1e-5


@pytest.mark.slow
def test_one_process_can_be_resumed_by_two(images, tmp_path):
    # Parts, averages and loader processes change nothing, either.
    options = ("--ema", "0.9", "--batch-size", "5")
    alone = one_process(images, tmp_path / "one", "-e", "2", *options)
    one_process(images, tmp_path / "two", "-e", "1", *options)
    resume = ("--checkpoint", str(tmp_path / "two" / "checkpoint.pth.tar"), "-e", "2")
    more = ("--accumulate", "2", "-n", "1")
    shared, _, _ = two_processes(images, tmp_path / "two", *options, *resume, *more)
    for event in ("train", "test"):
        assert losses(shared, event) == pytest.approx(losses(alone, event), rel=1e-5)


def test_noise_is_what_another_seed_changes(images, tmp_path):
    """What the comparisons above would not tell apart would be worth nothing."""
    one = one_process(images, tmp_path / "one", "-e", "1")
    other = one_process(images, tmp_path / "other", "-e", "1", "--seed", "6")
    assert losses(one) != pytest.approx(losses(other), rel=1e-3)


@pytest.mark.parametrize("parts", ["2", "3", "9"])
def test_parts_of_a_batch_train_as_the_whole(images, tmp_path, parts):
    whole = one_process(images, tmp_path / "whole", "-e", "1", "--batch-size", "5")
    more = ("--batch-size", "5", "--accumulate", parts)
    cut = one_process(images, tmp_path / "cut", "-e", "1", *more)
    assert losses(cut) == pytest.approx(losses(whole), rel=1e-5)
    assert distance(tmp_path / "cut", tmp_path / "whole") < 1e-5


def test_several_processes_need_seeds_per_image():
    args = parse_args(["-d", "images", "--no-per-image-seeds"])
    with pytest.raises(SystemExit, match="several processes need --per-image-seeds"):
        image_seed(args, Processes(count=2, launched=True))
    assert image_seed(args, Processes(launched=True)) is None
    assert image_seed(parse_args(["-d", "x"]), Processes()) is None
    assert image_seed(parse_args(["-d", "x", "--seed", "3"]), Processes(launched=True)) == 3


@pytest.mark.parametrize("option", [("--accumulate", "0"), ("--ema", "1"), ("--ema", "0")])
def test_options_out_of_range_are_usage_errors(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_args(["-d", "x", *option])
    assert stopped.value.code == 2
    assert option[0] in capsys.readouterr().err


def test_every_item_of_a_batch_is_in_the_part_of_one_process():
    samplers = [
        RecordingBatchSampler(SequentialSampler(range(9)), 4, drop_last=False, rank=r, processes=3)
        for r in range(3)
    ]
    parts = [list(sampler) for sampler in samplers]
    assert [part[0] for part in parts] == [[0, 3], [1], [2]]
    # The last batch is one item: two processes get a stand-in that counts nothing.
    assert [part[2] for part in parts] == [[8], [8], [8]]
    for number in range(3):
        assert sum(sampler.weight(number) for sampler in samplers) == pytest.approx(1)
    assert [sampler.weight(2) for sampler in samplers] == [1, 0, 0]
    assert all(list(s.history) == [[0, 1, 2, 3], [4, 5, 6, 7], [8]] for s in samplers)


class Draws:
    """Items that are random numbers of all generators."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        numpy = float(np.random.rand())  # noqa: NPY002 (what is to be tested)
        return torch.tensor([float(torch.rand(())), random.random(), numpy, index])


def test_seeded_samples_depend_on_seed_epoch_and_index_alone():
    samples = SeededSamples(Draws(), seed=3)
    first = [samples[i] for i in range(6)]
    assert torch.equal(torch.stack([samples[i] for i in (4, 1)]), torch.stack([first[4], first[1]]))
    assert len({tuple(item.tolist()[:3]) for item in first}) == 6
    loader = DataLoader(samples, batch_size=2, num_workers=2)
    assert torch.equal(torch.cat(list(loader)), torch.stack(first))
    begin_epoch(loader, 1)
    assert not torch.equal(torch.cat(list(loader)), torch.stack(first))
    assert not torch.equal(SeededSamples(Draws(), seed=4)[0], first[0])


def test_seeded_samples_leave_the_default_generators_alone():
    def draw():
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = draw()
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    SeededSamples(Draws(), seed=3)[2]
    assert draw() == expected


def test_average_follows_the_weights():
    net = MeanScaleHyperprior(4, 4)
    average = moving_average(net, 0.8)
    expected = None
    for step in range(60):
        with torch.no_grad():
            net.g_a[0].weight.add_(1.0)
        average.update_parameters(net)
        weight = net.g_a[0].weight.detach().clone()
        decay = min(0.8, (1 + step) / (10 + step))
        expected = weight if expected is None else decay * expected + (1 - decay) * weight
    assert torch.allclose(average.module.g_a[0].weight, expected)
    for decay in (1.0, -0.1):
        with pytest.raises(ValueError, match="decay"):
            moving_average(net, decay)


def test_model_that_is_kept_is_the_average(images, tmp_path):
    one_process(images, tmp_path, "-e", "1", "--ema", "0.99")
    state = torch.load(tmp_path / "checkpoint.pth.tar", weights_only=True)
    net = compressai.load(tmp_path / "checkpoint_best.safetensors")
    weight = net.g_a[0].weight.detach()
    assert torch.equal(weight, state["average"]["module.g_a.0.weight"])
    assert not torch.equal(weight, state["state_dict"]["g_a.0.weight"])
    assert state["average"]["n_averaged"] == 12


def test_resuming_with_an_average_needs_one(images, tmp_path):
    one_process(images, tmp_path, "-e", "1")
    resume = ("--checkpoint", str(tmp_path / "checkpoint.pth.tar"), "--ema", "0.9")
    with pytest.raises(SystemExit, match="average"):
        one_process(images, tmp_path, "-e", "2", *resume)


def test_tensorboard_shows_the_losses(images, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = one_process(images, tmp_path, "-e", "1", "--tensorboard", str(tmp_path / "board"))
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    shown = board.Scalars("train/loss")
    assert [event.step for event in shown] == [0, 10]
    assert [event.value for event in shown] == pytest.approx(losses(log), rel=1e-6)
    assert [event.step for event in board.Scalars("test/bpp_loss")] == [0]


def test_missing_tensorboard_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"compressai-torch\[tensorboard\]"):
        Reporter(tensorboard=tmp_path)


def test_only_the_first_process_tells(tmp_path, capsys):
    reporter = Reporter(tmp_path / "log", terminal=True, tensorboard=tmp_path / "b", silent=True)
    with reporter.bar("epoch", 2):
        reporter.line("text")
        reporter.advance({"loss": 1.0})
        reporter.record("train", loss=1.0)
    reporter.close()
    assert capsys.readouterr().out == ""
    assert list(tmp_path.iterdir()) == []


def test_one_process_sums_nothing():
    value = torch.tensor(2.0, requires_grad=True)
    (total,) = Processes().sum([value])
    assert total == 2
    assert not total.requires_grad
    assert Processes().same("x") == "x"
