# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Entropy models: quantisation, arguments, loading of tables, steps of variable size."""

from __future__ import annotations

import copy

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
)
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
