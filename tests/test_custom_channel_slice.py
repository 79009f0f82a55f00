# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The model of one's own in ``examples/custom_channel_slice.py`` does all that models do."""

from __future__ import annotations

import importlib.util
import inspect
from pathlib import Path

import pytest
import torch

from compressai.losses import CCARateDistortionLoss
from compressai.registry import ENTRIES, MODELS

PATH = Path(__file__).parent.parent / "examples" / "custom_channel_slice.py"


@pytest.fixture(scope="module")
def model() -> type[torch.nn.Module]:
    spec = importlib.util.spec_from_file_location("custom_channel_slice", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.MySliceModel
    del MODELS["my-slice-model"], ENTRIES["my-slice-model"]


def test_it_is_registered_and_has_about_thirty_lines(model: type[torch.nn.Module]) -> None:
    assert MODELS["my-slice-model"] is model
    assert len(inspect.getsource(model.__init__).splitlines()) <= 30


@torch.no_grad()
def test_it_codes_what_it_evaluates(model: type[torch.nn.Module]) -> None:
    net = model(N=8, M=16).eval()
    x = torch.rand(2, 3, 64, 128)
    coded = net.compress(x)
    assert len(coded["strings"]) == 5
    decoded = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert torch.equal(decoded, net(x)["x_hat"].clamp(0, 1))


def test_every_parameter_learns_with_the_auxiliary_model(model: type[torch.nn.Module]) -> None:
    net = model(N=8, M=16, use_cca=True, cca_hidden_channels=8, cca_num_layers=1)
    x = torch.rand(1, 3, 64, 64)
    (CCARateDistortionLoss()(net(x), x)["loss"] + net.aux_loss()).backward()
    # The corrections of the last two auxiliary slices are support of no other slice.
    unused = {name for name, p in net.named_parameters() if p.grad is None}
    assert all(name.startswith("aux_entropy_model.inner_codec.latent_codec") for name in unused)
