# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Promises that every registered base model keeps, on tiny configurations."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn as nn

from compressai import models
from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs import (
    EntropyBottleneckLatentCodec,
    GaussianConditionalLatentCodec,
    HyperpriorLatentCodec,
)
from compressai.models import CompressionModel, get_scale_table
from compressai.models._state_dict import clean_state_dict
from compressai.models.utils import (
    _update_registered_buffer,
    find_named_buffer,
    find_named_module,
    remap_old_keys,
    update_registered_buffers,
)
from compressai.registry import MODELS

TINY: dict[str, dict[str, Any]] = {
    "bmshj2018-factorized": {"N": 8, "M": 12},
    "bmshj2018-factorized-relu": {"N": 8, "M": 12},
    "bmshj2018-hyperprior": {"N": 8, "M": 12},
    "mbt2018-mean": {"N": 8, "M": 12},
    "mbt2018": {"N": 8, "M": 12},
    "cheng2020-anchor": {"N": 8},
    "cheng2020-attn": {"N": 8},
    "cheng2020-anchor-checkerboard": {"N": 8},
    "elic2022-official": {"N": 8, "M": 20, "groups": [2, 2, 4, 12]},
    "elic2022-chandelier": {"N": 8, "M": 20, "groups": [2, 2, 4, 12]},
    "bmshj2018-hyperprior-vbr": {"N": 8, "M": 12},
    "mbt2018-mean-vbr": {"N": 8, "M": 12},
    "mbt2018-vbr": {"N": 8, "M": 12},
}
AUTOREGRESSIVE = {"mbt2018", "cheng2020-anchor", "cheng2020-attn", "mbt2018-vbr"}
STATE_DICTS = json.loads((Path(__file__).parent / "tables" / "state_dicts.json").read_text())


@pytest.fixture(params=TINY, scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def build(name: str) -> CompressionModel:
    torch.manual_seed(0)
    return MODELS[name](**TINY[name])


@pytest.fixture(scope="module")
def net(name: str) -> CompressionModel:
    net = build(name).eval()
    # Fresh networks give latents near zero; spread them, so that symbols are worth coding.
    with torch.no_grad():
        for layer in net.g_a.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 2
    net.update()
    return net


def sample(batch: int = 1, height: int = 64, width: int = 128) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, height, width, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 128, 64), (2, 64, 192)])
def test_decoding_gives_the_image_of_the_evaluation(
    net: CompressionModel, name: str, batch: int, height: int, width: int
) -> None:
    x = sample(batch, height, width)
    coded = net.compress(x)
    assert all(isinstance(item, bytes) for step in coded["strings"] for item in step)
    assert all(len(step) == batch for step in coded["strings"])
    x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert x_hat.shape == x.shape
    assert x_hat.min() >= 0
    assert x_hat.max() <= 1
    # There, forward rounds without means, as the paper's program, or sums in another order.
    if name not in AUTOREGRESSIVE:
        assert torch.equal(x_hat, net(x)["x_hat"].clamp(0, 1))


@torch.no_grad()
def test_items_of_a_batch_are_coded_alone(net: CompressionModel) -> None:
    x = sample(2)
    together = net.compress(x)["strings"]
    for i in range(2):
        alone = net.compress(x[i : i + 1])
        # Convolutions may round differently in a batch; tiny latents keep clear of the edges.
        assert [step[i] for step in together] == [step[0] for step in alone["strings"]]


@torch.no_grad()
def test_estimated_rate_is_near_the_coded_rate(net: CompressionModel) -> None:
    x = sample(1, 192, 256)
    bits = sum(float(-p.log2().sum()) for p in net(x)["likelihoods"].values())
    coded = net.compress(x)["strings"]
    overhead = 64 * len(coded)  # up to eight bytes a string that hold the coder's state
    assert 8 * sum(len(step[0]) for step in coded) <= 1.05 * bits + overhead


def test_forward_gives_likelihoods_and_gradients_for_all(name: str) -> None:
    net = build(name).train()
    out = net(sample())
    assert out["x_hat"].shape == (1, 3, 64, 128)
    assert set(out["likelihoods"]) == ({"y"} if "factorized" in name else {"y", "z"})
    for p in out["likelihoods"].values():
        assert (p > 0).all()
        assert (p <= 1).all()
    rate = sum(-p.log().sum() for p in out["likelihoods"].values())
    (rate + out["x_hat"].square().sum() + net.aux_loss()).backward()
    unused = [key for key, p in net.named_parameters() if p.grad is None]
    assert unused == (["Gain"] if name.endswith("-vbr") else [])  # its levels are fixed


@torch.no_grad()
def test_sizes_are_inferred_from_weights(net: CompressionModel, name: str) -> None:
    state = net.state_dict()
    before = {key: value.clone() for key, value in state.items()}
    other = type(net).from_state_dict(state).eval()
    x = sample()
    assert other.compress(x)["strings"] == net.compress(x)["strings"]
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], before[key]) for key in before)


WRAPPINGS = {
    "data-parallel": lambda sd: {f"module.{k}": v for k, v in sd.items()},
    "compiled": lambda sd: {f"_orig_mod.{k}": v for k, v in sd.items()},
    "both": lambda sd: {f"module._orig_mod.{k}": v for k, v in sd.items()},
    "part-wrapped": lambda sd: {k.replace("g_a.", "g_a.module.", 1): v for k, v in sd.items()},
    "checkpoint": lambda sd: {"epoch": 3, "state_dict": sd, "loss": torch.tensor(1.0)},
    "network": lambda sd: {"network": sd},
    "nested": lambda sd: {"model_state_dict": {"state_dict": {f"module.{k}": sd[k] for k in sd}}},
}


@torch.no_grad()
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_weights_load_however_they_are_wrapped(net: CompressionModel, wrapping: str) -> None:
    wrapped = WRAPPINGS[wrapping](net.state_dict())
    x = sample()
    want = net.compress(x)["strings"]
    fresh = copy.deepcopy(net)
    nn.init.zeros_(next(fresh.g_a.parameters()))
    fresh.load_state_dict(wrapped)
    assert fresh.compress(x)["strings"] == want
    assert type(net).from_state_dict(wrapped).eval().compress(x)["strings"] == want


PREFIXED = {
    "lightning": lambda sd: {"state_dict": {f"net.{k}": v for k, v in sd.items()}, "epoch": 3},
    "lightning, deep": lambda sd: {f"model._orig_mod.codec.{k}": v for k, v in sd.items()},
    "averaged": lambda sd: {
        "n_averaged": torch.tensor(7),
        **{f"module.{k}": v for k, v in sd.items()},
    },
    "averaged, lightning, compiled": lambda sd: {
        "net._orig_mod.n_averaged": torch.tensor(7),
        **{f"net._orig_mod.module.module.{k}": v for k, v in sd.items()},
    },
    "sharded": lambda sd: {f"_fsdp_wrapped_module.{k}": v for k, v in sd.items()},
    "own entry": lambda sd: {"ema": sd, "optimizer": {"state": {0: {"step": torch.tensor(1)}}}},
}


@pytest.mark.parametrize("wrapping", PREFIXED)
def test_prefixes_and_averages_are_found(net: CompressionModel, wrapping: str) -> None:
    state = net.state_dict()
    wrapped = PREFIXED[wrapping](state)
    fresh = copy.deepcopy(net)
    nn.init.zeros_(next(fresh.g_a.parameters()))
    fresh.load_state_dict(wrapped)
    for loaded in (fresh.state_dict(), type(net).from_state_dict(wrapped).state_dict()):
        assert list(loaded) == list(state)
        assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_parts_of_a_model_keep_their_names(name: str) -> None:
    net = build(name)
    part = {key: value + 1 for key, value in net.state_dict().items() if key.startswith("g_a.")}
    before = next(net.g_a.parameters()).clone()
    found = net.load_state_dict(part, strict=False)
    assert not found.unexpected_keys
    assert torch.equal(next(net.g_a.parameters()), before + 1)
    with pytest.raises(RuntimeError, match=r"Missing key|size mismatch"):
        net.load_state_dict({f"net.{key}": value for key, value in part.items()})


def test_a_count_is_left_out_only_beside_an_averaged_model() -> None:
    value = torch.zeros(1)
    assert set(clean_state_dict({"a.n_averaged": value, "b.module.c": value, "d": value})) == {
        *("a.n_averaged", "b.c", "d")
    }
    assert set(clean_state_dict({"b.n_averaged": value, "b.module.c": value, "d": value})) == {
        *("b.c", "d")
    }
    own = {"n_averaged": value, "module.a": value}
    assert set(clean_state_dict(own, known={"n_averaged", "a"})) == {"n_averaged", "a"}


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ({1: torch.zeros(1)}, ValueError),
        ({"module.a": torch.zeros(1), "a": torch.zeros(1)}, ValueError),
        ([torch.zeros(1)], TypeError),
    ],
)
def test_what_is_no_state_dict_is_told(weights: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"strings|same name|expected a state dict"):
        build("bmshj2018-factorized").load_state_dict(weights)


def test_checkpoint_that_holds_itself_is_refused() -> None:
    checkpoint: dict[str, Any] = {}
    checkpoint["state_dict"] = {"model": checkpoint}
    with pytest.raises(ValueError, match="holds itself"):
        clean_state_dict(checkpoint)


@pytest.mark.parametrize(
    "name", ["cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier"]
)
def test_weights_of_either_layout_of_the_hyperprior_load(name: str) -> None:
    net = build(name)
    net.update()
    state = net.state_dict()
    newer = {
        key.replace("latent_codec.hyper.h_", "latent_codec.h_").replace(
            "latent_codec.hyper.entropy_bottleneck", "latent_codec.z.entropy_bottleneck"
        ): value
        for key, value in state.items()
    }
    assert newer.keys() != state.keys()
    for weights in (newer, {f"net.{key}": value for key, value in newer.items()}):
        loaded = type(net).from_state_dict(weights).state_dict()
        assert list(loaded) == list(state)
        assert all(torch.equal(loaded[key], value) for key, value in state.items())


def test_older_layout_of_the_hyperprior_loads_into_the_newer() -> None:
    y = GaussianConditionalLatentCodec()
    z = EntropyBottleneckLatentCodec(EntropyBottleneck(4))
    net = HyperpriorLatentCodec({"y": y, "z": z}, h_a=nn.Conv2d(4, 4, 1), h_s=nn.Conv2d(4, 8, 1))
    state = {key: value.clone() for key, value in net.state_dict().items()}
    older = {
        key.replace("h_", "hyper.h_", 1).replace("z.", "hyper."): value
        for key, value in state.items()
    }
    assert older.keys() != state.keys()
    for parameter in net.parameters():
        nn.init.zeros_(parameter)
    net.load_state_dict(older)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())


@torch.no_grad()
def test_tables_may_be_missing_or_of_another_size(net: CompressionModel, name: str) -> None:
    x = sample()
    want = net.compress(x)["strings"]
    tables = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
    bare = {k: v for k, v in net.state_dict().items() if not k.endswith(tables)}
    other = copy.deepcopy(net)
    other.load_state_dict(bare)
    assert not other.has_tables
    assert other.compress(x)["strings"] == want  # builds them

    small = build(name)
    small.update(scale_table=[0.2, 1.0, 30.0])
    small.load_state_dict(net.state_dict())
    assert small.eval().compress(x)["strings"] == want


def test_coding_needs_no_preparation(name: str) -> None:
    net = build(name).train()
    x = sample().requires_grad_()
    coded = net.compress(x)
    assert net.training
    assert all(module.training for module in net.modules())
    x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert not x_hat.requires_grad


def test_solved_quantiles_replace_auxiliary_training(name: str) -> None:
    net = build(name)
    assert net.aux_loss() > 100
    assert net.update(force=True, solve_quantiles=True)
    assert net.aux_loss() < 1
    assert not net.update()


def test_models_can_be_copied_and_pickled(net: CompressionModel) -> None:
    x = sample()
    want = net.compress(x)["strings"]
    assert copy.deepcopy(net).compress(x)["strings"] == want
    assert pickle.loads(pickle.dumps(net)).compress(x)["strings"] == want


def test_sizes_that_cannot_work_are_refused(net: CompressionModel, name: str) -> None:
    x = sample(1, 72, 64)
    if "factorized" in name:
        assert net.compress(x)["shape"] == (5, 4)
        return
    for call in (net.compress, net):
        with pytest.raises(ValueError, match=r"multiples of 64.*compute_padding"):
            call(x)


def test_diverged_networks_are_refused(net: CompressionModel) -> None:
    with pytest.raises(ValueError, match=r"finite|int32"):
        net.compress(torch.full((1, 3, 64, 64), float("nan")))


def test_damaged_strings_are_refused(net: CompressionModel) -> None:
    coded = net.compress(sample())
    for i, step in enumerate(coded["strings"]):
        damaged = [list(s) for s in coded["strings"]]
        damaged[i][0] = step[0][: len(step[0]) // 8 * 4]
        with pytest.raises(ValueError):
            net.decompress(damaged, coded["shape"])


def test_weights_of_another_model_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="not of"):
        MODELS[name].from_state_dict({"conv.weight": torch.zeros(3, 3)})


# -- tables of the specification ------------------------------------------------------------------


@pytest.mark.parametrize(
    "entry", [key for key, e in STATE_DICTS.items() if hasattr(models, e["class"])]
)
def test_state_dicts_have_the_names_and_shapes_of_the_reference(entry: str) -> None:
    want = STATE_DICTS[entry]
    # The reference builds the GDN model under the name of the ReLU model; we build the ReLU one.
    with torch.device("meta"):
        net = getattr(models, want["class"])(**want["constructor"])
    got = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")]
        for key, value in net.state_dict().items()
    ]
    assert got == [
        [key, shape, dtype.removeprefix("torch.")] for key, shape, dtype, *_ in want["entries"]
    ]
    assert sum(p.numel() for p in net.parameters()) == want["n_parameters"]


# -- base class and helpers -----------------------------------------------------------------------


def test_base_class_finds_entropy_models_at_any_depth() -> None:
    class Nested(CompressionModel):
        def __init__(self) -> None:
            super().__init__()
            self.eb = EntropyBottleneck(2)
            self.eb2 = nn.ModuleDict({"inner": EntropyBottleneck(3)})

    net, other = Nested(), Nested()
    assert net.update()
    other.load_state_dict(net.state_dict())
    assert other.has_tables
    torch.testing.assert_close(net.aux_loss(), net.eb.loss() + net.eb2["inner"].loss())
    assert CompressionModel().aux_loss() == 0
    with pytest.raises(NotImplementedError):
        net(torch.rand(1))


def test_deprecated_arguments_warn() -> None:
    with pytest.warns(DeprecationWarning, match="entropy_bottleneck_channels"):
        net = CompressionModel(entropy_bottleneck_channels=3)
    assert len(list(net.parameters())) == 15
    with pytest.warns(DeprecationWarning, match="init_weights"):
        CompressionModel(init_weights=True)
    with pytest.raises(TypeError):
        CompressionModel(unknown=1)


def test_deprecated_module_warns() -> None:
    import importlib

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        priors = importlib.reload(importlib.import_module("compressai.models.priors"))
    assert any(issubclass(w.category, DeprecationWarning) for w in caught)
    assert priors.ScaleHyperprior is models.ScaleHyperprior


def test_scale_table_spans_its_range() -> None:
    table = get_scale_table()
    assert (len(table), float(table[0]), float(table[-1])) == (64, pytest.approx(0.11), 256)
    assert float(table[0]) == float(torch.tensor(0.11))
    assert torch.equal(get_scale_table(0.5, 2, 3), torch.tensor([0.5, 1.0, 2.0]))
    assert torch.equal(get_scale_table(0.5, 2, 1), torch.tensor([0.5]))
    ratios = table[1:] / table[:-1]
    torch.testing.assert_close(ratios, ratios[:1].expand(63))


def test_named_modules_and_buffers_are_found() -> None:
    net = build("bmshj2018-factorized")
    assert find_named_module(net, "g_a.0") is net.g_a[0]
    assert find_named_module(net, "nothing") is None
    assert find_named_buffer(net, "entropy_bottleneck.target") is net.entropy_bottleneck.target
    assert find_named_buffer(net, "nothing") is None


def test_buffers_take_the_size_of_a_state_dict() -> None:
    net, module = build("bmshj2018-factorized"), EntropyBottleneck(5)
    net.update()
    state = net.state_dict()
    update_registered_buffers(module, "entropy_bottleneck", ["_offset"], state)
    assert module._offset.shape == (12,)
    with pytest.raises(ValueError, match="no buffer"):
        update_registered_buffers(module, "entropy_bottleneck", ["nothing"], state)
    key = "entropy_bottleneck._offset"
    for policy in ("resize", "resize_if_empty"):
        with pytest.raises(RuntimeError):
            _update_registered_buffer(nn.Module(), "_offset", key, state, policy)
    with pytest.raises(RuntimeError):
        _update_registered_buffer(module, "_offset", key, state, "register")
    with pytest.raises(ValueError, match="policy"):
        _update_registered_buffer(module, "_offset", key, state, "guess")
    other = build("bmshj2018-factorized")
    names = ["entropy_bottleneck._offset", "entropy_bottleneck._quantized_cdf"]
    update_registered_buffers(other, "", names, state)
    assert other.entropy_bottleneck._offset.shape == (12,)
    other.outer = nn.Sequential(EntropyBottleneck(5))
    wrapped = {
        f"net.outer.0.{key}": value for key, value in net.entropy_bottleneck.state_dict().items()
    }
    update_registered_buffers(other, "net", ["outer.0._cdf_length"], wrapped)
    assert other.outer[0]._cdf_length.shape == (12,)
    update_registered_buffers(
        other, "net", ["outer.new"], {"net.outer.new": torch.ones(3)}, "register"
    )
    assert other.outer.new.tolist() == [0, 0, 0]
    with pytest.raises(RuntimeError, match="no module"):
        update_registered_buffers(other, "net", ["no.x"], {"net.no.x": torch.ones(3)}, "register")
    fresh = nn.Module()
    _update_registered_buffer(fresh, "_offset", key, state, "register")
    assert fresh._offset.dtype == torch.int32


def test_old_names_are_mapped_for_one_module_only() -> None:
    got = remap_old_keys("eb", {"eb._matrix0": 0, "eb._bias12": 1, "eb2._matrix0": 2, "eb.x": 3})
    assert got == {"eb.matrices.0": 0, "eb.biases.12": 1, "eb2._matrix0": 2, "eb.x": 3}


def test_every_base_model_is_registered_and_documented() -> None:
    assert set(TINY) <= set(MODELS)
    for model in {MODELS[name] for name in TINY}:
        assert "Source:" in inspect.getdoc(model) or issubclass(model, models.FactorizedPrior)


def test_what_is_decoded_can_take_part_in_training(net: CompressionModel) -> None:
    coded = net.compress(torch.rand(1, 3, 64, 64))
    x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert not x_hat.is_inference()
    weight = torch.ones(1, requires_grad=True)
    (weight * x_hat).square().sum().backward()
    assert weight.grad is not None


def test_tables_built_while_coding_can_be_replaced(name: str) -> None:
    net = build(name).eval()
    net.compress(torch.rand(1, 3, 64, 64))
    assert not any(buffer.is_inference() for buffer in net.buffers())
    net.load_state_dict(net.state_dict())
