# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Promises of the small model, of variable rate, that is shipped trained."""

from __future__ import annotations

import copy
import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compressai.bitstream import (
    ImageData,
    ImpossibleHeaderError,
    decode_image,
    encode_image,
    parse_coded,
)
from compressai.bitstream.finished import is_coded_with
from compressai.models.lite import Lite, RateGains, lagrangian

TINY: dict[str, Any] = {
    "N": 4,
    "M": 20,
    "widths": [8, 12],
    "depths": [2, 1],
    "slice_proportions": [2, 4, 2, 4],
    "details": 8,
    "context_widths": [6],
    "nodes": 4,
}


@pytest.fixture(scope="module")
def net() -> Lite:
    torch.manual_seed(0)
    net = Lite(**TINY).eval()
    # Fresh networks give latents near zero; spread them, so that symbols are worth coding.
    with torch.no_grad():
        net.g_a[-1].weight.mul_(40)
        net.latent_codec.hyper.h_a[-1].weight.mul_(20)
    net.update()
    return net


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(1))


def size(coded: dict[str, Any]) -> int:
    return sum(len(string) for strings in coded["strings"] for string in strings)


# -- coding -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sync_safe", [False, True])
@pytest.mark.parametrize("quality", [0, 33.3, 60, 100])
def test_decoder_repeats_the_forward_pass(
    net: Lite, x: Tensor, quality: float, sync_safe: bool
) -> None:
    coded = net.compress(x, quality, sync_safe=sync_safe)
    decoded = net.decompress(coded["strings"], coded["shape"], quality, sync_safe=sync_safe)
    assert torch.equal(decoded["y_hat"], coded["y_hat"])
    with torch.no_grad():
        expected = net(x, quality)["x_hat"].clamp(0, 1)
    # In synchrony, values are on a grid, and few may be rounded otherwise.
    difference = (decoded["x_hat"] - expected).abs()
    assert float(difference.mean()) < (1e-2 if sync_safe else 1e-6)


def test_strings_grow_with_quality(net: Lite, x: Tensor) -> None:
    sizes = [size(net.compress(x, quality)) for quality in range(0, 101, 5)]
    assert all(a <= b for a, b in pairwise(sizes))
    assert sizes[-1] > 1.3 * sizes[0]


def test_latent_comes_nearer_with_quality(net: Lite, x: Tensor) -> None:
    exact = copy.deepcopy(net)
    with torch.no_grad():
        # A decoder's gain that undoes the encoder's; a trained one is near to that.
        exact.y_gain_inv.steps.copy_(exact.y_gain.steps)
        exact.y_gain_inv.middle.copy_(-exact.y_gain.middle)
        y = exact.g_a(x)
    errors = [
        float((exact.compress(x, quality)["y_hat"] - y).square().mean())
        for quality in (0, 25, 50, 75, 100)
    ]
    assert all(a > b for a, b in pairwise(errors))


def test_one_batch_may_hold_many_qualities(net: Lite, x: Tensor) -> None:
    with torch.no_grad():
        both = net(x, torch.tensor([10.0, 90.0]))["x_hat"]
        alone = net(x[1:], 90.0)["x_hat"]
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_file_tells_the_quality_with_its_fraction(net: Lite) -> None:
    sample = ImageData(torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(2)))
    sizes = []
    for quality, told in [
        (0, 0.0),
        (33.3, round(33.3 * 2**16) / 2**16),
        (None, 50.0),
        (100, 100.0),
    ]:
        content = encode_image(net, sample, model="lite", quality=quality).to_bytes()
        sizes.append(len(content))
        coded = parse_coded(content)
        assert (coded.quality, type(coded.quality)) == (told, float)
        assert coded.to_bytes() == content
        # In synchrony decoding checks the hash of the latent: another gain would not do.
        assert decode_image(net, coded).to_image().size == (90, 70)
    assert sizes == sorted(sizes)
    told = {"model": "lite", "metric": None, "random_weights": False}
    assert is_coded_with(coded, net, quality=100, **told)
    assert not is_coded_with(coded, net, quality=None, **told)


def test_file_of_another_quality_is_refused(net: Lite) -> None:
    sample = ImageData(torch.rand(3, 64, 64))
    for quality in (-1, 100.5, math.nan):
        with pytest.raises(ValueError, match=r"quality of this model must be in 0 ... 100, got"):
            encode_image(net, sample, model="lite", quality=quality)
    coded = encode_image(net, sample, model="lite", quality=50)
    with pytest.raises(ImpossibleHeaderError, match=r"quality .* must be in 0 ... 100, got 200"):
        decode_image(net, dataclasses.replace(coded, quality=200.0))
    with pytest.raises(ValueError, match=r"steps of 1 / 65536, got 0\.1"):
        dataclasses.replace(coded, quality=0.1).to_bytes()


@pytest.mark.parametrize("quality", [-0.1, 100.5, math.nan, math.inf])
def test_quality_outside_the_scale_is_refused(net: Lite, x: Tensor, quality: float) -> None:
    with pytest.raises(ValueError, match=r"quality must be in 0 ... 100, got"):
        net.compress(x, quality)
    with pytest.raises(ValueError, match=r"quality must be in 0 ... 100, got"):
        net(x, quality)


def test_odd_images_are_refused_with_the_remedy(net: Lite) -> None:
    with pytest.raises(ValueError, match="multiples of 64, got 64 x 72"):
        net.compress(torch.rand(1, 3, 64, 72))


# -- gains --------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0, 100, width=32), min_size=2, max_size=2, unique=True),
    st.integers(0, 2**31),
    st.booleans(),
)
def test_gains_never_fall_with_quality(qualities: list[float], seed: int, falls: bool) -> None:
    gains = RateGains(5, 4, 3.0, falls=falls)
    torch.manual_seed(seed)
    with torch.no_grad():
        gains.steps.normal_(std=3)
        gains.middle.normal_()
        low, high = gains(torch.tensor(sorted(qualities)))
    assert bool((low >= high * (1 - 1e-6) if falls else low <= high * (1 + 1e-6)).all())


def test_logarithm_is_linear_between_nodes() -> None:
    torch.manual_seed(0)
    gains = RateGains(3, 5, 2.0)
    with torch.no_grad():
        gains.steps.normal_()
        logs = gains(torch.tensor([25.0, 30.0, 37.5, 50.0])).log()[:, :, 0, 0]
    assert torch.allclose(logs[2], (logs[0] + logs[3]) / 2, atol=1e-6)
    assert torch.allclose(logs[1], logs[0] + 0.2 * (logs[3] - logs[0]), atol=1e-6)


def test_exact_gains_have_sixteen_bits() -> None:
    torch.manual_seed(0)
    gains = RateGains(30, 5, 2.0)
    with torch.no_grad():
        gains.middle.normal_()
        exact, plain = (f(torch.tensor([12.3, 77.0])) for f in (gains.exact, gains))
    mantissas = torch.frexp(exact)[0] * 2**16
    assert torch.equal(mantissas, mantissas.round())
    assert torch.allclose(exact, plain, rtol=2e-5)


def test_gains_rise_as_they_are_told() -> None:
    with torch.no_grad():
        first, last = RateGains(3, 5, 2.0)(torch.tensor([0.0, 100.0]))
    assert torch.allclose((last / first).log(), torch.full((3, 1, 1), 2.0), atol=1e-5)


def test_multipliers_are_in_geometric_progression() -> None:
    assert lagrangian(0) == pytest.approx(0.0008)
    assert lagrangian(100) == pytest.approx(1.6)
    assert lagrangian(50) ** 2 == pytest.approx(0.0008 * 1.6)


# -- weights ------------------------------------------------------------------------------------


def test_every_parameter_learns(net: Lite) -> None:
    net = copy.deepcopy(net).train()
    out = net(torch.rand(3, 3, 64, 64), torch.tensor([5.0, 50.0, 95.0]))
    rate = sum(-p.log().sum() for p in out["likelihoods"].values())
    (rate + out["x_hat"].square().sum() + net.aux_loss()).backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []


def test_sizes_are_read_off_the_weights(net: Lite, x: Tensor) -> None:
    same = Lite.from_state_dict(net.state_dict()).eval()
    with torch.no_grad():
        assert torch.equal(same(x, 20)["x_hat"], net(x, 20)["x_hat"])


def test_details_are_coefficients_of_the_image(net: Lite) -> None:
    """What the last slice changes in the image is what the analysis would take out of it again."""
    rest = net.M - net.g_a.details
    y = torch.zeros(1, net.M, 2, 3)
    details = torch.randn(1, net.g_a.details, 2, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = net.g_s(y)
        y[:, rest:] = details
        change = net.g_s(y) - before
        network = nn.Sequential(*net.g_a)
        taken = net.g_a(change)[:, rest:] - network(change)[:, rest:]
        torch.testing.assert_close(taken, details)
        # One colour all over has neither high frequencies nor middle ones.
        flat = torch.ones(1, 3, 32, 48) * torch.tensor([0.2, 0.5, 0.9])[:, None, None]
        taken = net.g_a(flat)[:, rest:] - network(flat)[:, rest:]
        torch.testing.assert_close(taken, torch.zeros_like(taken), atol=1e-5, rtol=0)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="not of Lite"):
        Lite.from_state_dict({"g_a.0.weight": torch.zeros(4, 3, 5, 5)})


def test_default_fits_into_four_megabytes_in_half_precision() -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in Lite().parameters())
    assert 1e6 <= count <= 3e6
    assert 2 * count <= 4e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": [8]}, r"widths and depths must have two entries each, got widths=\(8,\)"),
        ({"slice_proportions": [1, 100]}, "every slice needs at least one"),
        ({"details": 12}, "details must be a multiple of 8 from 8 to 640 and below M=20, got 12"),
        ({"details": 24}, "below M=20, got 24"),
        ({"nodes": 1}, "nodes must be at least 2, got 1"),
        ({"use_cca": True}, "use_cca must be False"),
    ],
)
def test_unfit_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lite(**{**TINY, **arguments})
