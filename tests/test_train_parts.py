# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What ``examples/train.py`` is made of: losses, optimizers, states, batches."""

from __future__ import annotations

import copy
import json
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from training_runs import (
    assert_same,
    train,
)

from compressai.losses import CCARateDistortionLoss, RateDistortionLoss
from compressai.models import MeanScaleHyperprior
from compressai.registry import ENTRIES
from compressai.training import (
    AverageMeter,
    NonFiniteLoss,
    RecordingBatchSampler,
    check_finite,
    format_losses,
    keep_entropy_models_in_fp32,
    random_states,
    set_random_states,
)
from compressai.training.run import build_model

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize(
    ("options", "lmbda", "beta"),
    [
        ([], 0.01, 1.0),
        (["--quality", "1"], 0.0018, 1.0),
        (["-m", "tcm", "--quality", "2"], 0.0035, 1.0),
        (["-m", "cca", "--quality", "3"], 0.05, 0.85),
        (["-m", "cca", "--quality", "3", "--lambda", "0.1"], 0.1, 0.85),
    ],
)
def test_a_quality_brings_the_weights_of_its_loss(options, lmbda, beta):
    args = train.parse_args(["-d", "images", *options])
    assert (args.lmbda, args.beta) == (lmbda, beta)


def test_denoising_loss_has_the_weight_that_was_asked_for():
    small = {key: json.dumps(value) for key, value in ENTRIES["saaf"].small.items()}
    sizes = ["--model-args", *(f"{key}={value}" for key, value in small.items())]
    for options, weight in (([], 0.1), (["--diffusion-weight", "0"], 0.0)):
        args = train.parse_args(["-d", "images", "-m", "saaf", *options, *sizes])
        assert build_model(args)[0].diffusion_weight == weight


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-m", "dcae", "--diffusion-weight", "1"], "is for saaf, and dcae has no such loss"),
        (["-m", "saaf", "--diffusion-weight", "-1"], "must be finite and not negative, got -1"),
        (["-m", "saaf", "--diffusion-weight", "nan"], "must be finite and not negative, got nan"),
    ],
)
def test_impossible_weights_of_the_denoising_loss_are_refused(options, message, capsys):
    with pytest.raises(SystemExit):
        train.parse_args(["-d", "images", *options])
    assert message in capsys.readouterr().err


def test_auxiliary_entropy_model_is_trained_by_its_own_loss():
    args = train.parse_args(["-d", "images", "-m", "cca", "--quality", "1"])
    plain, with_auxiliary = torch.nn.Module(), torch.nn.Module()
    with_auxiliary.aux_entropy_model = torch.nn.Identity()
    assert type(train.build_criterion(plain, args)) is RateDistortionLoss
    criterion = train.build_criterion(with_auxiliary, args)
    assert type(criterion) is CCARateDistortionLoss
    assert (criterion.lmbda, criterion.beta) == (0.05, 3.5)


def test_losses_are_listed_in_a_fixed_order():
    values = {"bpp_loss": 0.5, "aux_loss": 2.0, "ms_ssim_loss": 0.9876, "loss": 1.0}
    expected = "Loss: 1.000 |\tMS-SSIM: 0.9876 |\tBpp loss: 0.50 |\tAux loss: 2.00"
    assert format_losses(values) == expected


def test_entropy_models_leave_the_autocast_region():
    net = MeanScaleHyperprior(4, 4)
    keep_entropy_models_in_fp32(net, "cpu")
    seen = []
    net.gaussian_conditional.register_forward_pre_hook(
        lambda module, args: seen.append((torch.is_autocast_enabled("cpu"), args[0].dtype))
    )
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.rand(1, 3, 64, 64))
        assert torch.is_autocast_enabled("cpu")
    assert seen == [(False, torch.float32)]
    assert out["x_hat"].dtype == torch.bfloat16
    assert {p.dtype for p in out["likelihoods"].values()} == {torch.float32}
    assert copy.deepcopy(net)(torch.rand(1, 3, 64, 64))["x_hat"].dtype == torch.float32


def test_clipping_bounds_the_step_of_the_network():
    def weight_change(clip_max_norm):
        torch.manual_seed(0)
        net = MeanScaleHyperprior(4, 4)
        before = [p.detach().clone() for p in net.parameters()]
        parameters = [p for name, p in net.named_parameters() if not name.endswith(".quantiles")]
        optimizer = torch.optim.SGD(parameters, lr=1.0)
        aux_optimizer = torch.optim.SGD(
            [p for name, p in net.named_parameters() if name.endswith(".quantiles")], lr=0
        )
        loader = DataLoader(torch.rand(1, 3, 64, 64))
        train.train_one_epoch(
            net, RateDistortionLoss(), loader, optimizer, aux_optimizer, 0, clip_max_norm
        )
        changes = [(a - b).square().sum() for a, b in zip(net.parameters(), before)]
        return float(sum(changes).sqrt().detach())

    assert weight_change(1e-3) == pytest.approx(1e-3, rel=1e-2)
    assert weight_change(0) > 1e-2


def test_batches_are_drawn_as_by_the_default_loader():
    data = list(range(7))

    def epochs(loader):
        torch.manual_seed(5)
        return [batch.tolist() for _ in range(2) for batch in loader]

    sampler = RecordingBatchSampler(RandomSampler(data), 2, drop_last=False)
    loader = DataLoader(data, batch_sampler=sampler)
    assert epochs(loader) == epochs(DataLoader(data, batch_size=2, shuffle=True))
    assert list(sampler.history) == epochs(loader)[4:]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_check_finite_names_items_of_datasets_without_files(value):
    data = list(range(5))
    sampler = RecordingBatchSampler(SequentialSampler(data), 2, drop_last=False)
    loader = DataLoader(data, batch_sampler=sampler)
    list(loader)
    with pytest.raises(NonFiniteLoss, match=r"epoch 2, step 7, batch 1 \(item 2, item 3\)"):
        check_finite(torch.tensor(value), "loss", 2, 1, loader)
    check_finite(torch.tensor(1.0), "loss", 2, 1, loader)


def test_random_states_continue_every_generator():
    def draw():
        return random.random(), float(np.random.rand()), torch.rand(3)  # noqa: NPY002

    states = random_states()
    first = draw()
    draw()
    set_random_states(states)
    assert_same(draw(), first)


def test_average_meter_is_a_running_mean():
    meter = AverageMeter()
    assert (meter.val, meter.avg, meter.sum, meter.count) == (0, 0, 0, 0)
    meter.update(1.0)
    meter.update(4.0, n=2)
    assert (meter.val, meter.avg, meter.sum, meter.count) == (4.0, 3.0, 9.0, 3)


def test_data_parallel_shows_the_methods_of_the_model():
    net = MeanScaleHyperprior(4, 4)
    wrapped = train.CustomDataParallel(net)
    assert torch.equal(wrapped.aux_loss(), net.aux_loss())
    assert wrapped.module is net
    with pytest.raises(AttributeError):
        _ = wrapped.no_such_thing


def test_optimizers_get_their_learning_rates():
    args = train.parse_args(["-d", "x", "-lr", "0.5", "--aux-learning-rate", "0.25"])
    optimizer, aux_optimizer = train.configure_optimizers(MeanScaleHyperprior(4, 4), args)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert aux_optimizer.param_groups[0]["lr"] == 0.25
    assert isinstance(aux_optimizer, torch.optim.Adam)


def test_defaults_are_those_of_the_interface():
    args = vars(train.parse_args(["-d", "images"]))
    assert args["dataset"] == "images"
    expected = {
        "model": "bmshj2018-factorized",
        "epochs": 100,
        "learning_rate": 1e-4,
        "num_workers": 4,
        "lmbda": 1e-2,
        "batch_size": 16,
        "test_batch_size": 64,
        "aux_learning_rate": 1e-3,
        "patch_size": (256, 256),
        "cuda": False,
        "save": True,
        "seed": None,
        "clip_max_norm": 1.0,
        "checkpoint": None,
        "quality": 3,
        "metric": "mse",
        "precision": "fp32",
        "channels_last": False,
    }
    assert {key: args[key] for key in expected} == expected


def test_wrapper_of_a_plain_module_can_be_saved_as_training_state(tmp_path):
    train.save_checkpoint(
        {"state_dict": nn.Linear(1, 1).state_dict()}, True, tmp_path / "checkpoint.pth.tar"
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.pth.tar",
        "checkpoint_best_loss.pth.tar",
    }
