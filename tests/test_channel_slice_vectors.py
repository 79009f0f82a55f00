# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Published sizes: names, shapes and counts, and what the authors' programs compute with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from channel_slice_vectors import FULL_SIZE, VECTORS, authors_weights, hashed, keymap, modern
from torch import Tensor, nn

CASES = {"wacnn": "wacnn", "stf": "stf", "tcm_64": "tcm_64", "cca": "cca_train"}
# A latent on the edge between two integers may move these on another processor.
BEHIND_ROUNDING = {"likelihoods_y", "likelihoods_z", "x_hat", "y_aux", "y_cca"}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_model_has_the_published_names_shapes_and_counts(name: str) -> None:
    cls, arguments = FULL_SIZE[name]
    with torch.device("meta"):
        net = cls(**arguments)
    wanted = {ours: tuple(shape) for _, names, shape, _ in keymap(name)["rows"] for ours in names}
    assert {key: tuple(value.shape) for key, value in net.state_dict().items()} == wanted
    count = sum(parameter.numel() for parameter in net.parameters())
    added = sum(
        math.prod(shape)
        for original, names, shape, orig_shape in keymap(name)["rows"]
        if orig_shape is None and not names[0].endswith("relative_position_index")
    )
    assert count == keymap(name)["parameters"] + added


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_weights_of_the_authors_find_their_places(name: str, released: bool) -> None:
    cls, arguments = FULL_SIZE[name]
    rows = keymap(name)["rows"]
    # Some entries are in released checkpoints only, not in what the present program saves; the
    # table says so in brackets behind their names.
    theirs = {
        original.partition(" ")[0]: torch.empty(orig_shape or shape, device="meta")
        for original, _, shape, orig_shape in rows
        if original is not None and (released or orig_shape is not None)
    }
    converted = cls.convert(theirs)
    assert {modern(key): list(value.shape) for key, value in converted.items()} == {
        ours: shape
        for original, names, shape, _ in rows
        for ours in names
        if original is not None or not ours.endswith("relative_position_index")
    }
    with torch.device("meta"):
        inferred, wanted = cls(**cls.infer_arguments(converted)), cls(**arguments)
    assert _shapes(inferred) == _shapes(wanted)
    for size in ("N", "M", "head_dim", "hyper_head_dim", "depths", "num_heads", "slice_sizes"):
        assert getattr(inferred, size, None) == getattr(wanted, size, None)


def _shapes(net: nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in net.state_dict().items()}


def _filled(key: str, shape: list[int]) -> Tensor:
    return torch.from_numpy(hashed(key, tuple(shape)).astype(np.float32))


def _check(got: Tensor, want: dict, rtol: float) -> None:
    assert list(got.shape) == want["shape"]
    flat = got.flatten().double()
    samples = torch.tensor(want["samples"], dtype=torch.float64)
    scale = want["abs_sum"] / flat.numel()
    torch.testing.assert_close(
        flat[:: want["stride"]][: len(samples)], samples, rtol=rtol, atol=rtol * scale
    )
    assert float(flat.sum()) == pytest.approx(want["sum"], abs=rtol * want["abs_sum"])
    assert float(flat.abs().sum()) == pytest.approx(want["abs_sum"], rel=rtol)


@pytest.mark.slow
@pytest.mark.parametrize("name", VECTORS)
def test_converted_weights_reproduce_the_authors_program(name: str) -> None:
    want = VECTORS[name]
    cls, arguments = FULL_SIZE[CASES[name]]
    weights = authors_weights(CASES[name], cls(**arguments), want["weight_gain"])
    net = cls.from_state_dict(weights).eval()
    hyper, z_codec = net.latent_codec, net.latent_codec.z
    with torch.no_grad():
        x = _filled("input", want["input_shape"])
        out = net(x)
        y = net.g_a(x)
        z = hyper.h_a(y)
        means, scales = hyper.h_s(z_codec(z)["y_hat"]).chunk(2, dim=1)
        probe = 4 * _filled("probe", want["y"]["shape"]) - 2
        probe_z = 4 * _filled("probe_z", want["z"]["shape"]) - 2
        got = {
            "y": y,
            "z": z,
            "latent_means": means,
            "latent_scales": scales,
            "likelihoods_y": out["likelihoods"]["y"],
            "likelihoods_z": out["likelihoods"]["z"],
            "x_hat": out["x_hat"],
            "g_s_of_probe": net.g_s(probe),
            "h_mean_s_of_probe": hyper.h_s.h_mean_s(probe_z),
            "h_scale_s_of_probe": hyper.h_s.h_scale_s(probe_z),
            **(out.get("aux_likelihoods") or {}),
        }
    assert {key for key in want if isinstance(want[key], dict) and "samples" in want[key]} == set(
        got
    )
    for key, value in got.items():
        _check(value, want[key], 1e-4 if key in BEHIND_ROUNDING else 2e-5)
    bits = [
        float(-part.double().log2().sum())
        for part in out["likelihoods"]["y"].split(hyper.y.groups, dim=1)
    ]
    assert bits == pytest.approx(want["y_bits_per_slice"], rel=1e-5)
    assert sum(bits) == pytest.approx(want["y_bits"], rel=1e-5)
    z_bits = float(-out["likelihoods"]["z"].double().log2().sum())
    assert z_bits == pytest.approx(want["z_bits"], rel=1e-5)
