# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What CompressAI 1.2 promises of entropy models, private names included."""

from __future__ import annotations

import copy

import pytest
import torch

from compressai.entropy_models import (
    EntropyBottleneck,
    EntropyBottleneckVbr,
    EntropyModel,
    EntropyModelVbr,
    GaussianConditional,
    GaussianMixtureConditional,
)

BASES = [EntropyModel, EntropyModelVbr]
BOTTLENECKS = [EntropyBottleneck, EntropyBottleneckVbr]


@pytest.fixture(params=BASES)
def model(request):
    return request.param()


def seeded(call, seed=7):
    torch.manual_seed(seed)
    return call()


class TestBase:
    def test_quantisation(self, model):
        x, means = torch.rand(1, 3, 4, 4) * 8, torch.full((1, 3, 4, 4), 0.3)
        with pytest.raises(ValueError):
            model.quantize(x, mode="toto")
        noisy = model.quantize(x, "noise")
        assert (noisy - x).abs().max() <= 0.5
        assert not torch.equal(noisy, x.round())
        symbols = model.quantize(x, "symbols", means)
        assert torch.equal(symbols, (x - means).round().int())
        assert torch.equal(model.quantize(x, "dequantize", means), (x - means).round() + means)
        again = model.dequantize(symbols, means.double())
        assert again.dtype == torch.float64

    def test_private_names_warn_and_agree(self, model):
        x = torch.rand(1, 3, 4, 4)
        for mode in ("noise", "symbols"):
            with pytest.warns(UserWarning, match="_quantize"):
                old = seeded(lambda mode=mode: model._quantize(x, mode))
            assert torch.equal(old, seeded(lambda mode=mode: model.quantize(x, mode)))
        with pytest.warns(UserWarning, match="_dequantize"):
            old = model._dequantize(x.int())
        assert torch.equal(old, model.dequantize(x.int()))

    def test_there_is_no_forward(self, model):
        with pytest.raises(NotImplementedError):
            model(torch.rand(1))

    @pytest.mark.parametrize("coder", ["toto", 0, 0xFF])
    def test_unknown_coder(self, model, coder):
        with pytest.raises(ValueError):
            type(model)(entropy_coder=coder)

    def test_input_of_compress(self, model):
        x = torch.rand(1, 3, 4, 4)
        with pytest.raises(TypeError):
            model.compress(x)
        with pytest.raises(ValueError):
            model.compress(x, torch.zeros(1, 3, 2, 2).int())
        with pytest.raises(ValueError):
            model.compress(torch.rand(3, 4), torch.zeros(3, 4).int())

    def test_tables_of_compress(self, model):
        x = torch.rand(1, 3, 4, 4)
        indexes = torch.zeros(x.shape).int()
        with pytest.raises(ValueError):
            model.compress(x, indexes)
        model._quantized_cdf = torch.zeros(4, 4).int()
        model._cdf_length = torch.zeros(4, 1).int()
        with pytest.raises(ValueError):
            model.compress(x, indexes)
        model._cdf_length = torch.zeros(4).int()
        with pytest.raises(ValueError):
            model.compress(x, indexes)

    def test_input_of_decompress(self, model):
        with pytest.raises(TypeError):
            model.decompress(["ssss"])
        with pytest.raises(ValueError):
            model.decompress("sss", torch.zeros(3, 2, 4, 4).int())
        with pytest.raises(ValueError):
            model.decompress(["sss"], torch.zeros(3, 2, 4, 4).int())
        with pytest.raises(ValueError):
            model.decompress(["sss"], torch.zeros(1, 4, 4, 4).int(), means=torch.rand(1, 4, 5, 5))


@pytest.mark.parametrize("cls", BOTTLENECKS)
@pytest.mark.parametrize("axes", range(6))
class TestBottleneck:
    def test_noise_in_training_and_rounding_in_evaluation(self, cls, axes):
        x = torch.rand(2, 8, *[3] * axes) * 6
        bottleneck = cls(8)
        y, likelihoods = bottleneck(x)
        assert y.shape == likelihoods.shape == x.shape
        assert (y - x).abs().max() <= 0.5
        y, likelihoods = bottleneck.eval()(x)
        # New medians are 0.
        assert torch.equal(y, x.round())
        assert likelihoods.shape == x.shape

    def test_strings_hold_rounded_values(self, cls, axes):
        x = torch.rand(2, 8, *[3] * axes) * 6
        bottleneck = cls(8).eval()
        bottleneck.update()
        medians = bottleneck._get_medians().reshape(8, *[1] * axes)
        again = bottleneck.decompress(bottleneck.compress(x), x.shape[2:])
        assert torch.equal(again, (x - medians).round() + medians)


@pytest.mark.parametrize("cls", BOTTLENECKS)
def test_loss_is_a_number(cls):
    loss = cls(8).loss()
    assert loss.dim() == 0
    assert torch.is_floating_point(loss)


@pytest.mark.parametrize(
    "model",
    [EntropyBottleneck(8), EntropyBottleneckVbr(8), GaussianConditional(None)],
    ids=lambda m: type(m).__name__,
)
def test_deep_copies_draw_the_same(model):
    x = torch.rand(1, 8, 4, 4)
    scales = () if isinstance(model, (EntropyBottleneck, EntropyBottleneckVbr)) else (x + 0.1,)
    results = [seeded(lambda m=m: m(x, *scales)) for m in (model, copy.deepcopy(model))]
    assert all(torch.equal(a, b) for a, b in zip(*results))


@pytest.mark.parametrize("name", ["_quantized_cdf", "_cdf_length", "_offset"])
def test_tables_have_their_private_names(name):
    gaussian = GaussianConditional([0.5, 1.0, 2.0])
    assert getattr(gaussian, name).numel() == 0
    gaussian.update()
    assert getattr(gaussian, name).size(0) == 3


class TestGaussian:
    @pytest.mark.parametrize(
        "table",
        [1, [], (), torch.ones(10), [2, 1], [0, 1], [-1, 1], (1.0, 0.5)],
        ids=repr,
    )
    def test_wrong_scale_tables(self, table):
        with pytest.raises(ValueError):
            GaussianConditional(table)

    @pytest.mark.parametrize("bound", [-1, 0])
    def test_wrong_bounds(self, bound):
        with pytest.raises(ValueError):
            GaussianConditional([1, 2], scale_bound=bound)

    def test_training_and_evaluation(self):
        gaussian = GaussianConditional(None)
        x, scales = torch.rand(1, 8, 4, 4) * 6, torch.rand(1, 8, 4, 4)
        means = torch.rand(1, 8, 4, 4)
        for m in (None, means):
            y, likelihoods = gaussian.train()(x, scales, m)
            assert (y - x).abs().max() <= 0.5
            y, likelihoods = gaussian.eval()(x, scales, m)
            shift = 0 if m is None else m
            assert torch.equal(y, (x - shift).round() + shift)
            assert likelihoods.shape == x.shape


class TestMixture:
    def test_two_components(self):
        mixture = GaussianMixtureConditional(K=2)
        x = torch.rand(1, 4, 4, 4) * 6
        scales, means, weights = (torch.rand(1, 8, 4, 4) for _ in range(3))
        y, likelihoods = mixture.train()(x, scales, means, weights)
        assert (y - x).abs().max() <= 0.5
        y, likelihoods = mixture.eval()(x, scales, means, weights)
        assert torch.equal(y, x.round())
        assert likelihoods.shape == x.shape

    def test_one_component_is_the_plain_gaussian(self):
        x, scales, means = (torch.rand(1, 4, 4, 4) for _ in range(3))
        plain = seeded(lambda: GaussianConditional(None)(x, scales, means))
        mixed = seeded(
            lambda: GaussianMixtureConditional(K=1)(x, scales, means, torch.ones_like(x))
        )
        for a, b in zip(plain, mixed):
            assert torch.allclose(a, b)
