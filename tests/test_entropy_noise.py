# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Noise of an item depends on its generator and on nothing else."""

from __future__ import annotations

import pytest
import torch

from compressai.entropy_models import (
    EntropyBottleneck,
    EntropyBottleneckVbr,
    GaussianConditional,
)
from compressai.entropy_models.noise import noise_per_item, uniform_noise
from compressai.models import MeanScaleHyperprior


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "model", [EntropyBottleneck(3), EntropyBottleneckVbr(3), GaussianConditional(None)]
)
def test_noise_of_an_item_is_the_same_in_any_batch(model, layout):
    x = torch.rand(5, 3, 4, 6).contiguous(memory_format=layout)
    more = (torch.ones_like(x),) if isinstance(model, GaussianConditional) else ()

    def noise(*items: int) -> torch.Tensor:
        part = x[list(items)]
        with noise_per_item(generators(*items)):
            x_hat = model.train()(part, *(m[list(items)] for m in more))[0]
        return x_hat.detach() - part

    whole = noise(0, 1, 2, 3, 4)
    assert torch.allclose(torch.cat([noise(0, 1), noise(2), noise(3, 4)]), whole, atol=1e-6)
    assert torch.allclose(noise(4, 2), whole[[4, 2]], atol=1e-6)
    assert whole.abs().max() <= 0.5
    assert not torch.allclose(whole[0], whole[1], atol=1e-2)


def test_two_draws_for_an_item_differ():
    with noise_per_item(generators(1)):
        assert not torch.equal(uniform_noise(torch.rand(1, 8)), uniform_noise(torch.rand(1, 8)))


def test_outside_of_the_context_the_default_generator_draws_the_batch():
    like = torch.rand(2, 3, 4, 4)
    torch.manual_seed(3)
    expected = torch.empty_like(like).uniform_(-0.5, 0.5)
    torch.manual_seed(3)
    assert torch.equal(uniform_noise(like), expected)
    with pytest.raises(KeyError), noise_per_item(generators(1, 2)):
        raise KeyError
    torch.manual_seed(3)
    assert torch.equal(uniform_noise(like), expected)


def test_context_leaves_the_default_generator_alone():
    state = torch.get_rng_state()
    with noise_per_item(generators(1, 2)):
        uniform_noise(torch.rand(2, 3, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)


def test_wrong_number_of_generators_is_refused():
    with noise_per_item(generators(1, 2)), pytest.raises(ValueError, match="2 generators"):
        uniform_noise(torch.rand(3, 4))


def test_likelihoods_of_a_batch_are_those_of_its_items():
    net = MeanScaleHyperprior(4, 6)
    x = torch.rand(3, 3, 64, 64)
    with noise_per_item(generators(7, 8, 9)):
        whole = net.train()(x)["likelihoods"]["y"]
    with noise_per_item(generators(8)):
        part = net(x[1:2])["likelihoods"]["y"]
    assert torch.allclose(part, whole[1:2], atol=1e-6)
