# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Entropy models: quantisation, likelihoods, tables, coding, loading and copying."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import compressai
from compressai.entropy_models import (
    EntropyBottleneck,
    EntropyBottleneckVbr,
    EntropyModel,
    EntropyModelVbr,
    GaussianConditional,
    GaussianMixtureConditional,
)
from compressai.entropy_models._background import strings_in_background, write_strings
from compressai.entropy_models.entropy_models import pmf_to_quantized_cdf
from compressai.models import get_scale_table


@pytest.fixture(scope="module")
def gaussian() -> GaussianConditional:
    module = GaussianConditional(None)
    module.update_scale_table(get_scale_table())
    return module.eval()


@pytest.fixture
def bottleneck() -> EntropyBottleneck:
    torch.manual_seed(0)
    module = EntropyBottleneck(6)
    module.update()
    return module.eval()


# -- base class -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [EntropyModel, EntropyModelVbr])
class TestQuantize:
    def test_noise_is_uniform_within_half_a_step(self, cls: type[EntropyModel]) -> None:
        x = torch.randn(1, 4, 100, 100)
        noise = cls().quantize(x, "noise") - x
        assert noise.abs().max() <= 0.5
        assert scipy.stats.kstest(noise.flatten().numpy(), "uniform", (-0.5, 1)).pvalue > 1e-4

    def test_symbols_are_rounded_integers(self, cls: type[EntropyModel]) -> None:
        x = 10 * torch.randn(1, 4, 8, 8)
        symbols = cls().quantize(x, "symbols")
        assert symbols.dtype == torch.int32
        assert torch.equal(symbols, torch.round(x).int())

    def test_dequantize_mode_rounds_around_means_and_leaves_input(
        self, cls: type[EntropyModel]
    ) -> None:
        x, means = 10 * torch.randn(1, 4, 8, 8), torch.rand(1, 4, 1, 1)
        before = x.clone()
        y = cls().quantize(x, "dequantize", means)
        assert torch.equal(y, torch.round(x - means) + means)
        assert torch.equal(x, before)

    @pytest.mark.parametrize("mode", ["ste", "toto", ""])
    def test_unknown_mode_is_refused(self, cls: type[EntropyModel], mode: str) -> None:
        with pytest.raises(ValueError, match="mode"):
            cls().quantize(torch.rand(1, 3, 4, 4), mode)

    def test_deprecated_name_warns_and_agrees(self, cls: type[EntropyModel]) -> None:
        x = torch.randn(1, 3, 4, 4)
        model = cls()
        torch.manual_seed(1)
        want = model.quantize(x, "noise")
        torch.manual_seed(1)
        with pytest.warns(UserWarning, match="deprecated"):
            assert torch.equal(model._quantize(x, "noise"), want)

    def test_forward_is_left_to_subclasses(self, cls: type[EntropyModel]) -> None:
        with pytest.raises(NotImplementedError):
            cls()(torch.rand(1))

    @pytest.mark.parametrize("coder", ["huffman", "", 0xFF])
    def test_unknown_coder_is_refused(self, cls: type[EntropyModel], coder: object) -> None:
        with pytest.raises(ValueError, match="entropy_coder"):
            cls(entropy_coder=coder)


def test_dequantize_does_not_change_its_input() -> None:
    x, means = torch.zeros(1, 2, 3, 3), torch.rand(1, 2, 3, 3).double()
    out = EntropyModel.dequantize(x, means)
    assert out.dtype == torch.float64
    assert torch.equal(out, means)
    assert not x.any()
    assert EntropyModel.dequantize(x).data_ptr() != x.data_ptr()


def test_default_coder_is_read_at_construction() -> None:
    assert compressai.get_entropy_coder() == "ans"
    assert "ans" in compressai.available_entropy_coders()
    compressai.set_entropy_coder("ans")
    assert EntropyModel().entropy_coder.name == "ans"
    with pytest.raises(ValueError, match="entropy_coder"):
        compressai.set_entropy_coder("huffman")


class TestCodingArguments:
    x = torch.rand(1, 2, 4, 4)
    indexes = torch.zeros(1, 2, 4, 4, dtype=torch.int32)

    def test_indexes_are_needed(self, gaussian: GaussianConditional) -> None:
        with pytest.raises(TypeError):
            gaussian.compress(self.x)
        with pytest.raises(TypeError):
            gaussian.decompress([b""])

    def test_shapes_must_agree(self, gaussian: GaussianConditional) -> None:
        with pytest.raises(ValueError, match="shape"):
            gaussian.compress(self.x, self.indexes[:, :1])
        with pytest.raises(ValueError, match="dimensions"):
            gaussian.compress(torch.rand(3), torch.zeros(3).int())

    @pytest.mark.parametrize("strings", ["text", b"bytes", {1}, None])
    def test_strings_must_be_a_list_or_tuple(
        self, gaussian: GaussianConditional, strings: object
    ) -> None:
        with pytest.raises(ValueError, match="strings"):
            gaussian.decompress(strings, self.indexes)

    def test_batch_sizes_must_agree(self, gaussian: GaussianConditional) -> None:
        strings = gaussian.compress(self.x, self.indexes)
        with pytest.raises(ValueError, match="batch"):
            gaussian.decompress(strings * 2, self.indexes)

    @pytest.mark.parametrize("shape", [(1, 2, 4, 1), (1, 3, 4, 4), (2, 2, 1, 1)])
    def test_means_must_fit(self, gaussian: GaussianConditional, shape: tuple[int, ...]) -> None:
        strings = gaussian.compress(self.x, self.indexes)
        with pytest.raises(ValueError, match="means"):
            gaussian.decompress(strings, self.indexes, means=torch.rand(shape))

    def test_missing_tables_are_named(self) -> None:
        with pytest.raises(ValueError, match="update"):
            GaussianConditional(None).compress(self.x, self.indexes)
        with pytest.raises(ValueError, match="update"):
            EntropyBottleneck(2).compress(self.x)

    @pytest.mark.parametrize("name", ["_quantized_cdf", "_cdf_length", "_offset"])
    def test_tables_of_wrong_rank_are_refused(self, name: str) -> None:
        module = GaussianConditional([0.5, 1.0, 2.0])
        module.update()
        setattr(module, name, getattr(module, name)[None])
        with pytest.raises(ValueError, match=name):
            module.compress(self.x, self.indexes)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30])
    def test_values_that_are_no_integers_are_refused(
        self, gaussian: GaussianConditional, value: float
    ) -> None:
        x = self.x.clone()
        x[0, 0, 0, 0] = value
        with pytest.raises(ValueError, match="int32"):
            gaussian.compress(x, self.indexes)

    def test_precision_that_the_coder_has_not_is_refused(self) -> None:
        module = GaussianConditional([0.5, 1.0], entropy_coder_precision=12)
        module.update()
        with pytest.raises(ValueError):
            module.compress(self.x, self.indexes)


@settings(max_examples=30, deadline=None)
@given(
    batch=st.integers(1, 4),
    size=st.lists(st.integers(0, 5), max_size=3),
    scale=st.floats(0.01, 5000),
    seed=st.integers(0, 2**16),
)
def test_batches_are_coded_like_single_items(
    batch: int, size: list[int], scale: float, seed: int, gaussian: GaussianConditional
) -> None:
    rng = torch.Generator().manual_seed(seed)
    shape = (batch, 3, *size)
    x = scale * torch.randn(shape, generator=rng)
    means = torch.randn(shape, generator=rng)
    indexes = torch.randint(0, 64, shape, generator=rng, dtype=torch.int32)
    strings, quantized = gaussian.compress_and_quantize(x, indexes, means)
    singles = [
        gaussian.compress(x[i : i + 1], indexes[i : i + 1], means[i : i + 1])[0]
        for i in range(batch)
    ]
    assert strings == singles
    assert torch.equal(gaussian.decompress(strings, indexes, means=means), quantized)
    assert torch.equal(quantized, torch.round(x - means) + means)


def test_damaged_string_is_an_error_or_other_values(gaussian: GaussianConditional) -> None:
    x = 3 * torch.randn(1, 8, 8, 8)
    indexes = gaussian.build_indexes(torch.full_like(x, 3))
    (string,) = gaussian.compress(x, indexes)
    for length in range(len(string)):
        with pytest.raises(ValueError):
            gaussian.decompress([string[:length]], indexes)


# -- entropy bottleneck ---------------------------------------------------------------------------


class TestEntropyBottleneck:
    def test_has_fifteen_parameters(self) -> None:
        assert len(list(EntropyBottleneck(3).parameters())) == 15

    @pytest.mark.parametrize("spatial_dims", range(5))
    def test_training_adds_noise_and_eval_rounds(self, spatial_dims: int) -> None:
        x = torch.rand(2, 6, *range(4, 4 + spatial_dims))
        module = EntropyBottleneck(6)
        y, likelihood = module(x)
        assert y.shape == likelihood.shape == x.shape
        assert ((y - x) >= -0.5).all()
        assert ((y - x) <= 0.5).all()
        assert (y != torch.round(x)).any()
        y, _ = module.eval()(x)
        assert torch.equal(y, torch.round(x))

    @pytest.mark.parametrize("spatial_dims", range(5))
    def test_round_trip_gives_rounding_around_medians(self, spatial_dims: int) -> None:
        x = 20 * torch.rand(2, 6, *range(3, 3 + spatial_dims))
        module = EntropyBottleneck(6).eval()
        with torch.no_grad():
            module.quantiles[:, :, 1] += torch.rand(6, 1)
        module.update()
        medians = module._extend_ndims(module._get_medians().detach(), spatial_dims)
        decoded = module.decompress(module.compress(x), x.shape[2:])
        assert torch.equal(decoded, torch.round(x - medians) + medians)

    def test_likelihoods_of_all_integers_sum_to_one(self) -> None:
        module = EntropyBottleneck(4).eval()
        x = torch.arange(-400.0, 401).expand(4, -1)[None]
        _, likelihood = module(x)
        torch.testing.assert_close(likelihood.sum(-1), torch.ones(1, 4), atol=1e-4, rtol=0)

    def test_likelihood_is_the_mass_of_the_bin(self) -> None:
        module = EntropyBottleneck(3).double()
        x = torch.randn(3, 1, 7, dtype=torch.float64)
        likelihood, _, _ = module._likelihood(x)
        upper, lower = (
            torch.sigmoid(module._logits_cumulative(x + shift, stop_gradient=False))
            for shift in (0.5, -0.5)
        )
        torch.testing.assert_close(likelihood, upper - lower)

    def test_gradients(self) -> None:
        module = EntropyBottleneck(2, likelihood_bound=0).double().eval()
        x = torch.randn(2, 1, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda t: module._likelihood(t)[0], (x,))
        assert torch.autograd.gradcheck(
            lambda *_: module._likelihood(x.detach())[0], tuple(module.matrices)
        )

    def test_auxiliary_loss_moves_only_the_quantiles(self) -> None:
        module = EntropyBottleneck(3)
        module.loss().backward()
        graded = {name for name, p in module.named_parameters() if p.grad is not None}
        assert graded == {"quantiles"}

    def test_copies_and_pickles_behave_alike(self, bottleneck: EntropyBottleneck) -> None:
        x = torch.rand(1, 6, 4, 4)
        for other in (copy.deepcopy(bottleneck), pickle.loads(pickle.dumps(bottleneck))):
            assert other.entropy_coder.name == "ans"
            assert other.compress(x) == bottleneck.compress(x)
            torch.manual_seed(3)
            a, _ = other(x, training=True)
            torch.manual_seed(3)
            b, _ = bottleneck(x, training=True)
            assert torch.equal(a, b)

    def test_compiled_training_draws_the_noise_of_eager(self) -> None:
        torch.manual_seed(0)
        eager = EntropyBottleneck(4)
        compiled = torch.compile(copy.deepcopy(eager), backend="aot_eager")
        x = torch.rand(1, 4, 8, 8)
        results = []
        for module in (eager, compiled):
            torch.manual_seed(7)
            y, likelihood = module(x)
            likelihood.log().sum().backward()
            results.append((y, likelihood, [p.grad for p in module.parameters()]))
        for a, b in zip(results[0][:2], results[1][:2]):
            torch.testing.assert_close(a, b)
        for a, b in zip(results[0][2], results[1][2]):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b)

    def test_cannot_be_scripted(self) -> None:
        with pytest.raises(NotImplementedError), pytest.warns():
            torch.jit.script(EntropyBottleneck(2))

    def test_update_builds_once_unless_forced(self) -> None:
        module = EntropyBottleneck(2)
        assert module.update()
        assert not module.update()
        assert module.update(force=True)

    def test_solved_quantiles_meet_their_targets(self) -> None:
        module = EntropyBottleneck(3)
        module.update(force=True, update_quantiles=True)
        logits = module._logits_cumulative(module.quantiles, stop_gradient=True)
        torch.testing.assert_close(logits, module.target.expand_as(logits), atol=2e-2, rtol=1e-3)

    def test_wrong_channel_count_is_an_error(self, bottleneck: EntropyBottleneck) -> None:
        with pytest.raises(RuntimeError):
            bottleneck(torch.rand(1, 5, 4, 4))

    @pytest.mark.parametrize("size", [3])
    def test_size_must_be_iterable(self, bottleneck: EntropyBottleneck, size: int) -> None:
        with pytest.raises(TypeError):
            bottleneck.decompress([b""], size)

    @pytest.mark.parametrize(
        "names",
        [
            {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"},
            {"matrices": "_matrices.", "biases": "_biases.", "factors": "_factors."},
        ],
        ids=["flat", "lists"],
    )
    def test_names_of_earlier_releases_load(
        self, names: dict[str, str], bottleneck: EntropyBottleneck
    ) -> None:
        old = {}
        for key, value in bottleneck.state_dict().items():
            name, _, index = key.partition(".")
            old[names[name] + index if name in names else key] = value
        other = EntropyBottleneck(6)
        other.load_state_dict(old)
        x = torch.rand(1, 6, 4, 4)
        assert other.compress(x) == bottleneck.compress(x)


# -- loading tables -------------------------------------------------------------------------------


def test_tables_of_any_size_load_into_a_model_with_other_tables() -> None:
    narrow, wide = GaussianConditional([0.5, 1.0]), GaussianConditional([0.5, 1.0, 50.0])
    narrow.update()
    wide.update()
    narrow.load_state_dict(wide.state_dict())
    assert torch.equal(narrow.quantized_cdf, wide.quantized_cdf)
    assert torch.equal(narrow.scale_table, wide.scale_table)
    x = torch.randn(1, 2, 4, 4)
    indexes = wide.build_indexes(torch.full_like(x, 40.0))
    assert narrow.compress(x, indexes) == wide.compress(x, indexes)


def test_state_dict_without_tables_empties_them(bottleneck: EntropyBottleneck) -> None:
    state = {key: v for key, v in bottleneck.state_dict().items() if not key.startswith("_")}
    assert bottleneck.has_tables
    bottleneck.load_state_dict(state)
    assert not bottleneck.has_tables


def test_tables_changed_in_place_are_used(gaussian: GaussianConditional) -> None:
    module = copy.deepcopy(gaussian)
    x = torch.zeros(1, 1, 4, 4)
    indexes = torch.zeros(1, 1, 4, 4, dtype=torch.int32)
    before = module.compress(x, indexes)
    module._offset -= 1
    assert module.compress(x, indexes) != before


# -- gaussian conditional -------------------------------------------------------------------------


class TestGaussianConditional:
    @pytest.mark.parametrize(
        "table", [1, [], (), torch.rand(3), [1, 0.5], [-1, 1], [0, 1], [0.5, -0.1]]
    )
    def test_bad_scale_tables_are_refused(self, table: object) -> None:
        with pytest.raises(ValueError, match="scale_table"):
            GaussianConditional(table)

    @pytest.mark.parametrize("bound", [0, -0.1])
    def test_bad_bounds_are_refused(self, bound: float) -> None:
        with pytest.raises(ValueError, match="scale_bound"):
            GaussianConditional(None, scale_bound=bound)

    def test_bound_can_come_from_the_table(self) -> None:
        assert float(GaussianConditional([0.5, 1.0], scale_bound=None).scale_bound) == 0.5
        with pytest.raises(ValueError, match="scale_bound"):
            GaussianConditional(None, scale_bound=None)

    @settings(max_examples=50, deadline=None)
    @given(
        x=st.floats(-30, 30), mean=st.floats(-5, 5), scale=st.floats(0.11, 50, exclude_min=False)
    )
    def test_likelihood_is_the_normal_mass_of_the_bin(
        self, x: float, mean: float, scale: float
    ) -> None:
        module = GaussianConditional(None, likelihood_bound=0).double().eval()
        args = [torch.full((1, 1), v, dtype=torch.float64) for v in (x, scale, mean)]
        y, likelihood = module(args[0], args[1], args[2])
        edge = abs(float(y) - mean)
        normal = scipy.stats.norm(scale=max(scale, 0.11))
        want = normal.cdf(0.5 - edge) - normal.cdf(-0.5 - edge)
        assert float(likelihood) == pytest.approx(want, rel=1e-6, abs=1e-14)

    def test_gradients(self) -> None:
        module = GaussianConditional(None, likelihood_bound=0).double()
        x = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
        scales = (torch.rand(1, 2, 3, dtype=torch.float64) + 0.5).requires_grad_()
        means = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(module._likelihood, (x, scales, means))

    def test_gradient_lets_small_scales_grow(self) -> None:
        module = GaussianConditional(None)
        scales = torch.full((1, 1), 0.01, requires_grad=True)
        likelihood = module._likelihood(torch.full((1, 1), 3.0), scales)
        (-likelihood.clamp_min(1e-30).log()).sum().backward()
        assert scales.grad is not None

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1))
    def test_index_is_the_first_row_that_is_wide_enough(self, scales: list[float]) -> None:
        table = get_scale_table()
        module = GaussianConditional(table.tolist())
        got = module.build_indexes(torch.tensor(scales))
        assert got.dtype == torch.int32
        for scale, index in zip(torch.tensor(scales), got.tolist()):
            bounded = torch.maximum(scale, torch.tensor(0.11))
            fits = (bounded <= module.scale_table).nonzero()
            assert index == (int(fits[0]) if len(fits) else 63)

    def test_mean_coding_cost_is_near_the_entropy(self, gaussian: GaussianConditional) -> None:
        generator = torch.Generator().manual_seed(0)
        scales = torch.rand(1, 16, 64, 64, generator=generator) * 8 + 0.2
        x = torch.randn(scales.shape, generator=generator) * scales
        _, likelihood = gaussian(x, scales)
        (string,) = gaussian.compress(x, gaussian.build_indexes(scales))
        ideal = float(-likelihood.log2().sum())
        assert 8 * len(string) == pytest.approx(ideal, rel=0.01)

    def test_default_multiplier_is_that_of_the_format(self) -> None:
        assert -GaussianConditional._standardized_quantile(1e-9 / 2) == 6.1094102048693975

    def test_empty_table_cannot_be_updated(self) -> None:
        with pytest.raises(RuntimeError):
            GaussianConditional(None).update()

    def test_tables_do_not_depend_on_threads(self) -> None:
        digests = set()
        threads = torch.get_num_threads()
        for count in (1, 2):
            torch.set_num_threads(count)
            module = GaussianConditional(None)
            module.update_scale_table(get_scale_table(levels=7))
            digests.add(module.quantized_cdf.numpy().tobytes())
        torch.set_num_threads(threads)
        assert len(digests) == 1


def test_mixture_of_one_is_the_plain_gaussian(gaussian: GaussianConditional) -> None:
    x, scales, means = (
        torch.randn(1, 3, 4, 4),
        torch.rand(1, 3, 4, 4) + 0.2,
        torch.zeros(1, 3, 4, 4),
    )
    mixture = GaussianMixtureConditional(K=1).eval()
    _, want = gaussian(torch.round(x), scales, means)
    _, got = mixture(x, scales, means, torch.ones_like(x))
    torch.testing.assert_close(got, want)


def test_mixture_codes_one_item_at_a_time() -> None:
    t = torch.rand(2, 3, 4, 4)
    with pytest.raises(ValueError, match="batch"):
        GaussianMixtureConditional(K=1).compress(t, t, t, t)


@pytest.mark.parametrize("zero", [True, False])
def test_mixture_round_trip(zero: bool) -> None:
    torch.manual_seed(2)
    y = torch.zeros(1, 3, 4, 4) if zero else 6 * torch.randn(1, 3, 4, 4)
    scales = torch.rand(1, 6, 4, 4) * 3 + 0.2
    means = torch.randn(1, 6, 4, 4)
    weights = torch.softmax(torch.randn(1, 2, 3, 4, 4), dim=1).reshape(1, 6, 4, 4)
    module = GaussianMixtureConditional(K=2)
    (string, abs_max, bitmap), want = module.compress(y, scales, means, weights)
    got = module.decompress(string, abs_max, bitmap, scales, means, weights)
    assert torch.equal(got, want)


# -- variable rate --------------------------------------------------------------------------------


class TestVariableRate:
    @pytest.mark.parametrize("qs", [0.5, 1.0, 2.75])
    def test_round_trip_with_step(self, qs: float) -> None:
        module = EntropyBottleneckVbr(4).eval()
        step = torch.tensor(qs)
        module.update_variable(qs=step)
        x = 9 * torch.randn(2, 4, 5, 6)
        decoded = module.decompress(module.compress(x, qs=step), (5, 6), qs=step)
        medians = module._extend_ndims(module._get_medians().detach(), 2)
        assert torch.equal(decoded, torch.round((x - medians) / step) * step + medians)

    def test_step_must_be_a_scalar_tensor(self) -> None:
        with pytest.raises(AssertionError, match="qs"):
            EntropyModelVbr().quantize_variable(torch.rand(2), "noise", qs=torch.ones(1))

    def test_ste_passes_the_gradient(self) -> None:
        x = torch.randn(1, 2, 3, requires_grad=True)
        y = EntropyModelVbr().quantize_variable(x, "ste", qs=torch.tensor(0.7))
        y.sum().backward()
        torch.testing.assert_close(x.grad, torch.ones_like(x))

    def test_symbols_round_with_and_without_step(self) -> None:
        model, x = EntropyModelVbr(), torch.tensor([[-1.6, 0.7, 1.4]])
        assert model.quantize_variable(x, "symbols").tolist() == [[-2, 1, 1]]
        assert model.quantize_variable(x, "symbols", qs=torch.tensor(0.5)).tolist() == [[-3, 1, 3]]


# -- tables from probabilities --------------------------------------------------------------------


def test_pmf_wrapper_gives_a_tensor() -> None:
    cdf = pmf_to_quantized_cdf(torch.tensor([0.1, 0.2, 0.0, 0.0]))
    assert cdf.dtype == torch.int32
    assert cdf.tolist() == [0, 21845, 65534, 65535, 65536]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**16))
def test_rows_of_probabilities_become_padded_tables(rows: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    pmf = torch.from_numpy(rng.random((rows, width), dtype=np.float32) / width)
    length = torch.from_numpy(rng.integers(1, width + 1, rows).astype(np.int32))
    tail = torch.from_numpy(rng.random((rows, 1), dtype=np.float32) / width)
    cdf = EntropyModel()._pmf_to_cdf(pmf, tail, length, width)
    assert cdf.shape == (rows, width + 2)
    for row, p, t, n in zip(cdf, pmf, tail, length.tolist()):
        want: Tensor = pmf_to_quantized_cdf(torch.cat((p[:n], t)))
        assert torch.equal(row[: n + 2], want)
        assert not row[n + 2 :].any()


# -- one native pass, and strings in the background ------------------------------------------------


def _gaussian() -> GaussianConditional:
    conditional = GaussianConditional(get_scale_table().tolist())
    conditional.update()
    return conditional


@pytest.mark.parametrize("with_means", [False, True])
def test_one_pass_codes_as_several_do(with_means: bool) -> None:
    conditional = _gaussian()
    generator = torch.Generator().manual_seed(0)
    scales, means, y = (4 * torch.randn(2, 8, 20, 20, generator=generator) for _ in range(3))
    y[0, 0] = means[0, 0] + 0.5 + torch.arange(400).view(20, 20) - 200  # halves
    scales[0, 0].view(-1)[:64] = conditional.scale_table
    scales[0, 1, 0, :4] = torch.tensor([float("nan"), float("inf"), 1e30, 0.0])
    centre = means if with_means else None
    edges = conditional.scale_table[:-1]
    indexes = torch.bucketize(scales.clamp_min(0.11), edges, out_int32=True)
    assert torch.equal(conditional.build_indexes(scales), indexes)
    strings, y_hat = conditional.code(y, scales, centre)
    expected = conditional.compress_and_quantize(y, indexes, centre)
    assert strings == expected[0]
    assert torch.equal(y_hat, expected[1])
    double = conditional.code(
        y.double(), scales.double(), None if centre is None else means.double()
    )
    assert double[1].dtype == torch.float64


def test_one_pass_refuses_what_several_do() -> None:
    conditional = _gaussian()
    y = torch.zeros(1, 2, 3)
    for bad in (float("nan"), float("inf"), 2.0**31):
        with pytest.raises(ValueError, match="int32"):
            conditional.code(y + bad, y + 1)
    with pytest.raises(ValueError, match="one shape"):
        conditional.code(y, y[:, :1])
    with pytest.raises(ValueError, match="update"):
        GaussianConditional(None).code(y, y)


def test_changed_scale_tables_are_noticed() -> None:
    conditional = _gaussian()
    scales = torch.tensor([1.0])
    before = conditional.build_indexes(scales)
    conditional.update_scale_table([0.5, 1.5, 3.0], force=True)
    assert conditional.build_indexes(scales).item() == 1 != before.item()
    with torch.no_grad():
        conditional.scale_table.mul_(0.5)
    assert conditional.build_indexes(scales).item() == 2
    assert copy.deepcopy(conditional).build_indexes(scales).item() == 2


def test_strings_written_in_the_background_are_the_same() -> None:
    conditional = _gaussian()
    y = 3 * torch.randn(2, 8, 64, 64, generator=torch.Generator().manual_seed(0))
    scales = torch.full_like(y, 3)
    expected, _ = conditional.code(y, scales)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with strings_in_background():
            strings, _ = conditional.code(y, scales)
            assert len(strings) == 2
        assert strings == expected
        with pytest.raises(RuntimeError, match="no room"), strings_in_background():
            write_strings(_fail, 1, 10**6)
    finally:
        torch.set_num_threads(threads)


def _fail() -> list[bytes]:
    raise RuntimeError("no room")
