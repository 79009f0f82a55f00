# SPDX-License-Identifier: BSD-3-Clause-Clear
"""MambaVC and MambaIC: published sizes, authors' layouts, coding, synchrony, training.

Equality with the authors' programs is in ``test_golden.py``, scans are in ``test_layers_ssm.py``.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from operations import operations
from torch import Tensor, nn

from compressai import _kernels
from compressai.entropy_models import GaussianConditional
from compressai.inference import prepare
from compressai.latent_codecs import MambaICLatentCodec
from compressai.layers.ssm import SS2D
from compressai.losses import CCARateDistortionLoss, RateDistortionLoss
from compressai.models.channel_slice import ChannelSliceModel
from compressai.models.mambaic import MambaIC, convert_upstream_mambaic_state_dict
from compressai.models.mambavc import MambaVC
from compressai.registry import ENTRIES

KEYMAPS: dict[str, Any] = json.loads(
    gzip.decompress((Path(__file__).parent / "tables/state_space_keymaps.json.gz").read_bytes())
)
MODELS: dict[str, type[ChannelSliceModel]] = {"mambavc": MambaVC, "mambaic": MambaIC}
# What influences nothing in MambaIC.
IDLE = ("cc_mean_transforms.0", "cc_scale_transforms.0", "scale_support_transforms.0")
AUXILIARY = {"use_cca": True, "cca_hidden_channels": 8, "cca_num_layers": 1}

pytestmark = pytest.mark.usefixtures("one_torch_thread")
every = pytest.mark.parametrize("name", MODELS)


def small_net(name: str, **arguments: Any) -> ChannelSliceModel:
    """A model with lively random weights, in evaluation mode."""
    torch.manual_seed(0)
    net = MODELS[name](**{**ENTRIES[name].small, **arguments})
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                module.weight *= 1.8
            if isinstance(module, SS2D):
                module.A_logs += torch.randn_like(module.A_logs)
                module.Ds += torch.randn_like(module.Ds)
        for key, parameter in net.named_parameters():
            if key.endswith("scale_cc.4.bias"):
                parameter.fill_(1)
        net.g_a[-1].weight *= 4
        net.latent_codec.h_a[-1].weight *= 4
    return net.eval()


@cache
def shared_net(name: str) -> ChannelSliceModel:
    """The same model for all tests; they must not change it."""
    return small_net(name)


def sample(batch: int = 1, height: int = 64, width: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(batch * height + width)
    coarse = torch.rand(batch, 3, height // 16, width // 16, generator=generator)
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@cache
def on_meta(name: str) -> ChannelSliceModel:
    with torch.device("meta"):
        return MODELS[name]()


def theirs(name: str) -> dict[str, Tensor]:
    return {
        original: torch.empty(shape, device="meta")
        for original, _, _, shape, _ in KEYMAPS[name]["rows"]
        if original is not None
    }


def ours(name: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(shape) for _, keys, shape, _, _ in KEYMAPS[name]["rows"] for key in keys}


class TestPublishedSizes:
    @every
    def test_names_shapes_and_counts(self, name: str) -> None:
        net = on_meta(name)
        assert {key: tuple(v.shape) for key, v in net.state_dict().items()} == ours(name)
        count = sum(parameter.numel() for parameter in net.parameters())
        assert count == KEYMAPS[name]["parameters_ours"]
        assert round(count / 1e6, 1) == {"mambavc": 53.6, "mambaic": 124.5}[name]

    def test_operations(self) -> None:
        assert operations(on_meta("mambavc"), "bmm", whole=SS2D) == 1032095
        # Three stacks of the first slice have no influence; the authors' program computes them.
        idle = {
            key: value
            for key, value in on_meta("mambaic").state_dict().items()
            if key.startswith(tuple(f"latent_codec.y.{part}." for part in IDLE))
        }
        weights = sum(v.numel() for k, v in idle.items() if k.endswith("weight") and v.dim() > 1)
        assert operations(on_meta("mambaic"), "bmm", whole=SS2D) + weights / 16**2 == 1570439

    @every
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_weights_of_the_authors_find_their_places(self, name: str, prefix: str) -> None:
        cls = MODELS[name]
        converted = cls.convert({prefix + key: v for key, v in theirs(name).items()})
        wanted = {
            key: shape
            for key, shape in ours(name).items()
            if not key.endswith(".relative_position_index")
        }
        assert {key: tuple(value.shape) for key, value in converted.items()} == wanted
        assert cls.convert(converted).keys() == converted.keys()
        with torch.device("meta"):
            inferred = cls(**cls.infer_arguments(converted))
        for size, value in vars(on_meta(name)).items():
            if not size.startswith("_") and size not in ("training", "max_support_slices"):
                assert getattr(inferred, size) == value, size


class TestWeights:
    @every
    @pytest.mark.parametrize("use_cca", [False, True])
    def test_sizes_are_read_off_weights(self, name: str, use_cca: bool) -> None:
        net = small_net(name, **AUXILIARY) if use_cca else shared_net(name)
        again = MODELS[name].from_state_dict(net.state_dict()).eval()
        for size, value in vars(net).items():
            if not size.startswith("_"):
                assert getattr(again, size) == value, size
        with torch.no_grad():
            assert torch.equal(net(sample())["x_hat"], again(sample())["x_hat"])

    @every
    def test_a_later_kind_of_block_is_refused(self, name: str) -> None:
        state = dict(shared_net(name).state_dict())
        for part in ("norm2.weight", "mlp.fc1.weight"):
            state[f"g_a.1.{part}"] = torch.zeros(16)
        with pytest.raises(ValueError, match=r"feed-forward network, as in g_a\.1\.norm2"):
            MODELS[name].from_state_dict(state)

    @every
    def test_weights_of_another_model_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match=f"not of {MODELS[name].__name__}"):
            MODELS[name].from_state_dict({"g_a.0.weight": torch.zeros(8, 3, 5, 5)})

    def test_either_name_of_a_context_will_do(self) -> None:
        weight = torch.zeros(3)
        names = {f"context_vss.{k}.0.norm.weight" for k in (0, 1)}
        seconds = {f"context_vss_{k}.0.norm.weight" for k in (1, 2)}
        for given in (names, seconds, names | seconds, {*sorted(names)[:1], *seconds}):
            got = convert_upstream_mambaic_state_dict(dict.fromkeys(given, weight))
            assert set(got) == {f"latent_codec.y.{key}" for key in names}

    def test_lists_outside_of_the_container_are_understood(self) -> None:
        net = shared_net("mambaic")
        native = net.state_dict()
        flat = {
            key.replace("latent_codec.h_s.", "")
            .replace("latent_codec.z.", "")
            .replace("latent_codec.h_a.", "h_a.")
            .replace("latent_codec.y.", "latent_codec."): value
            for key, value in native.items()
        }
        assert len(flat.keys() & native.keys()) < len(native) / 2
        assert net.convert(flat).keys() == native.keys()

    def test_masked_weights_count_only_under_the_mask(self) -> None:
        net = small_net("mambaic")
        state = {key: value.clone() for key, value in net.state_dict().items()}
        convolution = "latent_codec.y.context_prediction.0."
        state[convolution + "weight"][state[convolution + "mask"] == 0] = 7
        again = MambaIC.from_state_dict(state).eval()
        with torch.no_grad():
            assert torch.equal(net(sample())["x_hat"], again(sample())["x_hat"])


class TestCoding:
    @every
    @pytest.mark.parametrize("sync_safe", [False, True])
    @pytest.mark.parametrize("size", [(1, 128, 64), (3, 64, 64)])
    def test_what_is_coded_is_decoded(
        self, name: str, size: tuple[int, int, int], sync_safe: bool
    ) -> None:
        net, x = shared_net(name), sample(*size)
        coded = net.compress(x, sync_safe=sync_safe)
        passes = {"mambavc": 1, "mambaic": 2}[name]
        assert [len(step) for step in coded["strings"]] == [size[0]] * (3 * passes + 1)
        decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=sync_safe)
        assert torch.equal(decoded["y_hat"], coded["y_hat"])
        assert len(coded["y_hat"].unique()) > 20
        with torch.no_grad():
            want = net(x)["x_hat"].clamp(0, 1)
        if sync_safe:
            assert float((decoded["x_hat"] - want).abs().mean()) < 0.02
        else:
            assert torch.allclose(decoded["x_hat"], want, atol=1e-5)

    @every
    def test_coding_costs_what_was_estimated(self, name: str) -> None:
        net, x = shared_net(name), sample(1, 128, 128)
        with torch.no_grad():
            likelihoods = net(x)["likelihoods"]
        for sync_safe in (False, True):
            *strings, _ = net.compress(x, sync_safe=sync_safe)["strings"]
            estimated = float(-likelihoods["y"].log2().sum())
            bits = 8 * sum(len(step[0]) for step in strings)
            assert 0.7 * estimated < bits < 1.1 * estimated + 80 * len(strings)

    @every
    def test_synchronised_decoding_bears_other_arithmetic(self, name: str) -> None:
        net = shared_net(name)
        coded = net.compress(sample(), sync_safe=True)
        wide = MODELS[name].from_state_dict(net.state_dict()).double().eval()
        decoded = wide.decompress(coded["strings"], coded["shape"], sync_safe=True)
        assert torch.equal(decoded["y_hat"].float(), coded["y_hat"])

    @every
    @pytest.mark.skipif(not _kernels.available(), reason="no kernels for the processor")
    def test_synchronised_strings_do_not_depend_on_the_backend(self, name: str) -> None:
        native = shared_net(name)
        chunked = small_net(name, scan_backend="torch")
        coded = native.compress(sample(), sync_safe=True)
        decoded = chunked.decompress(coded["strings"], coded["shape"], sync_safe=True)
        assert torch.equal(decoded["y_hat"], coded["y_hat"])

    @every
    def test_synchronised_strings_do_not_depend_on_threads(self, name: str) -> None:
        net = shared_net(name)
        coded = net.compress(sample(), sync_safe=True)
        before = torch.get_num_threads()
        torch.set_num_threads(3 - min(before, 2))
        try:
            decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=True)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(decoded["y_hat"], coded["y_hat"])

    @every
    def test_prepared_models_decode_the_same(self, name: str) -> None:
        net = shared_net(name)
        coded = net.compress(sample())
        fast = prepare(net, "fp32")
        decoded = fast.decompress(coded["strings"], coded["shape"])
        assert torch.equal(decoded["y_hat"], coded["y_hat"])
        again = net.decompress(coded["strings"], coded["shape"])
        assert torch.allclose(decoded["x_hat"], again["x_hat"], atol=1e-3)

    def test_a_lost_string_leaves_the_means(self) -> None:
        net = shared_net("mambaic")
        coded = net.compress(sample())
        *_, z = coded["strings"]
        strings = [*coded["strings"][:3], [None], [None], [None], z]
        out = net.decompress(strings, coded["shape"])
        assert torch.isfinite(out["x_hat"]).all()

    def test_what_does_not_fit_is_refused(self) -> None:
        net = shared_net("mambaic")
        coded = net.compress(sample())
        shape = coded["shape"]
        for strings, sizes in (
            (coded["strings"][1:], shape),
            (coded["strings"], {**shape, "y": shape["y"][1:]}),
            (coded["strings"], {**shape, "y": [(8, 4, 6)] * 3}),
        ):
            with pytest.raises(ValueError, match="do not fit 3 slices"):
                net.decompress(strings, sizes)
        with pytest.raises(ValueError, match="multiples of 64"):
            net.compress(torch.rand(1, 3, 64, 96))


class TestTraining:
    @every
    @pytest.mark.parametrize("use_cca", [False, True])
    def test_two_steps(self, name: str, use_cca: bool) -> None:
        net = small_net(name, **(AUXILIARY if use_cca else {})).train()
        x = sample()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
        criterion = CCARateDistortionLoss() if use_cca else RateDistortionLoss(lmbda=0.013)
        for _ in range(2):
            optimizer.zero_grad()
            loss = criterion(net(x), x)["loss"] + net.aux_loss()
            loss.backward()
            assert torch.isfinite(loss)
            optimizer.step()
        without = {key for key, p in net.named_parameters() if p.grad is None}
        # In slice 0 nothing depends on these; of CCA, the last residual predictions.
        assert all(key.startswith("aux_") or any(u in key for u in IDLE) for key in without)
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)

    def test_likelihoods_are_noisy_and_values_rounded(self) -> None:
        net = small_net("mambaic").train()
        x = sample()
        first, second = (net.latent_codec(net.g_a(x)) for _ in range(2))
        assert torch.equal(first["y_hat"], second["y_hat"])
        assert not torch.equal(first["likelihoods"]["y"], second["likelihoods"]["y"])


@pytest.mark.parametrize(
    ("name", "bad", "match"),
    [
        ("mambavc", {"depths": (1, 1, 1)}, "depths must have four entries"),
        ("mambavc", {"num_slices": 5}, "M must be divisible by num_slices"),
        ("mambavc", {"scan_backend": "fast"}, "scan_backend must be one of"),
        ("mambaic", {"context_depths": (1, 2)}, "context_depths must have num_slices=3"),
        ("mambaic", {"depths": (1, 1, -1, 1)}, "none negative"),
        ("mambaic", {"context_head_dim": 3}, "head_dim"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, bad: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MODELS[name](**{**ENTRIES[name].small, **bad})


def test_the_codec_wants_one_network_a_slice() -> None:
    lists = [[nn.Identity()]] * 9
    with pytest.raises(ValueError, match="mean_support_transforms must have num_slices=2"):
        MambaICLatentCodec(*lists, GaussianConditional(None), num_slices=2)
