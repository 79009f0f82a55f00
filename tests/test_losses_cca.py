# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The causal context adjustment loss, term by term."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from compressai.losses import CCARateDistortionLoss, RateDistortionLoss
from compressai.losses.cca import CCARateDistortionLoss as from_its_module
from compressai.registry import CRITERIONS


def _probabilities(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.05 + 0.9 * torch.rand(*shape, generator=generator)


@pytest.fixture
def pair() -> tuple[dict[str, Any], Tensor]:
    target = _probabilities(2, 3, 16, 32, seed=0)
    y = (2, 8, 4, 4)
    output = {
        "x_hat": _probabilities(2, 3, 16, 32, seed=1),
        "likelihoods": {"y": _probabilities(*y, seed=2), "z": _probabilities(2, 4, 1, 1, seed=3)},
        "aux_likelihoods": {
            "y_aux": _probabilities(*y, seed=4),
            "y_cca": _probabilities(*y, seed=5),
        },
    }
    return output, target


@pytest.mark.parametrize("weights", [{}, {"lmbda": 0.05, "alpha": 0.5, "beta": 3.5}])
def test_terms_are_those_of_the_equations(pair, weights: dict[str, float]) -> None:
    output, target = pair
    out = CCARateDistortionLoss(**weights)(output, target)
    pixels = 2 * 16 * 32
    p_y, p_z = (p.double() for p in output["likelihoods"].values())
    p_a, p_c = (p.double() for p in output["aux_likelihoods"].values())
    mse = float((output["x_hat"] - target).square().mean())
    rate = -float(p_y.log2().sum() + p_z.log2().sum()) / pixels
    cca = float(p_c.log2().sum() - p_y.log2().sum()) / pixels
    aux = -float((p_c * p_a.log2()).sum()) / pixels
    assert set(out) == {"cca_loss", "aux2_loss", "bpp_loss", "mse_loss", "loss"}
    assert float(out["bpp_loss"]) == pytest.approx(rate)
    assert float(out["cca_loss"]) == pytest.approx(cca, rel=1e-4)
    assert float(out["aux2_loss"]) == pytest.approx(aux)
    assert float(out["mse_loss"]) == pytest.approx(mse)
    lmbda, alpha, beta = (
        weights.get(n, d) for n, d in (("lmbda", 0.01), ("alpha", 1), ("beta", 1))
    )
    total = lmbda * 255**2 * mse + beta * rate + alpha * cca + aux
    assert float(out["loss"]) == pytest.approx(total)


def test_structural_similarity_is_a_distortion_too() -> None:
    output = {
        "x_hat": _probabilities(1, 3, 192, 192, seed=1),
        "likelihoods": {"y": _probabilities(1, 4, 12, 12, seed=2)},
        "aux_likelihoods": {
            "y_aux": _probabilities(1, 4, 12, 12, seed=4),
            "y_cca": _probabilities(1, 4, 12, 12, seed=5),
        },
    }
    target = _probabilities(1, 3, 192, 192, seed=0)
    out = CCARateDistortionLoss(lmbda=2.0, metric="ms-ssim")(output, target)
    plain = RateDistortionLoss(lmbda=2.0, metric="ms-ssim")(output, target)
    assert out["ms_ssim_loss"] == plain["ms_ssim_loss"]
    extra = float(out["cca_loss"] + out["aux2_loss"])
    assert float(out["loss"]) == pytest.approx(float(plain["loss"]) + extra)


@pytest.mark.parametrize("name", ["cca_loss", "aux2_loss", "bpp_loss", "mse_loss", "loss"])
def test_one_entry_can_be_asked_for(pair, name: str) -> None:
    everything = CCARateDistortionLoss()(*pair)
    assert torch.equal(CCARateDistortionLoss(return_type=name)(*pair), everything[name])


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(NotImplementedError):
        CCARateDistortionLoss(metric="psnr")
    with pytest.raises(ValueError, match="return_type"):
        CCARateDistortionLoss(return_type="aux_loss")
    with pytest.raises(ValueError, match="return_type"):
        RateDistortionLoss(return_type="cca_loss")


@pytest.mark.parametrize("kept", [None, {}, {"y_aux"}, {"y_cca"}])
def test_missing_auxiliary_likelihoods_are_named(pair, kept: set[str] | None) -> None:
    output, target = pair
    auxiliary = output.pop("aux_likelihoods")
    if kept is not None:
        output["aux_likelihoods"] = {name: auxiliary[name] for name in kept}
    with pytest.raises(KeyError, match="aux_likelihoods"):
        CCARateDistortionLoss()(output, target)
    output["aux_likelihoods"] = None
    with pytest.raises(KeyError, match="aux_likelihoods"):
        CCARateDistortionLoss()(output, target)


def test_gradients_reach_all_likelihoods(pair) -> None:
    output, target = pair
    leaves = [*output["likelihoods"].values(), *output["aux_likelihoods"].values()]
    for leaf in leaves:
        leaf.requires_grad_()
    CCARateDistortionLoss(beta=0.3)(output, target)["loss"].backward()
    assert all(bool(leaf.grad.ne(0).all()) for leaf in leaves)
    # More likely under the main model is better, but counted with alpha + beta.
    p_y = output["likelihoods"]["y"]
    torch.testing.assert_close(p_y.grad, -1.3 / (p_y.detach() * math.log(2) * 1024))


def test_registered_and_a_rate_distortion_loss() -> None:
    assert CRITERIONS["CCARateDistortionLoss"] is CCARateDistortionLoss is from_its_module
    assert issubclass(CCARateDistortionLoss, RateDistortionLoss)
