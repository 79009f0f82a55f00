# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What CompressAI 1.2 promises of models and of the zoo."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compressai import models, zoo
from compressai.entropy_models import EntropyBottleneck
from compressai.models import CompressionModel, base
from compressai.models.utils import (
    _update_registered_buffer,
    find_named_module,
    update_registered_buffers,
)
from compressai.models.video.google import ScaleSpaceFlow
from compressai.zoo.image import _load_model

HYPER = ["ScaleHyperprior", "MeanScaleHyperprior", "JointAutoregressiveHierarchicalPriors"]
VBR = [f"{name}Vbr" for name in HYPER]


class TestBaseClass:
    def test_model_with_a_bottleneck_only(self):
        class Net(CompressionModel):
            def __init__(self):
                super().__init__()
                self.entropy_bottleneck = EntropyBottleneck(32)

        assert len(list(Net().parameters())) == 15
        for net in (Net(), CompressionModel()):
            with pytest.raises(NotImplementedError):
                net(torch.rand(1))

    def test_parameters_can_be_set_through_aliases(self):
        class Net(CompressionModel):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 3, 3)
                self.alias = self.conv

        net = Net()
        nn.init.ones_(net.alias.weight)
        assert torch.equal(net.conv.weight, torch.ones(3, 3, 3, 3))


class TestOutput:
    def test_factorized(self):
        out = models.FactorizedPrior(8, 12).eval()(torch.rand(1, 3, 64, 64))
        assert set(out) == {"x_hat", "likelihoods"}
        assert out["x_hat"].shape == (1, 3, 64, 64)
        assert {k: tuple(v.shape) for k, v in out["likelihoods"].items()} == {"y": (1, 12, 4, 4)}

    @pytest.mark.parametrize("name", [*HYPER, *VBR])
    def test_hyperpriors(self, name):
        arguments = {"vr_entbttlnck": True} if name in VBR[:2] else {}
        net = getattr(models, name)(8, 12, **arguments).eval()
        out = net(torch.rand(1, 3, 128, 64))
        assert out["x_hat"].shape == (1, 3, 128, 64)
        shapes = {k: tuple(v.shape) for k, v in out["likelihoods"].items()}
        assert shapes == {"y": (1, 12, 8, 4), "z": (1, 8, 2, 1)}

    def test_scale_space_flow(self):
        frames = [torch.rand(1, 3, 128, 128) for _ in range(2)]
        out = ScaleSpaceFlow().eval()(frames)
        assert [tuple(x.shape) for x in out["x_hat"]] == [(1, 3, 128, 128)] * 2
        assert [sorted(labels) for labels in out["likelihoods"]] == [
            ["keyframe"],
            ["motion", "residual"],
        ]
        for labels in out["likelihoods"]:
            for fields in labels.values():
                assert fields["y"].shape == (1, 192, 8, 8)
                assert fields["z"].shape == (1, 192, 1, 1)


@pytest.mark.parametrize("name", ["FactorizedPrior", *HYPER])
@pytest.mark.parametrize(("n", "m"), [(16, 16), (16, 24), (24, 16)])
def test_sizes_are_recovered_from_files(name, n, m, tmp_path):
    cls = getattr(models, name)
    net = cls(n, m)
    torch.save(net.state_dict(), tmp_path / "weights.pth")
    again = cls.from_state_dict(torch.load(tmp_path / "weights.pth"))
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(again.eval()(x)["x_hat"], net.eval()(x)["x_hat"])


def test_scale_table():
    from compressai.models.google import SCALES_LEVELS, SCALES_MAX, SCALES_MIN, get_scale_table

    assert (SCALES_MIN, SCALES_MAX, SCALES_LEVELS) == (0.11, 256, 64)
    table = get_scale_table()
    assert len(table) == 64
    assert float(table[0]) == pytest.approx(0.11, rel=1e-6)
    assert float(table[-1]) == pytest.approx(256, rel=1e-6)
    table = get_scale_table(0.5, 4, 8)
    assert (len(table), float(table[0]), float(table[-1])) == (8, 0.5, pytest.approx(4))


class TestHelpers:
    def test_modules_are_found_by_name(self):
        net = models.FactorizedPrior(8, 12)
        assert find_named_module(net, "g_a.0") is net.g_a[0]
        assert find_named_module(net, "toto") is None

    def test_unknown_buffers(self):
        bottleneck = EntropyBottleneck(4)
        with pytest.raises(ValueError):
            update_registered_buffers(bottleneck, "", ["toto"], {})

    @pytest.mark.parametrize("policy", ["resize", "resize_if_empty"])
    def test_buffers_that_are_not_registered(self, policy):
        bottleneck = EntropyBottleneck(4)
        state = {"eb._cdf_length": torch.zeros(4).int(), "eb.target": torch.zeros(3)}
        with pytest.raises(RuntimeError):
            _update_registered_buffer(bottleneck, "toto", "eb.target", state, policy)


class TestZoo:
    @pytest.mark.parametrize(
        ("name", "metric", "quality"),
        [("toto", "mse", 1), ("bmshj2018-factorized", "mse", 0)],
    )
    def test_internal_loader(self, name, metric, quality):
        with pytest.raises(ValueError):
            _load_model(name, metric, quality)

    @pytest.mark.parametrize(
        ("name", "cls"),
        [
            ("bmshj2018_factorized", "FactorizedPrior"),
            ("bmshj2018_factorized_relu", "FactorizedPrior"),
            ("bmshj2018_hyperprior", "ScaleHyperprior"),
            ("mbt2018_mean", "MeanScaleHyperprior"),
            ("mbt2018", "JointAutoregressiveHierarchicalPriors"),
            ("cheng2020_anchor", "Cheng2020Anchor"),
            ("cheng2020_attn", "Cheng2020Attention"),
        ],
    )
    def test_entries(self, name, cls):
        make = getattr(zoo, name)
        net = make(1, metric="mse")
        assert isinstance(net, getattr(models, cls))
        weights = net.state_dict()
        first = "g_a.0.conv1.weight" if "cheng" in name else "g_a.0.weight"
        channels = {"mbt2018": (192, 192), "cheng2020_anchor": (128, 128)}.get(name, (128, 192))
        assert weights[first].size(0) == channels[0]
        if name != "cheng2020_attn":
            assert weights["g_a.6.weight"].size(0) == channels[1]
        for wrong in ({"quality": -1}, {"quality": 10}, {"quality": 1, "metric": "ssim"}):
            with pytest.raises(ValueError):
                make(**wrong)


@pytest.mark.parametrize("name", ["bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean"])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_strings_of_a_batch(name, batch):
    net = zoo.image_models[name](1).eval()
    net.update()
    x = torch.zeros(batch, 3, 128, 128)
    x[:, :, 32:96, 32:96] = 1
    coded = net.compress(x)
    factor = net.downsampling_factor
    assert tuple(coded["shape"]) == (128 // factor, 128 // factor)
    assert len(coded["strings"]) == (1 if "factorized" in name else 2)
    for strings in coded["strings"]:
        assert len(strings) == batch
        assert all(isinstance(string, bytes) and string for string in strings)
    x_hat = net.decompress(**coded)["x_hat"]
    assert torch.equal(x_hat, net(x)["x_hat"].clamp(0, 1))


def test_the_helpers_of_loading_are_where_the_base_class_is():
    assert base.update_registered_buffers is update_registered_buffers
