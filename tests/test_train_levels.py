# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Training of variable-rate models: a level each step, with the weight of its distortion."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from PIL import Image

import compressai
from compressai.checkpoint import read_metadata, save_checkpoint
from compressai.losses import RateDistortionLoss
from compressai.models import MeanScaleHyperprior
from compressai.models.vbr import MeanScaleHyperpriorVbr
from compressai.training import (
    Level,
    Levels,
    build_levels,
    load_initial_weights,
    main,
    parse_args,
)
from compressai.zoo.image import LAMBDAS

ROOT = Path(__file__).parents[1]
VBR = ["-m", "mbt2018-mean-vbr"]
SIZES = {"N": 8, "M": 12}
OPTIONS = [
    *("--model-args", "N=8", "M=12", "--patch-size", "64", "64", "--batch-size", "2"),
    *("-n", "0", "--seed", "5", "-lr", "1e-3", "--epochs", "1"),
]
# What there is of the gain in stage 2, and stage 1 does without.
OFFSETS = "QuantABCD.4.bias"

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    with Image.open(ROOT / "examples" / "assets" / "chelsea.png") as file:
        photo = file.convert("RGB")
    for split, count in (("train", 16), ("test", 2)):
        (root / split).mkdir()
        for i in range(count):
            photo.crop((9 * i, 7 * i, 9 * i + 90, 7 * i + 80)).save(root / split / f"{i}.png")
    return root


def train(images, folder, *more):
    log = folder / "log.jsonl"
    places = ("-d", images, "--save-dir", folder, "--log-file", log)
    main([*map(str, places), *VBR, *OPTIONS, *more])
    return [json.loads(line) for line in log.read_text().splitlines()]


def started(**arguments):
    """The model that a run of these tests begins with."""
    torch.manual_seed(5)
    return MeanScaleHyperpriorVbr(**SIZES, **arguments)


def changed(net, folder):
    """Which parameters of a checkpoint are not those of a model."""
    state = torch.load(folder / "checkpoint.pth.tar", weights_only=True)["state_dict"]
    return {n for n, p in net.named_parameters() if not torch.equal(p, state[n])}


@pytest.mark.parametrize("variable", [False, True])
def test_steps_train_all_but_the_gains(images, tmp_path, variable):
    start = started(vr_entbttlnck=variable)
    with torch.no_grad():
        start.g_a[-1].weight.mul_(30)  # offsets are for symbols that are not zero
    start.update()
    weights = tmp_path / "start.safetensors"
    arguments = {**SIZES, "vr_entbttlnck": variable}
    save_checkpoint(weights, start, architecture=VBR[1], arguments=arguments)
    more = ["vr_entbttlnck=true"] if variable else []
    records = train(
        images, tmp_path, "--model-args", "N=8", "M=12", *more, "--weights", str(weights)
    )
    assert changed(start, tmp_path) == {n for n, _ in start.named_parameters()} - {"Gain"}
    assert {r["level"] for r in records if r["event"] == "train"} <= set(range(8))
    # Its quantiles are trained, too: aux_loss() of the model leaves them out.
    assert all(r["aux_loss"] > 0 for r in records if "aux_loss" in r)
    metadata = read_metadata(tmp_path / "checkpoint_best.safetensors")
    assert metadata["lmbda"] == list(LAMBDAS["mse"])
    assert metadata["extra"]["stage"] == 2


def test_what_is_trained_codes_at_all_levels(images, tmp_path):
    train(images, tmp_path)
    net = compressai.load(tmp_path / "checkpoint_best.safetensors")
    x = torch.rand(1, 3, 64, 64)
    for s in (0, 7):
        coded = net.compress(x, s=s)
        with torch.no_grad():
            expected = net(x, s=s)["x_hat"].clamp(0, 1)
        decoded = net.decompress(coded["strings"], coded["shape"], s=s)["x_hat"]
        assert torch.allclose(decoded, expected, atol=1e-5)


def test_first_stage_trains_the_base_at_the_highest_rate(images, tmp_path):
    train(images, tmp_path, "--stage", "1")
    names = changed(started(), tmp_path)
    assert "g_a.0.weight" in names
    assert OFFSETS not in names
    metadata = read_metadata(tmp_path / "checkpoint_best.safetensors")
    assert (metadata["lmbda"], metadata["extra"]["stage"]) == (0.18, 1)

    # The second stage begins with what the first has made, and does not resume it.
    best = str(tmp_path / "checkpoint_best.safetensors")
    with pytest.raises(SystemExit, match="has extra"):
        train(images, tmp_path, "--checkpoint", str(tmp_path / "checkpoint.pth.tar"))
    second = tmp_path / "second"
    second.mkdir()
    train(images, second, "--weights", best, "-lr", "1e-9")
    state = torch.load(second / "checkpoint.pth.tar", weights_only=True)["state_dict"]
    for name, parameter in compressai.load(best).named_parameters():
        if "quantiles" not in name:
            assert torch.allclose(parameter, state[name], atol=1e-6), name


def test_loss_of_a_step_weighs_the_distortion_as_its_level(images, tmp_path, monkeypatch):
    calls = []
    forward, weigh = MeanScaleHyperpriorVbr.forward, RateDistortionLoss.forward

    def noting_forward(self, x, *args, **kwargs):
        calls.append(["level", self.training, kwargs["s"]])
        return forward(self, x, *args, **kwargs)

    def noting_loss(self, output, target):
        calls[-1].append(self.lmbda)
        losses = weigh(self, output, target)
        assert torch.isclose(
            losses["loss"], self.lmbda * 255**2 * losses["mse_loss"] + losses["bpp_loss"]
        )
        return losses

    monkeypatch.setattr(MeanScaleHyperpriorVbr, "forward", noting_forward)
    monkeypatch.setattr(RateDistortionLoss, "forward", noting_loss)
    lambdas = [0.001 * 2**s for s in range(8)]
    train(images, tmp_path, "--lambda", *map(str, lambdas))
    assert all(lmbda == lambdas[s] for _, _, s, lmbda in calls)
    assert len({s for _, training, s, _ in calls if training}) > 3
    # A test is of all levels.
    assert [s for _, training, s, _ in calls if not training] == list(range(8))


def test_resumed_run_equals_one_that_never_stopped(images, tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir()
    broken.mkdir()
    expected = train(images, straight, "--epochs", "2")
    train(images, broken)
    checkpoint = ("--checkpoint", str(broken / "checkpoint.pth.tar"))
    found = train(images, broken, "--epochs", "2", *checkpoint)
    keys = ("event", "loss", "level")
    assert [[r.get(k) for k in keys] for r in found] == [[r.get(k) for k in keys] for r in expected]


def test_parts_of_a_batch_have_one_level(images, tmp_path):
    """So seeds per image make the run the same, whatever shares it."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = train(images, whole, "--per-picture-seeds")
    found = train(images, parts, "--per-picture-seeds", "--accumulate", "2")
    assert [r.get("level") for r in found] == [r.get("level") for r in expected]
    assert [r["loss"] for r in found] == pytest.approx([r["loss"] for r in expected], rel=1e-5)


def test_draws_depend_on_seed_epoch_and_step_alone():
    criterion = RateDistortionLoss()
    levels = [Level(criterion, {"s": s}) for s in range(8)]

    def draws(seed, epoch):
        drawn = Levels(levels, seed)
        return [drawn.draw(epoch, step).arguments["s"] for step in range(100)]

    assert draws(1, 0) == draws(1, 0)
    assert draws(1, 0) != draws(1, 1)
    assert draws(1, 0) != draws(2, 0)
    assert set(draws(1, 0)) == set(range(8))
    state = random.getstate()
    draws(1, 0)
    Levels(levels[:1]).draw(0, 0)
    assert random.getstate() == state
    with pytest.raises(ValueError, match="levels"):
        Levels([])


def test_model_of_one_rate_has_one_level():
    args = parse_args(["-d", "x", "-m", "mbt2018-mean"])
    (level,) = build_levels(MeanScaleHyperprior(**SIZES), args, None).levels
    assert (level.arguments, level.criterion.lmbda) == ({}, 0.01)


@pytest.mark.parametrize("variable", [False, True])
def test_fixed_rate_model_is_a_beginning(tmp_path, variable):
    base = MeanScaleHyperprior(**SIZES)
    path = tmp_path / "base.safetensors"
    save_checkpoint(path, base, architecture="mbt2018-mean", arguments=SIZES)
    net = MeanScaleHyperpriorVbr(**SIZES, vr_entbttlnck=variable)
    load_initial_weights(net, path)
    x = torch.rand(1, 3, 64, 64)
    expected, found = base.eval()(x), net.eval()(x, stage=1)
    assert torch.equal(found["x_hat"], expected["x_hat"])
    for name, likelihoods in expected["likelihoods"].items():
        assert torch.equal(found["likelihoods"][name], likelihoods)


@pytest.mark.parametrize(
    ("architecture", "arguments", "name"),
    [
        ("mbt2018-mean", {"N": 8, "M": 16}, "of another size, such as g_a.6.bias"),
        ("bmshj2018-hyperprior", SIZES, "h_a.0.bias|h_s"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, architecture, arguments, name):
    path = tmp_path / "other.safetensors"
    builder = compressai.registry.MODELS[architecture]
    save_checkpoint(path, builder(**arguments), architecture=architecture, arguments=arguments)
    with pytest.raises(ValueError, match=name):
        load_initial_weights(MeanScaleHyperpriorVbr(**SIZES), path)


def test_missing_weights_stop_with_a_reason(images, tmp_path):
    with pytest.raises(SystemExit, match="No such file"):
        train(images, tmp_path, "--weights", str(tmp_path / "nothing.safetensors"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*VBR, "--quality", "3"], "has all of them"),
        ([*VBR, "--precision", "bf16"], "models of one rate"),
        ([*VBR, "--lambda", "0.1"], "takes 8 numbers"),
        ([*VBR, "--stage", "1", "--lambda", "0.1", "0.2"], "takes one number for --stage 1"),
        ([*VBR, "--lambda", *7 * ["0.1"], "-1"], "must be positive"),
        (["-m", "mbt2018-mean", "--stage", "2"], "--stage is for models of variable rate"),
        (["-m", "mbt2018-mean", "--lambda", "0.1", "0.2"], "takes one number"),
        (["--weights", "a", "--checkpoint", "b"], "pass one of them"),
    ],
)
def test_bad_options_are_usage_errors(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_args(["-d", "x", *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_lambdas_for_ms_ssim_are_the_published_ones():
    args = parse_args(["-d", "x", *VBR, "--metric", "ms-ssim"])
    assert args.lmbda == list(LAMBDAS["ms-ssim"])
    assert parse_args(["-d", "x", *VBR, "--stage", "1"]).lmbda == LAMBDAS["mse"][-1]
