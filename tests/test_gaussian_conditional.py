# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The Gaussian models: indexes, likelihoods, tables, mixtures, strings in one native pass."""

from __future__ import annotations

import copy

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compressai.entropy_models import (
    GaussianConditional,
    GaussianMixtureConditional,
)
from compressai.entropy_models.session import coding_session, write_strings
from compressai.models import get_scale_table


@pytest.fixture(scope="module")
def gaussian() -> GaussianConditional:
    module = GaussianConditional(None)
    module.update_scale_table(get_scale_table())
    return module.eval()


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
    scales[0, 1, 0, :4] = torch.tensor([float("nan"), float("inf"), 1e6, 0.0])
    centre = means if with_means else None
    edges = conditional.scale_table[:-1]
    indexes = torch.bucketize(scales.clamp_min(0.11), edges, out_int32=True)
    assert torch.equal(conditional.build_indexes(scales), indexes)
    with pytest.raises(ValueError, match="scales that are not finite"):
        conditional.code(y, scales, centre)
    scales[0, 1, 0, :2], indexes[0, 1, 0, :2] = 1.0, conditional.build_indexes(torch.ones(2))
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
        with coding_session():
            strings, _ = conditional.code(y, scales)
            assert len(strings) == 2
        assert strings == expected
        with pytest.raises(RuntimeError, match="no room"), coding_session():
            write_strings(_fail, 1, 10**6)
    finally:
        torch.set_num_threads(threads)


def _fail() -> list[bytes]:
    raise RuntimeError("no room")


def test_no_images_are_no_strings() -> None:
    gaussian = GaussianConditional([0.5, 1.0, 2.0])
    gaussian.update()
    y = torch.zeros(0, 4, 2, 3)
    strings, y_hat = gaussian.code(y, torch.ones_like(y), torch.zeros_like(y))
    assert strings == []
    assert y_hat.shape == y.shape
