# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checkpoints describe themselves, survive every common wrapping, and cannot run code."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import sys

import pytest
import safetensors.torch
import torch
from torch import nn

import compressai
from compressai._files import atomic_write
from compressai.checkpoint import (
    METADATA_KEY,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    unwrap_model,
)
from compressai.models import (
    FactorizedPrior,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    get_scale_table,
)
from compressai.registry import MODELS

SIZES = {"N": 6, "M": 8}
RECIPES = {
    "bmshj2018-factorized": FactorizedPrior,
    "mbt2018-mean": MeanScaleHyperprior,
    "mbt2018": JointAutoregressiveHierarchicalPriors,
}


class OwnModel(FactorizedPrior):
    """What a user of the library writes."""

    def __init__(self, width, names=()):
        super().__init__(width, width)
        self.names = names


def make(name="mbt2018-mean", seed=0):
    torch.manual_seed(seed)
    sizes = {"N": 8, "M": 8} if name == "mbt2018" else SIZES
    return RECIPES[name](**sizes), sizes


def assert_same_tensors(one, other):
    one, other = one.state_dict(), other.state_dict()
    assert list(one) == list(other)
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


@pytest.fixture(scope="module")
def sample():
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def net():
    return make()[0]


@pytest.fixture
def trained(net):
    """Weights and tables as a finished model has them."""
    net.update()
    return net


@pytest.mark.parametrize("name", RECIPES)
def test_saved_model_comes_back_ready_to_code(name, tmp_path, sample):
    net, sizes = make(name)
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, net, architecture=name, arguments=sizes)
    loaded = compressai.load(path)
    assert type(loaded) is type(net)
    assert not loaded.training
    assert loaded.has_tables

    net.update()
    assert_same_tensors(net, loaded)
    coded = net.compress(sample)
    assert loaded.compress(sample)["strings"] == coded["strings"]
    decoded = loaded.decompress(coded["strings"], coded["shape"])["x_hat"]
    assert torch.equal(decoded, net.decompress(coded["strings"], coded["shape"])["x_hat"])


def test_saving_does_not_change_the_model(net, tmp_path):
    net.train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    save_checkpoint(tmp_path / "m", net, architecture="mbt2018-mean", arguments=SIZES)
    assert net.training
    assert not net.has_tables
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in before.items()
    }


def test_existing_tables_are_kept_as_they_are(net, tmp_path):
    net.update(scale_table=get_scale_table(levels=5))
    save_checkpoint(tmp_path / "m", net, architecture="mbt2018-mean", arguments=SIZES)
    loaded = load_checkpoint(tmp_path / "m")
    assert loaded.gaussian_conditional.scale_table.numel() == 5
    assert_same_tensors(net, loaded)


@pytest.mark.parametrize("arguments", [{"quality": 1}, {}], ids=["quality", "inferred"])
def test_zoo_name_rebuilds_the_zoo_model(tmp_path, arguments):
    net = compressai.zoo.bmshj2018_factorized(1)
    save_checkpoint(tmp_path / "m", net, architecture="bmshj2018-factorized", arguments=arguments)
    net.update()
    assert_same_tensors(net, load_checkpoint(tmp_path / "m"))


def test_class_path_rebuilds_a_model_of_the_user(tmp_path):
    path = f"{OwnModel.__module__}.OwnModel"
    sys.modules.setdefault(OwnModel.__module__, sys.modules[__name__])
    arguments = {"width": 6, "names": ["a", "b"]}
    net = OwnModel(**arguments)
    save_checkpoint(tmp_path / "m", net, architecture=path, arguments=arguments)
    loaded = load_checkpoint(tmp_path / "m")
    assert type(loaded) is OwnModel
    assert loaded.names == ["a", "b"]
    net.update()
    assert_same_tensors(net, loaded)


def test_metadata_says_what_the_file_is(net, tmp_path):
    save_checkpoint(
        tmp_path / "m",
        nn.DataParallel(net),
        architecture="mbt2018-mean",
        arguments=SIZES,
        lmbda=0.0067,
        metric="mse",
        extra={"psnr": {"kodak": [30.1, 31.2]}},
    )
    assert read_metadata(tmp_path / "m") == {
        "format": 1,
        "version": compressai.__version__,
        "architecture": "mbt2018-mean",
        "arguments": SIZES,
        "class": "compressai.models.google.MeanScaleHyperprior",
        "lmbda": 0.0067,
        "metric": "mse",
        "extra": {"psnr": {"kodak": [30.1, 31.2]}},
    }


def test_wrapped_models_are_saved_unwrapped(net, tmp_path):
    assert unwrap_model(nn.DataParallel(net)) is net
    assert unwrap_model(torch.compile(nn.DataParallel(net))) is net
    save_checkpoint(tmp_path / "m", nn.DataParallel(net), architecture="mbt2018-mean", arguments={})
    assert "g_a.0.weight" in safetensors.torch.load_file(tmp_path / "m")


def test_file_without_metadata_has_none(trained, tmp_path):
    safetensors.torch.save_file(trained.state_dict(), tmp_path / "a")
    torch.save(trained.state_dict(), tmp_path / "b")
    assert read_metadata(tmp_path / "a") is None
    assert read_metadata(tmp_path / "b") is None


@pytest.mark.parametrize("writer", ["safetensors", "torch"])
def test_bare_state_dict_needs_an_architecture(trained, tmp_path, writer):
    path = tmp_path / "weights"
    if writer == "torch":
        torch.save(trained.state_dict(), path)
    else:
        safetensors.torch.save_file(trained.state_dict(), path)
    with pytest.raises(ValueError, match="architecture="):
        load_checkpoint(path)
    assert_same_tensors(trained, load_checkpoint(path, architecture="mbt2018-mean"))
    assert_same_tensors(
        trained, load_checkpoint(path, architecture="mbt2018-mean", arguments=SIZES)
    )


WRAPPINGS = {
    "state_dict": lambda sd: {"epoch": 3, "state_dict": sd, "optimizer": {"state": {}}},
    "network": lambda sd: {"network": sd},
    "model_state_dict": lambda sd: {"model_state_dict": sd},
    "DataParallel": lambda sd: {f"module.{key}": value for key, value in sd.items()},
    "DataParallel, compiled, in a checkpoint": lambda sd: {
        "state_dict": {f"_orig_mod.module.{key}": value for key, value in sd.items()}
    },
    "wrapped inside": lambda sd: {
        key.replace("g_a.", "g_a.module."): value for key, value in sd.items()
    },
}


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("arguments", [None, SIZES], ids=["inferred", "given"])
def test_wrapped_weights_are_found(trained, tmp_path, wrap, arguments):
    torch.save(wrap(trained.state_dict()), tmp_path / "c.pth.tar")
    loaded = load_checkpoint(
        tmp_path / "c.pth.tar", architecture="mbt2018-mean", arguments=arguments
    )
    assert_same_tensors(trained, loaded)


@pytest.mark.parametrize("name", RECIPES)
def test_missing_tables_are_built(name, tmp_path):
    net, _ = make(name)
    tables = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")
    weights = {k: v for k, v in net.state_dict().items() if not k.endswith(tables)}
    torch.save(weights, tmp_path / "w")
    loaded = load_checkpoint(tmp_path / "w", architecture=name)
    net.update()
    assert_same_tensors(net, loaded)


def test_training_checkpoint_with_a_description_needs_no_architecture(trained, tmp_path):
    description = {"format": 1, "architecture": "mbt2018-mean", "arguments": SIZES}
    torch.save(
        {"epoch": 0, "state_dict": trained.state_dict(), METADATA_KEY: description},
        tmp_path / "checkpoint.pth.tar",
    )
    assert_same_tensors(trained, load_checkpoint(tmp_path / "checkpoint.pth.tar"))


def test_checkpoint_with_a_milestone_counter_is_read(trained, tmp_path):
    schedule = {"milestones": collections.Counter([40, 45]), "last_epoch": 1}
    torch.save({"state_dict": trained.state_dict(), "lr_scheduler": schedule}, tmp_path / "c")
    assert_same_tensors(trained, load_checkpoint(tmp_path / "c", architecture="mbt2018-mean"))


def test_given_architecture_wins_over_the_file(net, tmp_path):
    save_checkpoint(tmp_path / "m", net, architecture="mbt2018-mean", arguments=SIZES)
    with pytest.raises(ValueError, match="does not fit"):
        load_checkpoint(tmp_path / "m", architecture="mbt2018-mean", arguments={"N": 4, "M": 4})


class Payload:
    def __reduce__(self):
        return (os.mkdir, (Payload.target,))


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    Payload.target = str(tmp_path / "executed")
    with open(tmp_path / "evil.pth.tar", "wb") as file:
        pickle.dump({"state_dict": Payload()}, file, protocol=2)
    torch.save({"state_dict": Payload()}, tmp_path / "evil.zip")
    for name in ("evil.pth.tar", "evil.zip"):
        with pytest.raises(ValueError, match="safely"):
            load_checkpoint(tmp_path / name, architecture="mbt2018-mean")
    assert not (tmp_path / "executed").exists()


def test_other_objects_in_a_checkpoint_are_refused(trained, tmp_path):
    torch.save(
        {"state_dict": trained.state_dict(), "args": argparse.Namespace(a=1)}, tmp_path / "c"
    )
    with pytest.raises(ValueError, match="Namespace"):
        load_checkpoint(tmp_path / "c", architecture="mbt2018-mean")


def write_with_metadata(path, metadata):
    safetensors.torch.save_file(
        {"x": torch.zeros(1)}, path, metadata={METADATA_KEY: json.dumps(metadata)}
    )


@pytest.mark.parametrize(
    "architecture", ["this.Zen", "os.mkdir", "no-such-model", "", "compressai.no.X"]
)
def test_file_cannot_import_or_call_what_it_likes(tmp_path, architecture):
    sys.modules.pop("this", None)
    write_with_metadata(
        tmp_path / "m",
        {"format": 1, "architecture": architecture, "arguments": {"path": str(tmp_path / "x")}},
    )
    with pytest.raises(ValueError, match="architecture must be one of"):
        load_checkpoint(tmp_path / "m")
    assert "this" not in sys.modules
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([], "format number"),
        ({"architecture": "mbt2018-mean"}, "format number"),
        ({"format": 99, "version": "9.9"}, "9.9"),
        ({"format": 1, "arguments": {}}, "without architecture"),
        ({"format": 1, "architecture": "mbt2018-mean"}, "without arguments"),
        ({"format": 1, "architecture": "mbt2018-mean", "arguments": {"K": 1}}, "arguments must"),
        (
            {
                "format": 1,
                "architecture": "mbt2018-mean",
                "arguments": {"quality": 1, "pretrained": True},
            },
            "other weights",
        ),
    ],
)
def test_bad_metadata_is_a_value_error(tmp_path, metadata, message):
    write_with_metadata(tmp_path / "m", metadata)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / "m")


def test_metadata_that_is_no_json_is_a_value_error(tmp_path):
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "m", metadata={METADATA_KEY: "{"})
    with pytest.raises(ValueError, match="no JSON"):
        read_metadata(tmp_path / "m")


def test_weights_of_another_model_are_a_value_error(trained, tmp_path):
    torch.save(trained.state_dict(), tmp_path / "w")
    with pytest.raises(ValueError, match="Cheng2020Anchor"):
        load_checkpoint(tmp_path / "w", architecture="cheng2020-anchor")
    with pytest.raises(ValueError, match="does not fit"):
        load_checkpoint(tmp_path / "w", architecture="mbt2018-mean", arguments={"N": 5, "M": 5})


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x02.", b"PK\x03\x04"])
def test_other_files_are_a_value_error(tmp_path, content):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match="no checkpoint"):
        load_checkpoint(tmp_path / "f", architecture="mbt2018-mean")


def test_missing_file_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("writer", ["ours", "torch"])
def test_every_truncation_is_a_value_error(trained, tmp_path, writer):
    path = tmp_path / "m"
    if writer == "ours":
        save_checkpoint(path, trained, architecture="mbt2018-mean", arguments=SIZES)
    else:
        torch.save(trained.state_dict(), path)
    content = path.read_bytes()
    for length in (1, 7, 8, 9, 200, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError):
            load_checkpoint(path, architecture="mbt2018-mean")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "mbt2018-men"}, "architecture must be one of"),
        ({"arguments": {"K": 3}}, "arguments must be those"),
        ({"extra": {"loss": float("nan")}}, "extra must be JSON"),
        ({"extra": {"net": torch.zeros(1)}}, "extra must be JSON"),
        ({"lmbda": torch.zeros(1)}, "lmbda must be JSON"),
    ],
)
def test_checkpoint_that_could_not_be_loaded_is_not_written(net, tmp_path, change, message):
    arguments = {"architecture": "mbt2018-mean", "arguments": SIZES, **change}
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / "m", net, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_arguments_without_architecture_are_refused(tmp_path):
    with pytest.raises(ValueError, match="need an architecture"):
        load_checkpoint(tmp_path / "m", arguments={"N": 1})


def test_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "m"
    path.write_text("old")

    def break_off():
        with atomic_write(path) as unfinished:
            unfinished.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with atomic_write(path) as unfinished:
        unfinished.write_text("new")
    assert path.read_text() == "new"


def test_registered_model_of_the_user_is_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setitem(MODELS, "test-own", OwnModel)
    save_checkpoint(tmp_path / "m", OwnModel(6), architecture="test-own", arguments={"width": 6})
    assert type(load_checkpoint(tmp_path / "m")) is OwnModel
