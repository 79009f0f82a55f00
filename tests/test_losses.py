# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The rate-distortion loss: reference numbers, gradients, errors."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from compressai.losses import RateDistortionLoss
from compressai.losses.utils import compute_rate_loss
from compressai.registry import CRITERIONS

GOLDEN = json.loads((Path(__file__).parent / "golden" / "training_vectors.json").read_text())


def ramp(shape, a, b, amp, off):
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (off + amp * torch.sin(a * n + b)).float().reshape(shape)


@pytest.fixture(scope="module")
def pair():
    target = ramp((2, 3, 192, 192), 0.37, 0, 0.5, 0.5)
    x_hat = ramp((2, 3, 192, 192), 0.37, 0.2, 0.5, 0.5)
    likelihoods = {
        "y": ramp((2, 4, 12, 12), 0.11, 0, 0.4, 0.5),
        "z": ramp((2, 2, 3, 3), 0.23, 0, 0.4, 0.5),
    }
    return {"x_hat": x_hat, "likelihoods": likelihoods}, target


@pytest.mark.parametrize(("metric", "lmbda"), [("mse", 0.01), ("ms-ssim", 2.4)])
def test_rate_distortion_loss_equals_the_reference(pair, metric, lmbda):
    expected = GOLDEN["RateDistortionLoss"][f"{metric} lmbda={lmbda}"]
    out = RateDistortionLoss(lmbda=lmbda, metric=metric)(*pair)
    assert {key: value.item() for key, value in out.items()} == pytest.approx(expected, rel=1e-5)
    assert all(value.dim() == 0 for value in out.values())


@pytest.mark.parametrize("name", ["loss", "bpp_loss", "mse_loss"])
def test_return_type_selects_one_entry(pair, name):
    everything = RateDistortionLoss()(*pair)
    assert torch.equal(RateDistortionLoss(return_type=name)(*pair), everything[name])


def test_defaults_and_attributes():
    loss = RateDistortionLoss()
    assert (loss.lmbda, loss.return_type) == (0.01, "all")
    assert isinstance(loss.metric, torch.nn.MSELoss)
    assert callable(RateDistortionLoss(metric="ms-ssim").metric)
    assert CRITERIONS["RateDistortionLoss"] is RateDistortionLoss


def test_empty_likelihoods_cost_a_tensor_of_zero_bits(pair):
    output, target = pair
    out = RateDistortionLoss()({"x_hat": output["x_hat"], "likelihoods": {}}, target)
    assert torch.is_tensor(out["bpp_loss"])
    assert out["bpp_loss"].item() == 0


def test_loss_leaves_its_input_alone_and_reaches_every_part(pair):
    output, target = pair
    x_hat = output["x_hat"].clone().requires_grad_()
    likelihoods = {key: p.clone().requires_grad_() for key, p in output["likelihoods"].items()}
    given = {"x_hat": x_hat, "likelihoods": likelihoods}
    RateDistortionLoss()(given, target)["loss"].backward()
    assert set(given) == {"x_hat", "likelihoods"}
    for tensor in (x_hat, *likelihoods.values()):
        assert tensor.grad.abs().sum() > 0


def test_loss_gradient_matches_finite_differences():
    target = ramp((1, 3, 4, 4), 0.37, 0, 0.5, 0.5).double()

    def loss(x_hat, likelihood):
        out = {"x_hat": x_hat, "likelihoods": {"y": likelihood}}
        return RateDistortionLoss(lmbda=1e-4)(out, target)["loss"]

    x_hat = ramp((1, 3, 4, 4), 0.37, 0.2, 0.5, 0.5).double().requires_grad_()
    likelihood = ramp((1, 2, 3), 0.11, 0, 0.4, 0.5).double().requires_grad_()
    assert torch.autograd.gradcheck(loss, (x_hat, likelihood))


def test_unknown_metric_is_not_implemented():
    with pytest.raises(NotImplementedError, match="psnr"):
        RateDistortionLoss(metric="psnr")


@pytest.mark.parametrize("name", ["", "bits", "ms_ssim_loss"])
def test_unknown_return_type_is_refused_at_construction(name):
    with pytest.raises(ValueError, match="return_type"):
        RateDistortionLoss(metric="mse", return_type=name)


def test_shape_mismatch_is_refused(pair):
    output, target = pair
    with pytest.raises(ValueError, match="shape of target"):
        RateDistortionLoss()(output, target[:1])


def test_too_small_image_for_ms_ssim_is_refused():
    x = torch.rand(1, 3, 160, 200)
    with pytest.raises(ValueError, match="161"):
        RateDistortionLoss(metric="ms-ssim")({"x_hat": x, "likelihoods": {}}, x)


def test_compute_rate_loss_equals_the_reference():
    expected = {key: v for key, v in GOLDEN["compute_rate_loss"].items() if key != "in"}
    out = compute_rate_loss({"y": ramp((1, 4, 3), 0.37, 0, 0.4, 0.5)}, 1, 6)
    assert {key: value.item() for key, value in out.items()} == pytest.approx(expected, rel=1e-6)


def test_compute_rate_loss_itemises_and_sums(pair):
    output, target = pair
    out = compute_rate_loss(output["likelihoods"], target.size(0), 192 * 192)
    assert set(out) == {
        *("bit_y_loss", "bpp_y_loss", "bit_z_loss", "bpp_z_loss", "bit_loss", "bpp_loss")
    }
    assert torch.allclose(out["bit_loss"], out["bit_y_loss"] + out["bit_z_loss"])
    assert torch.allclose(out["bpp_loss"], RateDistortionLoss()(*pair)["bpp_loss"])


def test_compute_rate_loss_of_nothing_is_zero():
    assert compute_rate_loss({}, 1, 1)["bpp_loss"].item() == 0


@pytest.mark.parametrize(("batch_size", "bit_per_bpp"), [(0, 1), (1, 0), (-1, 1)])
def test_compute_rate_loss_refuses_sizes_that_are_not_positive(batch_size, bit_per_bpp):
    with pytest.raises(ValueError, match="positive"):
        compute_rate_loss({}, batch_size, bit_per_bpp)


@pytest.mark.parametrize("lmbda", [-1, -0.01, math.nan, math.inf])
def test_a_weight_that_is_negative_or_not_finite_is_refused(lmbda):
    with pytest.raises(ValueError, match="lmbda must be finite and at least 0"):
        RateDistortionLoss(lmbda=lmbda)


@pytest.mark.parametrize("lmbda", ["0.01", None, [0.01]])
def test_a_weight_that_is_no_number_is_refused(lmbda):
    with pytest.raises(TypeError, match="lmbda must be a number or a tensor"):
        RateDistortionLoss(lmbda=lmbda)
