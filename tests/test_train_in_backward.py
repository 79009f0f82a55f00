# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Steps within the backward pass, and an optimizer that keeps little."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader
from training_runs import train

from compressai.losses import RateDistortionLoss
from compressai.models import MeanScaleHyperprior
from compressai.optimizers import MatrixAdafactor
from compressai.registry import ENTRIES
from compressai.training import NonFiniteLoss
from compressai.training.in_backward import steps_in_backward
from compressai.training.options import parse_args
from compressai.training.run import configure_optimizers

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def trained(net, optimizer_name, *, in_backward, batches=3):
    """Weights and the state of the optimizer after some steps."""
    net = copy.deepcopy(net)
    args = parse_args(["-d", "x", "--optimizer", optimizer_name, "-lr", "0.01"])
    optimizer, aux_optimizer = configure_optimizers(net, args)
    data = torch.rand(batches, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(2)
    train.train_one_epoch(
        net,
        RateDistortionLoss(),
        DataLoader(data),
        optimizer,
        aux_optimizer,
        0,
        0,
        step_in_backward=in_backward,
    )
    return net.state_dict(), optimizer.state_dict()["state"]


@pytest.mark.parametrize("name", ["adam", "adafactor"])
def test_steps_in_backward_are_those_afterwards(name):
    torch.manual_seed(0)
    net = MeanScaleHyperprior(8, 8)
    (after, state), (within, same) = (trained(net, name, in_backward=b) for b in (False, True))
    assert any(not torch.equal(value, after[key]) for key, value in net.state_dict().items())
    assert after.keys() == within.keys()
    for key, value in after.items():
        assert torch.equal(within[key], value), key
    assert state.keys() == same.keys()
    for number, values in state.items():
        for key, value in values.items():
            assert torch.equal(torch.as_tensor(same[number][key]), torch.as_tensor(value))


def test_modules_that_are_used_several_times_move_once():
    torch.manual_seed(0)
    net = ENTRIES["hpcm-base"].model(**ENTRIES["hpcm-base"].small).train()
    side = net.downsampling_factor
    x = torch.rand(1, 3, side, side)
    results = []
    for in_backward in (False, True):
        twin = copy.deepcopy(net)
        optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3)
        torch.manual_seed(1)
        loss = RateDistortionLoss()(twin(x), x)["loss"]
        if in_backward:
            with steps_in_backward(optimizer):
                loss.backward()
            assert all(parameter.grad is None for parameter in twin.parameters())
        else:
            loss.backward()
            optimizer.step()
        results.append(twin.state_dict())
        # Hooks are gone, and all parameters are the optimizer's again.
        assert len(optimizer.param_groups[0]["params"]) == len(list(twin.parameters()))
        before = copy.deepcopy(twin.state_dict())
        RateDistortionLoss()(twin(x), x)["loss"].backward()
        assert all(torch.equal(value, before[key]) for key, value in twin.state_dict().items())
    first, second = results
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_convolutions_are_matrices_for_adafactor(layout):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 3).to(memory_format=layout)
    linear = nn.Linear(54, 8)
    linear.load_state_dict({"weight": conv.weight.detach().flatten(1), "bias": conv.bias.detach()})
    ours = MatrixAdafactor(conv.parameters(), lr=0.1)
    theirs = torch.optim.Adafactor(linear.parameters(), lr=0.1)
    x = torch.randn(5, 6, 3, 3)
    for _ in range(3):
        conv(x).square().mean().backward()
        linear(x.flatten(1)).square().mean().backward()
        ours.step()
        theirs.step()
        ours.zero_grad()
        theirs.zero_grad()
    torch.testing.assert_close(conv.weight.flatten(1), linear.weight, rtol=1e-4, atol=1e-6)
    assert conv.weight.is_contiguous(memory_format=layout)
    assert conv.weight.shape == (8, 6, 3, 3)
    numbers = sum(value.numel() for value in ours.state[conv.weight].values())
    assert numbers == 1 + 8 + 54


def test_closure_is_called():
    conv = nn.Conv2d(4, 4, 1)
    optimizer = MatrixAdafactor(conv.parameters(), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = conv(torch.ones(1, 4, 2, 2)).square().sum()
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert optimizer.step(closure) < first


@pytest.mark.parametrize("option", [("--clip-max-norm", "1"), ("--accumulate", "2")])
def test_what_needs_all_gradients_is_refused(option, capsys):
    words = ["-d", "x", "--step-in-backward"]
    assert parse_args(words).clip_max_norm == 0
    assert parse_args(words[:2]).clip_max_norm == 1
    with pytest.raises(SystemExit) as stopped:
        parse_args([*words, *option])
    assert stopped.value.code == 2
    assert f"--step-in-backward needs {option[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(("clip", "parts"), [(1.0, 1), (0, 2)])
def test_an_epoch_refuses_it_too(clip, parts):
    net = MeanScaleHyperprior(4, 4)
    optimizer = torch.optim.Adam(net.parameters())
    with pytest.raises(ValueError, match="step_in_backward must be with clip_max_norm 0"):
        train.train_one_epoch(
            net,
            RateDistortionLoss(),
            DataLoader(torch.rand(1, 3, 64, 64)),
            optimizer,
            optimizer,
            0,
            clip,
            accumulate=parts,
            step_in_backward=True,
        )


def test_loss_that_is_not_finite_moves_nothing():
    net = MeanScaleHyperprior(4, 4)
    before = copy.deepcopy(net.state_dict())
    args = parse_args(["-d", "x"])
    optimizer, aux_optimizer = configure_optimizers(net, args)
    with pytest.raises(NonFiniteLoss, match="loss is nan"):
        train.train_one_epoch(
            net,
            RateDistortionLoss(),
            DataLoader(torch.full((1, 3, 64, 64), torch.nan)),
            optimizer,
            aux_optimizer,
            0,
            0,
            step_in_backward=True,
        )
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
