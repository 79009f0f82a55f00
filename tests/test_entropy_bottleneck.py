# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The entropy bottleneck: likelihoods, quantiles, tables, strings."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from compressai.entropy_models import (
    EntropyBottleneck,
)


@pytest.fixture
def bottleneck() -> EntropyBottleneck:
    torch.manual_seed(0)
    module = EntropyBottleneck(6)
    module.update()
    return module.eval()


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

    @pytest.mark.parametrize(("channels", "limit"), [(320, 13107), (6, 65535)])
    def test_tables_that_take_gigabytes_are_refused_before_they_are_made(
        self, channels: int, limit: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        module = EntropyBottleneck(channels)
        half = limit // 2 + 1
        module.quantiles.data[:] = torch.tensor([-float(half), 0.0, float(half)])
        with monkeypatch.context() as early:
            early.setattr(torch, "arange", lambda *_, **__: pytest.fail("it began"))
            with pytest.raises(ValueError, match=f"the {limit} of"):
                module.update(force=True)
        # One channel costs as much as all do.
        module.quantiles.data[1:] = torch.tensor([-1.0, 0.0, 1.0])
        with pytest.raises(ValueError, match=f"channel 0, .* span {2 * half + 1} symbols"):
            module.update(force=True)

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


@pytest.mark.parametrize("size", [None, "ab", (1.5, 1), 4])
def test_sizes_of_no_integers_are_refused(bottleneck: EntropyBottleneck, size: object) -> None:
    strings = bottleneck.compress(torch.zeros(1, 6, 1, 1))
    with pytest.raises(TypeError, match="size must be integers, got"):
        bottleneck.decompress(strings, size)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(-1, 1), (1, -1), (10**9, 10**9), (2**29, 1)])
def test_sizes_that_no_map_has_are_refused(
    bottleneck: EntropyBottleneck, size: tuple[int, int]
) -> None:
    strings = bottleneck.compress(torch.zeros(1, 6, 1, 1))
    with pytest.raises(ValueError, match="size must be of at most 2147483647 values in 6 channels"):
        bottleneck.decompress(strings, size)
