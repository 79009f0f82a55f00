# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Entropy models with somebody's own methods: coding goes by these, in models and in both ways."""

from __future__ import annotations

import inspect
import types

import pytest
import torch
from test_hpcm import small_hpcm

from compressai.entropy_models import (
    EntropyBottleneck,
    GaussianConditional,
    GaussianMixtureConditional,
)
from compressai.models import (
    Cheng2020AnchorCheckerboard,
    CompressionModel,
    FactorizedPrior,
    IntegerLite,
    JointAutoregressiveHierarchicalPriors,
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperprior,
    ScaleHyperprior,
    ScaleHyperpriorVbr,
)
from compressai.models.video import ScaleSpaceFlow
from compressai.registry import MODELS as REGISTERED

IMAGE_MODELS = [
    model
    for model in dict.fromkeys([*REGISTERED.values(), IntegerLite])
    if isinstance(model, type) and issubclass(model, CompressionModel)
    if model is not ScaleSpaceFlow
]
MODELS = [
    FactorizedPrior,
    ScaleHyperprior,
    MeanScaleHyperprior,
    JointAutoregressiveHierarchicalPriors,
    ScaleHyperpriorVbr,
    JointAutoregressiveHierarchicalPriorsVbr,
    Cheng2020AnchorCheckerboard,
]


def _net(model):
    torch.manual_seed(0)
    net = model(N=12) if model is Cheng2020AnchorCheckerboard else model(12, 12)
    net.eval().update()
    return net


def _watch(module, name, seen):
    """Replace a method on the instance by one that notes its calls."""
    own = getattr(type(module), name)
    bound = getattr(module, name)
    assert callable(own)

    def method(self, *args, **kwargs):
        seen.append(name)
        return bound(*args, **kwargs)

    setattr(module, name, types.MethodType(method, module))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "name", ["quantize", "dequantize", "build_indexes", "compress", "decompress"]
)
def test_own_methods_are_called_and_change_no_string(model, name):
    net, x = _net(model), torch.rand(1, 3, 64, 64)
    out = net.compress(x)
    seen = []
    bare_scan = isinstance(net, JointAutoregressiveHierarchicalPriors)
    for module in net.modules():
        conditional = isinstance(module, GaussianConditional)
        if conditional and bare_scan and name in ("compress", "decompress"):
            continue  # positions have no strings of their own
        if conditional or (isinstance(module, EntropyBottleneck) and name != "build_indexes"):
            _watch(module, name, seen)
    again = net.compress(x)
    assert again["strings"] == out["strings"]
    assert torch.equal(again["y_hat"], out["y_hat"])
    if not (model is FactorizedPrior and name == "build_indexes"):
        assert seen
    decoded = net.decompress(again["strings"], again["shape"])
    assert torch.equal(decoded["y_hat"], out["y_hat"])


class Coarse(GaussianConditional):
    """Bins of another width."""

    def quantize(self, inputs, mode, means=None):
        if mode == "noise":
            return super().quantize(inputs, mode, means)
        steps = torch.round((inputs if means is None else inputs - means) / 0.5)
        return steps.int() if mode == "symbols" else self.dequantize(steps, means)

    @staticmethod
    def dequantize(inputs, means=None, dtype=torch.float):
        return inputs.to(dtype) * 0.5 + (0 if means is None else means)


@pytest.mark.parametrize(
    "model", [ScaleHyperprior, MeanScaleHyperprior, JointAutoregressiveHierarchicalPriors]
)
def test_decoder_sees_the_bins_of_a_subclass(model):
    net = _net(model)
    before = net.compress(torch.ones(1, 3, 64, 64))["y_hat"]
    net.gaussian_conditional = Coarse(None)
    net.update()
    out = net.compress(torch.ones(1, 3, 64, 64))
    assert not torch.equal(out["y_hat"], before)
    assert torch.equal(net.decompress(out["strings"], out["shape"])["y_hat"], out["y_hat"])
    with pytest.raises(ValueError, match=r"dequantize, quantize of Coarse.*sync_safe=False"):
        net.compress(torch.ones(1, 3, 64, 64), sync_safe=True)


def test_a_patched_class_is_noticed_after_it_was_used(monkeypatch):
    net, x, seen = _net(MeanScaleHyperprior), torch.rand(1, 3, 64, 64), []
    net.compress(x)
    own = GaussianConditional.quantize

    def quantize(self, *args):
        seen.append(args)
        return own(self, *args)

    monkeypatch.setattr(GaussianConditional, "quantize", quantize)
    net.compress(x)
    assert seen


def test_own_scan_of_a_model_is_used_in_both_directions():
    class Own(JointAutoregressiveHierarchicalPriors):
        seen = ()

        def _compress_ar(self, *args, **kwargs):
            self.seen += ("compress",)
            return super()._compress_ar(*args, **kwargs)

        def _decompress_ar(self, *args, **kwargs):
            self.seen += ("decompress",)
            return super()._decompress_ar(*args, **kwargs)

    x, net, plain = torch.rand(2, 3, 64, 64), _net(Own), _net(Own.__base__)
    out, expected = net.compress(x), plain.compress(x)
    assert out["strings"] == expected["strings"]
    assert torch.equal(out["y_hat"], expected["y_hat"])
    assert torch.equal(net.decompress(out["strings"], out["shape"])["y_hat"], out["y_hat"])
    assert net.seen == ("compress",) * 2 + ("decompress",) * 2


def test_tables_follow_the_density_of_a_subclass():
    class Flat(GaussianConditional):
        def _likelihood(self, inputs, scales, means=None):
            return torch.full_like(inputs, 0.01)

    class Own(GaussianConditional):
        def _pmf_to_cdf(self, pmf, tail_mass, pmf_length, max_length):
            return 2 * super()._pmf_to_cdf(pmf, tail_mass, pmf_length, max_length)

    plain = GaussianConditional([1.0])
    plain.update()
    flat, own = Flat([1.0]), Own([1.0])
    flat.update()
    own.update()
    assert len(set(flat._quantized_cdf[0].diff()[:12].tolist())) == 1
    assert torch.equal(own._quantized_cdf, 2 * plain._quantized_cdf)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_quantile_search_ends_in_half_precision(dtype):
    torch.manual_seed(0)
    net = EntropyBottleneck(2)
    half = EntropyBottleneck(2).to(dtype)
    half.load_state_dict(net.state_dict())
    half.update(update_quantiles=True)
    net.update(update_quantiles=True)
    assert torch.allclose(half.quantiles.float(), net.quantiles, rtol=0.05, atol=0.1)
    net._update_quantiles(rtol=0, atol=0)  # ends where numbers are neighbours


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9])
def test_quantiles_that_ran_away_are_refused_by_name(value):
    net = _net(FactorizedPrior)
    net.entropy_bottleneck.quantiles.data[7, 0, 2] = value
    with pytest.raises(ValueError, match=r"entropy_bottleneck.*channel 7.*update_quantiles=True"):
        net.update(force=True)


def test_scales_and_latents_that_are_not_finite_are_refused_by_name():
    net = GaussianConditional([1.0, 2.0])
    net.update()
    y, bad = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    bad[0, 2, 1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"scales that are not finite.*channel 2"):
        net.code(y, bad)
    with pytest.raises(ValueError, match=r"values that are no int32.*channel 2"):
        net.code(bad, torch.ones_like(y), y)
    with pytest.raises(ValueError, match=r"means that are not finite.*channel 2"):
        net.decode([b""], torch.ones_like(y), bad)


@pytest.mark.parametrize("scale", [6000.0, float("nan"), -1.0])
def test_scales_that_cannot_be_coded_are_named(scale):
    with pytest.raises(ValueError, match=r"scale_table\[1\] = .*not above 5363"):
        GaussianConditional(None).update_scale_table([1.0, scale])


def test_a_part_of_the_weights_takes_nothing_away():
    net = MeanScaleHyperprior(8, 8)
    net.update()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    part = {k: v for k, v in before.items() if k.startswith("g_a")}
    net.load_state_dict(part, strict=False)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    own = GaussianConditional([0.5, 1.0])
    own.load_state_dict({"scale_bound": torch.tensor([0.11])}, strict=False)
    assert own.scale_table.tolist() == [0.5, 1.0]


def _bottleneck(seed):
    torch.manual_seed(seed)
    net = EntropyBottleneck(3)
    net.update()
    return net


TABLES = ("_offset", "_quantized_cdf", "_cdf_length")


@pytest.mark.parametrize("alone", [True, False])
def test_partial_weights_of_an_entropy_model_keep_its_tables(alone):
    """A part of its parameters, all of them, or tables that were never built."""
    other = _bottleneck(1).state_dict()
    some = {"quantiles": other["quantiles"]}
    bare = {k: v for k, v in other.items() if k not in TABLES}
    unbuilt = {**bare, **EntropyBottleneck(3).state_dict(), **bare}
    for part in (some, bare, unbuilt):
        net = _bottleneck(0)
        before = [getattr(net, name).clone() for name in TABLES]
        model = net
        if not alone:
            model = FactorizedPrior(4, 3)
            model.entropy_bottleneck = net
            part = {f"entropy_bottleneck.{key}": value for key, value in part.items()}
        model.load_state_dict(part, strict=False)
        assert all(torch.equal(getattr(net, n), table) for n, table in zip(TABLES, before))
        assert torch.equal(net.quantiles, other["quantiles"])


def test_a_module_of_torch_keeps_tables_that_still_suit():
    net = torch.nn.ModuleDict({"eb": _bottleneck(0), "gauss": GaussianConditional([0.5, 1.0])})
    net["gauss"].update()
    state = {k: v.clone() for k, v in net.state_dict().items() if not k.endswith(TABLES)}
    net.load_state_dict(state)
    assert net["eb"].has_tables
    assert net["gauss"].has_tables
    net.load_state_dict({"eb.quantiles": state["eb.quantiles"] + 1}, strict=False)
    assert net["eb"].has_tables
    net.load_state_dict({**state, "gauss.scale_table": torch.tensor([0.5, 1.0, 2.0])})
    assert not net["gauss"].has_tables  # rows of other scales
    assert not net["eb"].has_tables  # of other quantiles


def test_scale_tables_that_were_never_set_take_none_away():
    net = GaussianConditional([0.5, 1.0])
    net.update()
    net.load_state_dict(GaussianConditional(None).state_dict(), strict=False)
    assert net.scale_table.tolist() == [0.5, 1.0]
    assert net.has_tables
    net.load_state_dict(GaussianConditional([1.0, 2.0, 4.0]).state_dict(), strict=False)
    assert net.scale_table.tolist() == [1.0, 2.0, 4.0]
    assert not net.has_tables


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e7, -1e30])
@pytest.mark.parametrize("what", ["scales", "means"])
@pytest.mark.parametrize("sync_safe", [False, True])
@pytest.mark.parametrize("model", [MeanScaleHyperprior, JointAutoregressiveHierarchicalPriors])
def test_parameters_that_ran_away_are_refused_by_name_by_both_sides(model, what, sync_safe, value):
    net, x = _net(model), torch.rand(1, 3, 64, 64)
    out = net.compress(x, sync_safe=sync_safe)
    last = (net.h_s if model is MeanScaleHyperprior else net.entropy_parameters)[-1]
    channel = 5
    last.bias.data[channel + (12 if what == "means" else 0)] = value
    message = rf"gaussian_conditional, .*{what} that are not finite or beyond.*channel {channel} "
    with pytest.raises(ValueError, match=message):
        net.compress(x, sync_safe=sync_safe)
    with pytest.raises(ValueError, match=message):
        net.decompress(out["strings"], out["shape"], sync_safe=sync_safe)


@pytest.mark.parametrize("sync_safe", [False, True])
def test_latents_that_ran_away_are_refused_by_the_name_of_the_latent(sync_safe):
    net = _net(MeanScaleHyperprior)
    net.g_a[-1].bias.data[7] = 1e20
    with pytest.raises(ValueError, match=r"entropy_bottleneck|gaussian_conditional.*channel 7"):
        net.compress(torch.rand(1, 3, 64, 64), sync_safe=sync_safe)


def test_precision_switches_and_autocast_change_no_latent():
    net, x = _net(MeanScaleHyperprior), torch.rand(1, 3, 64, 64)
    out = net.compress(x)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", torch.bfloat16):
            again = net.compress(x)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert again["strings"] == out["strings"]
    assert torch.equal(again["y_hat"], out["y_hat"])


def test_verify_reaches_every_model():
    net = small_hpcm("phi")
    net.update()
    out = net.compress(torch.rand(1, 3, 256, 256), verify=True)
    assert len(out["latent_hash"]) == 1


@pytest.mark.parametrize("model", [FactorizedPrior, MeanScaleHyperprior])
def test_verify_tells_of_a_latent_that_decodes_otherwise(model):
    net, x = _net(model), torch.rand(2, 3, 64, 64)
    out = net.compress(x, verify=True)
    assert torch.equal(net.decompress(**out)["y_hat"], out["y_hat"])
    out["latent_hash"][1] = bytes(16)
    with pytest.raises(ValueError, match="latent of item 1 is not what was coded"):
        net.decompress(**out)
    with pytest.raises(ValueError, match="latent_hash must have 2 entries, got 0"):
        net.decompress(out["strings"], out["shape"], latent_hash=[])


@pytest.mark.parametrize("model", IMAGE_MODELS)
def test_signatures_show_how_to_verify(model):
    assert inspect.signature(model.compress).parameters["verify"].default is False
    assert inspect.signature(model.decompress).parameters["latent_hash"].default is None


def test_integers_in_training_are_refused():
    with pytest.raises(TypeError, match=r"x must be floating point, got torch\.int64"):
        EntropyBottleneck(2)(torch.zeros(1, 2, 4, 4, dtype=torch.int64))


# -- the mixture, whose tables are made for each element -------------------------------------------


def _quantize(self, inputs, mode, means=None):
    return GaussianMixtureConditional.quantize(self, 2 * inputs, mode, means)


def _dequantize(self, inputs, means=None, dtype=torch.float):
    return GaussianMixtureConditional.dequantize(inputs, means, dtype) / 2


def _laplace(self, inputs):
    tail = 0.5 * torch.exp(-(2**0.5) * inputs.abs())
    return torch.where(inputs < 0, tail, 1 - tail)


def _uniform(self, inputs, scales, means, weights):
    assert scales.size(1) == means.size(1) == weights.size(1) == self.K * inputs.size(1)
    return torch.full_like(inputs, 1 / 41)


def _doubled(self, pmf, *args):
    return GaussianMixtureConditional._pmf_to_cdf(self, pmf.sqrt(), *args)


MIXTURE_METHODS = {
    "quantize": {"quantize": _quantize, "dequantize": _dequantize},
    "cumulative": {"_standardized_cumulative": _laplace},
    "likelihood": {"_likelihood": _uniform},
    "table": {"_pmf_to_cdf": _doubled},
}


@pytest.fixture
def mixture_latent():
    generator = torch.Generator().manual_seed(0)
    y = 5 * torch.randn(1, 8, 16, 16, generator=generator)
    y[:, 3] = 0
    y[0, 0, 0, 0] = 19
    scales = torch.full((1, 16, 16, 16), 5.0)
    means = torch.zeros_like(scales)
    weights = torch.full_like(scales, 0.5)
    return y, scales, means, weights


@pytest.mark.parametrize("style", ["subclass", "instance"])
@pytest.mark.parametrize("names", MIXTURE_METHODS)
def test_own_methods_of_a_mixture_count_in_both_directions(names, style, mixture_latent):
    methods = MIXTURE_METHODS[names]
    if style == "subclass":
        net = type("Own", (GaussianMixtureConditional,), methods)(K=2).eval()
    else:
        net = GaussianMixtureConditional(K=2).eval()
        for name, method in methods.items():
            setattr(net, name, types.MethodType(method, net))
    net.update_scale_table([1.0, 2.0])
    y, *parameters = mixture_latent
    out, y_hat = net.compress(y, *parameters)
    plain, plain_hat = GaussianMixtureConditional(K=2).compress(y, *parameters)
    assert torch.equal(net.decompress(*out, *parameters), y_hat)
    assert out[0] != plain[0]
    if names == "quantize":
        assert torch.equal(y_hat, torch.round(2 * y) / 2)
        return
    assert torch.equal(y_hat, plain_hat)
    _, likelihood = net(y, *parameters)
    likelihood = likelihood[:, out[2].bool()]
    if names == "likelihood":
        likelihood = likelihood * 41 / (2 * out[1] + 1)  # as many symbols as a table has
    if names != "table":
        assert 8 * len(out[0]) == pytest.approx(-float(likelihood.log2().sum()), rel=0.01)


def test_what_no_table_of_a_mixture_holds_is_refused_by_name(mixture_latent):
    net = GaussianMixtureConditional(K=2)
    y, scales, means, weights = mixture_latent
    huge = y.clone()
    huge[0, 5, 1, 1] = 1e6
    with pytest.raises(ValueError, match=r"values of channel 5 reach 1000000, more than the 32766"):
        net.compress(huge, scales, means, weights)
    huge[0, 5, 1, 1] = float("nan")
    with pytest.raises(ValueError, match=r"values that are no int32.*nan in channel 5"):
        net.compress(huge, scales, means, weights)
    scales = scales.clone()
    scales[0, 9, 0, 0] = float("inf")
    with pytest.raises(ValueError, match=r"scales that are not finite.*inf in channel 9"):
        net.compress(y, scales, means, weights)
    for abs_max in (0, 1 << 30):
        with pytest.raises(ValueError, match=rf"abs_max must be in 1..32767, got {abs_max}"):
            net.decompress(b"", abs_max, torch.ones(8), means, means, weights)
