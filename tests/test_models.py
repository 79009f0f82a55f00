# SPDX-License-Identifier: BSD-3-Clause-Clear
"""STF, WACNN, TCM and CCA at small sizes: coding, loading, gradients, errors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from slice_nets import SMALL, small_net
from torch import Tensor, nn

import compressai.models
from compressai.losses import CCARateDistortionLoss, RateDistortionLoss
from compressai.models import CompressionModel
from compressai.models.cca import CCAModel
from compressai.models.channel_slice import ChannelSliceModel
from compressai.models.saaf import SAAF
from compressai.models.stf import WACNN, SymmetricalTransFormer
from compressai.models.tcm import TCM
from compressai.registry import MODELS

PLAIN = ("stf", "wacnn", "tcm", "cca", "dcae")
_nets: dict[str, nn.Module] = {}

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def net(request: pytest.FixtureRequest) -> nn.Module:
    """The model named by the parameter, built once; tests must not change it."""
    if request.param not in _nets:
        _nets[request.param] = small_net(request.param)
    return _nets[request.param]


def _image(batch: int = 1, height: int = 64, width: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(batch * height + width)
    return torch.rand(batch, 3, height, width, generator=generator)


every = pytest.mark.parametrize("net", SMALL, indirect=True)
plain = pytest.mark.parametrize("net", PLAIN, indirect=True)


@plain
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 128, 64), (2, 64, 192)])
def test_decoder_gives_exactly_the_image_of_the_evaluation(
    net: CompressionModel, batch: int, height: int, width: int
) -> None:
    x = _image(batch, height, width)
    with torch.no_grad():
        out = net(x)
    coded = net.compress(x)
    decoded = net.decompress(coded["strings"], coded["shape"])
    assert set(coded) == {"strings", "shape", "y_hat"}
    assert set(decoded) == {"x_hat", "y_hat"}
    assert torch.equal(decoded["x_hat"], out["x_hat"].clamp(0, 1))
    assert torch.equal(decoded["y_hat"], coded["y_hat"])


@plain
def test_there_is_one_string_for_each_slice_and_image(net: CompressionModel) -> None:
    coded = net.compress(_image(3, 64, 128))
    slices = net.num_slices
    assert [len(strings) for strings in coded["strings"]] == [3] * (slices + 1)
    assert all(isinstance(string, bytes) for step in coded["strings"] for string in step)
    assert [tuple(size) for size in coded["shape"]["y"]] == [(4, 8)] * slices
    assert tuple(coded["shape"]["z"]) == (1, 2)


@plain
def test_coding_costs_no_more_than_estimated(net: CompressionModel) -> None:
    x = _image(2, 128, 128)
    with torch.no_grad():
        out = net(x)
    estimated = sum(float(-p.log2().sum()) for p in out["likelihoods"].values())
    strings = [string for step in net.compress(x)["strings"] for string in step]
    bits = 8 * sum(map(len, strings))
    # Escaped symbols of these untrained models are cheaper than their bounded likelihoods say.
    assert 0.7 * estimated < bits < 1.05 * estimated + 80 * len(strings)


@every
def test_outputs_of_forward(net: CompressionModel) -> None:
    x = _image(1, 64, 128)
    out = net(x)
    extra = {"y", "aux_likelihoods"} if isinstance(net, CCAModel) else set()
    extra |= {"aux_likelihoods"} if net.use_cca else set()
    extra |= {"diffusion_loss"} if isinstance(net, SAAF) else set()
    assert set(out) == {"x_hat", "likelihoods"} | extra
    assert out["x_hat"].shape == x.shape
    assert out["likelihoods"]["y"].shape == (1, net.M, 4, 8)
    assert out["likelihoods"]["z"].shape[2:] == (1, 2)
    auxiliary = out.get("aux_likelihoods")
    if net.use_cca:
        assert set(auxiliary) == {"y_aux", "y_cca"}
        assert {p.shape for p in auxiliary.values()} == {out["likelihoods"]["y"].shape}
        assert all(bool(((p > 0) & (p <= 1)).all()) for p in auxiliary.values())
    else:
        assert auxiliary is None


@every
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_alone_rebuild_the_model(net: CompressionModel, prefix: str) -> None:
    weights = {prefix + key: value for key, value in net.state_dict().items()}
    other = type(net).from_state_dict(weights).eval()
    own = other.state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == {
        key: tuple(value.shape) for key, value in net.state_dict().items()
    }
    x = _image()
    out, again = net(x), other(x)
    assert torch.equal(out["x_hat"], again["x_hat"])
    for name in ("y", "z"):
        assert torch.equal(out["likelihoods"][name], again["likelihoods"][name])
    for name in ("N", "M", "num_slices", "use_cca"):
        assert getattr(net, name) == getattr(other, name)


@every
def test_state_dict_has_the_names_of_the_family(net: CompressionModel) -> None:
    keys = set(net.state_dict())
    last = net.num_slices - 1
    for k in (0, last):
        for part in ("mean_cc", "scale_cc"):
            assert f"latent_codec.y.channel_context.y{k}.{part}.0.weight" in keys
        assert f"latent_codec.y.latent_codec.y{k}.lrp_transform.0.weight" in keys
        assert f"latent_codec.y.latent_codec.y{k}.gaussian_conditional.scale_table" in keys
    assert "latent_codec.z.entropy_bottleneck.quantiles" in keys
    assert any(key.startswith("latent_codec.h_s.h_mean_s.0.") for key in keys)
    assert any(key.startswith("latent_codec.h_a.0.") for key in keys)
    assert not any(key.startswith(("h_a.", "latent_codec.cc_mean_transforms.")) for key in keys)
    assert any(key.startswith("aux_entropy_model.") for key in keys) == net.use_cca
    if net.use_cca:
        assert "aux_entropy_model.y_entropy_bottleneck.quantiles" in keys
        assert "aux_entropy_model.inner_codec.channel_context.y1.mean_cc.0.weight" in keys


# The corrections of the last two auxiliary slices: see CausalContextAdjustmentEntropyModel.
def _documented_as_unused(name: str, net: nn.Module) -> bool:
    unused = [
        f"aux_entropy_model.inner_codec.latent_codec.y{k}.lrp_transform."
        for k in (net.num_slices - 2, net.num_slices - 1)
    ]
    return name.startswith(tuple(unused))


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns(name: str) -> None:
    net = small_net(name).train()
    criterion = CCARateDistortionLoss() if net.use_cca else RateDistortionLoss()
    x = _image(2)
    out = net(x)
    loss = criterion(out, x)["loss"] + net.aux_loss() + out.get("diffusion_loss", 0)
    loss.backward()
    for key, parameter in net.named_parameters():
        if _documented_as_unused(key, net):
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, key
            assert bool(parameter.grad.isfinite().all()), key
            # Softmax has the same mean whatever it sees: rounding noise, or nothing.
            assert bool(parameter.grad.any()) or "aux_dec" in key, key


@plain
def test_latents_are_rounded_in_training_too(net: CompressionModel) -> None:
    trained = copy.deepcopy(net).train()
    seen = []
    trained.latent_codec.h_s.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        trained(_image())
    medians = trained.latent_codec.z.entropy_bottleneck.quantiles[:, 0, 1].view(1, -1, 1, 1)
    offsets = seen[0] - medians
    torch.testing.assert_close(offsets, offsets.round(), atol=1e-5, rtol=0)
    assert all(leaf.quantizer == "ste" for leaf in trained.latent_codec.y.latent_codec.values())


@plain
@pytest.mark.parametrize(("height", "width"), [(80, 64), (64, 66), (60, 64), (32, 32)])
def test_sides_that_do_not_fit_are_refused(net: CompressionModel, height: int, width: int) -> None:
    x = _image(1, height, width)
    for method in (net, net.compress):
        with pytest.raises(ValueError, match=r"multiples of 64.*compute_padding"):
            method(x)
    assert net.downsampling_factor == 64


@plain
def test_weights_that_do_not_fit_are_listed(net: CompressionModel) -> None:
    weights = net.state_dict()
    gone = weights.popitem()[0]
    weights["something.else"] = torch.zeros(1)
    with pytest.raises(RuntimeError) as raised:
        type(net).from_state_dict(weights)
    assert gone in str(raised.value)
    assert "something.else" in str(raised.value)


@pytest.mark.parametrize("cls", [SymmetricalTransFormer, WACNN, TCM])
def test_weights_of_another_model_are_refused(cls: type[ChannelSliceModel]) -> None:
    with pytest.raises(ValueError, match=cls.__name__):
        cls.from_state_dict(small_net("cca").state_dict())
    with pytest.raises(ValueError, match=cls.__name__):
        cls.from_state_dict({})


@every
def test_models_can_be_copied_and_pickled(net: CompressionModel) -> None:
    x = _image()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(other(x)["x_hat"], net(x)["x_hat"])


@plain
def test_coding_works_under_other_names_for_sizes(net: CompressionModel) -> None:
    # Files keep shapes as plain lists.
    coded = net.compress(_image())
    shape = {
        "y": [list(size) for size in coded["shape"]["y"]],
        "z": list(coded["shape"]["z"]),
    }
    wanted = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert torch.equal(net.decompress(coded["strings"], shape)["x_hat"], wanted)
    with pytest.raises(ValueError, match="lists of strings"):
        net.decompress(coded["strings"][1:], shape)


@every
def test_auxiliary_model_costs_no_second_hyper_path(net: CompressionModel) -> None:
    calls: dict[str, int] = {}
    hooks = [
        module.register_forward_hook(
            lambda *_, name=name: calls.__setitem__(name, calls.get(name, 0) + 1)
        )
        for name, module in (
            ("h_a", net.latent_codec.h_a),
            ("h_s", net.latent_codec.h_s),
            ("z", net.latent_codec.z),
        )
    ]
    net(_image())
    for hook in hooks:
        hook.remove()
    assert calls == {"h_a": 1, "h_s": 1, "z": 1}


@pytest.mark.parametrize("name", ["wacnn+cca", "cca+cca"])
def test_coding_never_touches_the_auxiliary_model(name: str) -> None:
    net = small_net(name)
    net.update()
    x = _image()
    coded = net.compress(x)
    for parameter in net.aux_entropy_model.parameters():
        parameter.data.fill_(float("nan"))
    again = net.compress(x)
    assert again["strings"] == coded["strings"]
    assert bool(net.decompress(again["strings"], again["shape"])["x_hat"].isfinite().all())


def test_auxiliary_loss_counts_both_bottlenecks() -> None:
    net = small_net("tcm+cca")
    bottlenecks = (
        net.latent_codec.z.entropy_bottleneck,
        net.aux_entropy_model.y_entropy_bottleneck,
    )
    assert net.aux_loss().item() == pytest.approx(sum(b.loss().item() for b in bottlenecks))


def test_models_without_sizes_of_their_own_say_so() -> None:
    with pytest.raises(NotImplementedError, match="state dict"):
        ChannelSliceModel.from_state_dict({})


@pytest.mark.parametrize("name", ["stf", "tcm"])
def test_missing_timm_is_named_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm.layers", None)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install .*compressai-torch\[attn\]"):
        small_net(name)


def test_models_that_need_timm_are_there_without_it() -> None:
    program = (
        "import sys\n"
        "import compressai.models\n"
        "from compressai.models import CompressionModel\n"
        "lazy = {'CCAModel', 'SymmetricalTransFormer', 'TCM', 'WACNN'}\n"
        "assert lazy <= {*dir(compressai.models)} & {*compressai.models.__all__}\n"
        "assert 'timm' not in sys.modules\n"
        "sys.modules['timm'] = sys.modules['timm.layers'] = None\n"
        "from compressai.models import *\n"
        "assert all(issubclass(globals()[name], CompressionModel) for name in lazy)\n"
        "assert compressai.models.tcm.TCM is TCM\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_names_that_models_lacks_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match=r"module 'compressai.models' has no attribute 'TCN'"):
        _ = compressai.models.TCN
    assert not hasattr(compressai.models, "__wrapped__")


class TestStf:
    def test_registered_names(self) -> None:
        assert MODELS["stf"] is SymmetricalTransFormer
        assert MODELS["stf-wacnn"] is WACNN

    @pytest.mark.parametrize(
        "options",
        [
            {"patch_norm": False},
            {"qkv_bias": False},
            {"mlp_ratio": 2.0},
            {"window_size": 2},
            {"in_chans": 1},
            {"num_slices": 8, "max_support_slices": None},
            {"depths": (2, 1, 2, 1), "num_heads": (1, 2, 4, 8)},
            {"depths": (1, 1, 1), "num_heads": (2, 2, 2), "patch_size": 4},
        ],
    )
    def test_options_are_inferred(self, options: dict[str, Any]) -> None:
        net = small_net("stf", **options)
        other = SymmetricalTransFormer.from_state_dict(net.state_dict())
        names = ("patch_size", "embed_dim", "depths", "num_heads", "window_size", "num_slices")
        assert {n: _plain(net, n) for n in names} == {n: _plain(other, n) for n in names}
        x = _image(1, 64, 64)[:, : options.get("in_chans", 3)]
        assert torch.equal(net(x)["x_hat"], other.eval()(x)["x_hat"])

    def test_support_is_half_of_the_slices_by_default(self) -> None:
        assert small_net("stf", max_support_slices=None).max_support_slices == 2

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"depths": (1, 1, 1)}, "depths and num_heads"),
            ({"depths": (1, 1), "num_heads": (1, 1)}, "at least 3"),
            ({"num_slices": 7}, "num_slices"),
            ({"unknown": 1}, "unknown"),
        ],
    )
    def test_impossible_options_are_refused(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises((ValueError, TypeError), match=match):
            small_net("stf", **options)

    def test_wacnn_needs_equal_slices(self) -> None:
        with pytest.raises(ValueError, match="M must be divisible by num_slices"):
            small_net("wacnn", num_slices=5)

    @pytest.mark.parametrize("limit", [-1, 0, 1, 3])
    def test_wacnn_support_is_inferred(self, limit: int) -> None:
        net = small_net("wacnn", max_support_slices=limit)
        other = WACNN.from_state_dict(net.state_dict())
        assert other.max_support_slices == (3 if limit < 0 else limit)

    def test_correction_sees_the_support_itself(self) -> None:
        for name in ("stf", "wacnn"):
            heads = small_net(name).latent_codec.y.channel_context.values()
            assert {head.emit_mean_support for head in heads} == {"pre"}


class TestTcm:
    def test_registered_names(self) -> None:
        assert MODELS["tcm"] is MODELS["lic-tcm"] is TCM

    @pytest.mark.parametrize(
        "options",
        [
            {"config": (1, 2, 0, 3, 0, 1), "head_dim": (4, 8, 16, 2, 16, 8)},
            {"config": (0, 1, 1, 1, 1, 1)},
            {"config": (0, 1, 1, 0, 1, 1), "hyper_head_dim": 8},
            {"config": (0, 0, 0, 0, 0, 0), "window_size": 4},
            {"window_size": 4, "hyper_window_size": 2, "hyper_head_dim": 8},
            {"max_support_slices": 5},
            {"num_slices": 8, "max_support_slices": 3},
        ],
    )
    def test_options_are_inferred(self, options: dict[str, Any]) -> None:
        net = small_net("tcm", **options)
        other = TCM.from_state_dict(net.state_dict()).eval()
        for name in ("N", "M", "config", "hyper_channels", "num_slices", "window_size"):
            assert _plain(net, name) == _plain(other, name)
        assert other.max_support_slices == min(net.max_support_slices, net.num_slices - 1)
        for blocks, mine, inferred in zip(net.config, net.head_dim, other.head_dim):
            assert blocks == 0 or mine == inferred
        if net.config[0] or net.config[3]:
            assert (net.hyper_window_size, net.hyper_head_dim) == (
                other.hyper_window_size,
                other.hyper_head_dim,
            )
        x = _image()
        assert torch.equal(net(x)["x_hat"], other(x)["x_hat"])

    def test_constant_indexes_may_be_missing(self) -> None:
        net = small_net("tcm")
        weights = {
            key: value
            for key, value in net.state_dict().items()
            if not key.endswith("relative_position_index")
        }
        assert len(weights) < len(net.state_dict())
        other = TCM.from_state_dict(weights).eval()
        x = _image()
        assert torch.equal(net(x)["x_hat"], other(x)["x_hat"])

    def test_correction_sees_the_support_behind_the_attention(self) -> None:
        heads = small_net("tcm").latent_codec.y.channel_context.values()
        assert {head.emit_mean_support for head in heads} == {"post"}

    def test_correction_can_be_made_to_see_the_support_before_the_attention(self) -> None:
        net, x = small_net("tcm"), _image()
        published = net(x)["x_hat"]
        for head in net.latent_codec.y.channel_context.values():
            head.emit_mean_support = "pre"
        other = net(x)["x_hat"]
        assert not torch.allclose(other, published, atol=1e-3)
        coded = net.compress(x)
        decoded = net.decompress(coded["strings"], coded["shape"])["x_hat"]
        assert torch.equal(decoded, other.clamp(0, 1))

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"config": (2, 2, 2)}, "six"),
            ({"config": (2, 2, 2, 2, 2, -1)}, "negative"),
            ({"head_dim": (8, 8)}, "six"),
            ({"head_dim": (4, 8, 16, 16, 8, 5)}, "head_dim"),
            ({"head_dim": (4, 8, 16, 16, 8, 0)}, "head_dim"),
            ({"hyper_head_dim": 24}, "hyper_head_dim"),
            ({"num_slices": 5}, "num_slices"),
        ],
    )
    def test_impossible_options_are_refused(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            small_net("tcm", **options)


class TestCca:
    def test_registered_name(self) -> None:
        assert MODELS["cca"] is CCAModel

    def test_attributes_are_inferred(self) -> None:
        net = small_net("cca+cca", context_widths=(24, 16), encoder_layers=(0, 2, 1))
        other = CCAModel.from_state_dict(net.state_dict())
        names = ("M", "N", "slice_sizes", "em_hidden_channels", "em_num_layers", "cca_training")
        names += ("encoder_dims", "encoder_layers", "context_widths")
        assert {n: _plain(net, n) for n in names} == {n: _plain(other, n) for n in names}
        assert net.slice_sizes == [2, 6, 10, 14]
        assert CCAModel.from_state_dict(small_net("cca").state_dict()).cca_training is False

    def test_branch_can_be_dropped_by_dropping_its_weights(self) -> None:
        net = small_net("cca+cca")
        weights = {
            key: value
            for key, value in net.state_dict().items()
            if not key.startswith("aux_entropy_model.")
        }
        other = CCAModel.from_state_dict(weights).eval()
        x = _image()
        assert other(x)["aux_likelihoods"] is None
        assert torch.equal(net(x)["x_hat"], other(x)["x_hat"])

    def test_first_context_width_follows_the_transforms(self) -> None:
        assert small_net("cca").context_widths == (12, 128)

    def test_proportions_may_be_fractions(self) -> None:
        net = small_net("cca", slice_proportions=[k**1.7 for k in (1, 2, 3, 4)])
        assert net.slice_sizes == [1, 4, 9, 18]

    def test_slices_see_all_earlier_ones(self) -> None:
        codec = small_net("cca").latent_codec.y
        assert codec.max_support_slices == -1
        assert {head.emit_mean_support for head in codec.channel_context.values()} == {"post"}

    def test_forward_gives_the_latent(self) -> None:
        net = small_net("cca")
        x = _image()
        assert torch.equal(net(x)["y"], net.g_a(x))

    def test_two_stages_make_smaller_multiples(self) -> None:
        net = small_net("cca", encoder_dims=(8, 12), encoder_layers=(1, 1))
        assert net.downsampling_factor == 32
        x = _image(1, 32, 96)
        coded = net.compress(x)
        decoded = net.decompress(coded["strings"], coded["shape"])["x_hat"]
        assert torch.equal(decoded, net(x)["x_hat"].clamp(0, 1))

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"encoder_dims": (8, 12)}, "encoder_dims and encoder_layers"),
            ({"encoder_dims": (), "encoder_layers": ()}, "at least 1"),
            ({"slice_proportions": ()}, "slice_proportions"),
            ({"slice_proportions": (0, 0)}, "slice_proportions"),
            ({"slice_proportions": (1, 0, 1)}, "slice_proportions"),
            ({"em_num_layers": 0}, "num_layers"),
        ],
    )
    def test_impossible_options_are_refused(self, options: dict[str, Any], match: str) -> None:
        with pytest.raises(ValueError, match=match):
            small_net("cca", **options)

    def test_state_dict_without_slices_is_refused(self) -> None:
        with pytest.raises(RuntimeError, match="slices"):
            CCAModel.from_state_dict(small_net("wacnn").g_a.state_dict())


def _plain(net: nn.Module, name: str) -> Any:
    value = getattr(net, name)
    return list(value) if isinstance(value, list | tuple) else value
