# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Splitting parameters between the network and the auxiliary optimizer."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compressai.optimizers import net_aux_optimizer, net_optimizer
from compressai.registry import OPTIMIZERS

CONF = {"net": {"type": "Adam", "lr": 1e-4}, "aux": {"type": "SGD", "lr": 1e-3, "momentum": 0.5}}


class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.quantiles = nn.Parameter(torch.zeros(2, 1, 3))
        self.matrix = nn.Parameter(torch.ones(2))


class Net(nn.Module):
    """Two bottlenecks, one nested, and names that are not in order of definition."""

    def __init__(self):
        super().__init__()
        self.synthesis = nn.Conv2d(2, 3, 1)
        self.analysis = nn.Conv2d(3, 2, 1)
        self.latent_codec = nn.ModuleDict({"z": Bottleneck()})
        self.entropy_bottleneck = Bottleneck()


def parameters_of(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def names_in(net, optimizer):
    names = {id(p): name for name, p in net.named_parameters()}
    return [names[id(p)] for p in parameters_of(optimizer)]


def test_quantiles_go_to_aux_and_the_rest_to_net_in_order_of_names():
    net = Net()
    optimizers = net_aux_optimizer(net, CONF)
    assert set(optimizers) == {"net", "aux"}
    assert names_in(net, optimizers["aux"]) == [
        "entropy_bottleneck.quantiles",
        "latent_codec.z.quantiles",
    ]
    assert names_in(net, optimizers["net"]) == [
        "analysis.bias",
        "analysis.weight",
        "entropy_bottleneck.matrix",
        "latent_codec.z.matrix",
        "synthesis.bias",
        "synthesis.weight",
    ]


def test_type_and_keyword_arguments_come_from_the_configuration():
    optimizers = net_aux_optimizer(Net(), CONF)
    assert isinstance(optimizers["net"], torch.optim.Adam)
    assert optimizers["net"].defaults["lr"] == 1e-4
    assert isinstance(optimizers["aux"], torch.optim.SGD)
    assert optimizers["aux"].defaults["momentum"] == 0.5


def test_configuration_is_not_modified():
    conf = copy.deepcopy(CONF)
    net_aux_optimizer(Net(), conf)
    assert conf == CONF


def test_frozen_parameters_are_left_out():
    net = Net()
    net.analysis.requires_grad_(False)
    net.entropy_bottleneck.quantiles.requires_grad_(False)
    optimizers = net_aux_optimizer(net, CONF)
    assert not [name for name in names_in(net, optimizers["net"]) if name.startswith("analysis")]
    assert names_in(net, optimizers["aux"]) == ["latent_codec.z.quantiles"]


def test_net_optimizer_takes_every_trainable_parameter():
    net = Net()
    net.synthesis.bias.requires_grad_(False)
    optimizers = net_optimizer(net, CONF)
    assert set(optimizers) == {"net"}
    expected = sorted(name for name, p in net.named_parameters() if p.requires_grad)
    assert names_in(net, optimizers["net"]) == expected


@pytest.mark.parametrize(
    "conf",
    [
        {"net": {"type": "Adam"}},
        {"net": {"type": "Adam"}, "aux": {"lr": 1e-3}},
        {"net": {"type": "Adam"}, "aux": {"type": "NoSuchOptimizer"}},
    ],
    ids=["no section", "no type", "unknown type"],
)
def test_incomplete_configuration_is_a_key_error(conf):
    with pytest.raises(KeyError, match="aux"):
        net_aux_optimizer(Net(), conf)


def test_model_without_quantiles_is_a_value_error():
    with pytest.raises(ValueError, match="aux"):
        net_aux_optimizer(nn.Conv2d(1, 1, 1), CONF)


def test_model_with_everything_frozen_is_a_value_error():
    with pytest.raises(ValueError, match="net"):
        net_optimizer(Net().requires_grad_(False), CONF)


def test_both_are_registered():
    assert OPTIMIZERS["net_aux"] is net_aux_optimizer
    assert OPTIMIZERS["net"] is net_optimizer
