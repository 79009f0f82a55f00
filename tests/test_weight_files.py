# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Whatever is wrong with a file of weights is one error in our words, at every entry."""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import pathlib
import random
import re
import struct
import urllib.request
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny_nets import tiny_net
from torch import nn

import compressai
from compressai._weight_files import plain_data, read_weights, shown
from compressai.checkpoint import load_checkpoint, read_metadata
from compressai.convert import convert_checkpoint
from compressai.models import MeanScaleHyperprior
from compressai.models._build import build_and_load, why_not
from compressai.training.state import load_training_state
from compressai.utils.update_model.__main__ import load_checkpoint as load_to_update
from compressai.zoo import weights as zoo_weights
from compressai.zoo.weights import fetch, install_weights, load_checked, load_weights

MEAN_SCALE = "compressai.models.google.MeanScaleHyperprior"
SIZES = {"N": 4, "M": 6}


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(0)
    return MeanScaleHyperprior(**SIZES).state_dict()


def torch_file(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safetensors_file(metadata, weights=None):
    if weights is None:
        header = json.dumps({"__metadata__": {"compressai": metadata}}).encode()
        return struct.pack("<Q", len(header)) + header
    return safetensors.torch.save(weights, metadata={"compressai": metadata})


def recipe(state, arguments, architecture=MEAN_SCALE):
    text = f'{{"format": 1, "architecture": "{architecture}", "arguments": {arguments}}}'
    return safetensors_file(text, state)


def bomb(method=zipfile.ZIP_DEFLATED, name="archive/data.pkl"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        if name != "archive/data.pkl":
            archive.writestr("archive/data.pkl", torch_pickle({}))
        archive.writestr(name, b"\x80\x02" + b"N" * 20_000_000 + b".")
        archive.writestr("archive/version", "3")
    return buffer.getvalue()


def torch_pickle(content):
    with zipfile.ZipFile(io.BytesIO(torch_file(content))) as archive:
        return archive.read("archive/data.pkl")


def script():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/constants.pkl", torch_pickle({}))
        archive.writestr("net/data.pkl", torch_pickle({}))
        archive.writestr("net/code/net.py", "op_version_set = 1")
    return buffer.getvalue()


class Bytes:
    def __reduce__(self):
        return (bytearray, (10**11,))


def recursive():
    content = {}
    content["state_dict"] = content
    return content


def nested():
    """Billions of values, if what is shared were written out."""
    value = [0] * 10
    for _ in range(20):
        value = [value] * 10
    return value


def described(state, metadata):
    return torch_file({"state_dict": state, "compressai": metadata})


HOSTILE = {
    "empty": lambda s: b"",
    "text": lambda s: b"no checkpoint, but a text" * 9,
    "deep metadata": lambda s: safetensors_file("[" * 3000),
    "long number": lambda s: safetensors_file('{"format": 1' + "0" * 5000 + "}"),
    "infinite": lambda s: recipe(s, '{"N": Infinity, "M": NaN}'),
    "overflowing": lambda s: recipe(s, '{"N": 1e999, "M": 12}'),
    "null": lambda s: recipe(s, '{"N": null, "M": 12}'),
    "bool": lambda s: recipe(s, '{"N": true, "M": true}'),
    "text as number": lambda s: recipe(s, '{"N": "4", "M": []}'),
    "negative": lambda s: recipe(s, '{"N": -4, "M": 6}'),
    "huge": lambda s: recipe(s, '{"N": 6000, "M": 6000}'),
    "very huge": lambda s: recipe(s, '{"N": 1000000, "M": 6}'),
    "more than huge": lambda s: recipe(s, '{"N": 1000000000000, "M": 6}'),
    "huge by another class": lambda s: recipe(
        s, '{"in_features": 100000, "out_features": 100000}', "torch.nn.Linear"
    ),
    "many groups": lambda s: recipe(
        s,
        json.dumps({"N": 4, "M": 3000, "groups": [1] * 3000}),
        "compressai.models.sensetime.Elic2022Official",
    ),
    "listed quality": lambda s: recipe(s, '{"quality": [1]}', "lite"),
    "odd class": lambda s: recipe(s, "{}", "compressai..\\u0000"),
    "true format": lambda s: described(s, {"format": True, "architecture": "", "arguments": {}}),
    "metadata with itself": lambda s: described(s, recursive()),
    "metadata without end": lambda s: described(s, {"format": 1, "x": nested()}),
    "number keys": lambda s: torch_file({1: torch.zeros(2)}),
    "mixed keys": lambda s: torch_file({**s, 7: torch.zeros(2)}),
    "number values": lambda s: torch_file({"g_a.0.weight": 5}),
    "mixed values": lambda s: torch_file({**s, "g_a.0.weight": "x"}),
    "scalars": lambda s: torch_file({"patch_embed.proj.weight": torch.tensor(1.0)}),
    "all scalars": lambda s: torch_file({key: torch.tensor(1.0) for key in s}),
    "recursive": lambda s: torch_file(recursive()),
    "a list": lambda s: torch_file([1, 2]),
    "no weights": lambda s: torch_file({"state_dict": {}}),
    "expanded": lambda s: torch_file({**s, "x": torch.zeros(1).expand(60000, 30000, 5, 5)}),
    "expanded table": lambda s: torch_file(
        {**s, "entropy_bottleneck._quantized_cdf": torch.zeros(1).int().expand(9000, 9000)}
    ),
    "wide layer": lambda s: torch_file(
        {**s, "g_a.0.weight": torch.zeros(4000, 3, 5, 5), "g_a.6.weight": torch.zeros(5000, 1)}
    ),
    "bytes": lambda s: torch_file({"x": Bytes()}),
    "module": lambda s: torch_file(nn.Linear(1, 1)),
    "protocol 4": lambda s: torch_file(s, pickle_protocol=4),
    "script": lambda s: script(),
    "bomb": lambda s: bomb(),
    "bomb, bzip2": lambda s: bomb(zipfile.ZIP_BZIP2),
    "bomb beside": lambda s: bomb(name="archive/data/0"),
    "bomb, not packed": lambda s: bomb(zipfile.ZIP_STORED),
    "archive with more": lambda s: torch_file(s) + b"more",
    "tar": lambda s: b"storages" + bytes(1000),
}

ENTRIES = {
    "load": compressai.load,
    "load as": lambda path: load_checkpoint(path, architecture="mbt2018-mean"),
    "read_metadata": read_metadata,
    "convert": convert_checkpoint,
    "convert as": lambda path: convert_checkpoint(path, "stf"),
    "update": lambda path: load_to_update(path, "mbt2018-mean"),
    "resume": lambda path: load_training_state(path, tiny_net("mbt2018-mean"), {}, RUN),
}
RUN = {"architecture": "mbt2018-mean", "arguments": SIZES, "extra": {}}
# Not wrong for what reads less than the whole.
MAY_PASS = {"read_metadata", "load as", "update"}


def refusal(read, path):
    try:
        read(path)
    except ValueError as error:
        return error
    return None


def assert_ours(error):
    text = str(error)
    assert type(error) in (ValueError, RuntimeError)
    assert text.isprintable()
    assert not re.search(r"weights_only|add_safe_globals|Traceback", text)
    assert len(text) < 2500


@pytest.mark.parametrize("case", HOSTILE)
def test_every_entry_tells_what_is_wrong(case, state, tmp_path):
    path = tmp_path / "m.pth"
    path.write_bytes(HOSTILE[case](state))
    for name, entry in ENTRIES.items():
        if name == "update" and case == "empty":
            continue  # an EOFError, which CompressAI has there
        error = refusal(entry, path)
        if error is None:
            assert name in MAY_PASS, (case, name)
            continue
        assert_ours(error)
        assert str(path) in str(error) or "architecture must" in str(error), name


@pytest.mark.parametrize("writer", ["zip", "legacy", "safetensors"])
def test_changed_bytes_are_one_error(writer, state, tmp_path):
    few = {key: state[key] for key in list(state)[:4]}
    content = (
        safetensors.torch.save(few)
        if writer == "safetensors"
        else torch_file({"state_dict": few}, _use_new_zipfile_serialization=writer == "zip")
    )
    source, path = random.Random(1), tmp_path / "m"
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(source.choice((1, 3))):
            place = source.randrange(len(changed))
            changed[place] = source.choice((0, 255, changed[place] ^ (1 << source.randrange(8))))
        path.write_bytes(changed[: source.choice((len(changed), source.randrange(len(changed)))) :])
        for name in ("load as", "read_metadata", "convert"):
            error = refusal(ENTRIES[name], path)
            assert error is None or assert_ours(error) is None


def test_special_files_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        compressai.load(tmp_path / "pipe")
    with pytest.raises(IsADirectoryError):
        compressai.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "nowhere")


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_scalars_of_numpy_come_as_numbers(new_format, state, tmp_path):
    scalars = {
        "loss": np.float32(1.5),
        "best": np.float64(-2.25),
        "epoch": np.int64(2**40),
        "level": np.uint8(3),
        "done": np.bool_(True),
        "name": np.str_("Zoë"),
        "complex": np.complex64(1 + 2j),
    }
    metadata = {"format": 1, "architecture": "mbt2018-mean"}
    metadata["arguments"] = {name: np.int64(size) for name, size in SIZES.items()}
    content = {"state_dict": state, **scalars, "compressai": metadata}
    path = tmp_path / "m"
    path.write_bytes(torch_file(content, _use_new_zipfile_serialization=new_format))
    read = read_weights(path).content
    for name, value in scalars.items():
        assert read[name] == value.item()
        assert type(read[name]) is type(value.item())
    assert SIZES["N"] == compressai.load(path).N


def test_scalars_of_other_kinds_of_numpy_are_refused(tmp_path):
    torch.save({"t": np.datetime64("2026-01-01")}, tmp_path / "m")
    with pytest.raises(ValueError, match="numpy type 'M8'"):
        read_weights(tmp_path / "m")


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_other_objects_are_told_with_their_place_and_a_cure(new_format, state, tmp_path):
    content = {
        "epoch": 1,
        "state_dict": state,
        "settings": {"seed": 1, "args": argparse.Namespace(a=1)},
        "folder": pathlib.PurePosixPath("x"),
    }
    path = tmp_path / "m"
    path.write_bytes(torch_file(content, _use_new_zipfile_serialization=new_format))
    message = (
        r"argparse\.Namespace under 'settings\.args', pathlib\.PurePosixPath under 'folder'\. "
        r"Extract the weights .* torch\.save\(net\.state_dict\(\), 'weights\.pth'\)"
    )
    with pytest.raises(ValueError, match=message) as caught:
        read_weights(path)
    assert_ours(caught.value)
    assert caught.value.__cause__ is None


def test_plain_data_of_training_is_read(state, tmp_path):
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    content = {
        "state_dict": OrderedDict(state),
        "optimizer": optimizer.state_dict(),
        "milestones": Counter([1, 2]),
        "set": {1, 2},
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
        "parameter": nn.Parameter(torch.ones(2)),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "random": random.getstate(),
    }
    torch.save(content, tmp_path / "m")
    read = read_weights(tmp_path / "m").content
    assert read["set"] == {1, 2}
    assert read["milestones"] == Counter([1, 2])
    assert read["random"] == random.getstate() or len(read["random"]) == 3
    assert torch.equal(read["parameter"], torch.ones(2))


def test_models_beyond_their_weights_are_refused_before_memory_is_used(state):
    made = []

    def make(weights):
        net = MeanScaleHyperprior(3000, 6)
        made.append(net)
        net.load_state_dict(weights)

    with pytest.raises(ValueError, match="much larger than its weights"):
        build_and_load(make, state)
    assert not made
    makers = {
        "eye": lambda _: torch.eye(50_000),
        "repeat": lambda _: torch.ones(1000).repeat(100_000, 1),
        "arange": lambda _: torch.arange(10**10),
        "broadcast": lambda _: torch.ones(10**5, 1) * torch.ones(10**5),
        "outer": lambda _: torch.outer(torch.ones(10**5), torch.ones(10**5)),
        "matmul": lambda _: torch.ones(10**5, 1) @ torch.ones(1, 10**5),
        "clone": lambda _: torch.ones(1).expand(10**10).clone(),
        "layers": lambda _: nn.Sequential(*(nn.ReLU() for _ in range(20_000))),
    }
    for maker in makers.values():
        with pytest.raises(ValueError, match="much larger"):
            build_and_load(maker, state)
    nn.Sequential(*(nn.ReLU() for _ in range(20_000)))  # the limits are gone


def test_messages_are_short_and_on_one_line(state):
    with pytest.raises(RuntimeError) as caught:
        MeanScaleHyperprior(**SIZES).load_state_dict({f"x.{i}": torch.zeros(1) for i in range(99)})
    text = why_not(caught.value)
    assert "in all)" in text
    assert len(text) < 1000
    assert text.isprintable()
    assert why_not(KeyError("\x1b[1m")) == "there is no '\\x1b[1m'"
    assert shown("\x1b" * 100).isprintable()
    assert len(shown("x" * 1000)) == 80
    assert shown(10**5000) == "a number of more than 64 bits"
    assert plain_data({"a": (1, [None, True, "x", 1.5])}) == {"a": [1, [None, True, "x", 1.5]]}


# -- the weights folder ---------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path))
    for name in ("COMPRESSAI_WEIGHTS_URL", "COMPRESSAI_ALLOW_HTTP"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def named(home, content, pattern="mbt2018-mean-3-{}.pth.tar"):
    digest = hashlib.sha256(content).hexdigest()
    path = home / pattern.format(digest[:8])
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", ["text", "empty", "bomb", "recursive", "bytes", "script"])
def test_weights_folder_raises_one_error(case, state, home):
    path = named(home, HOSTILE[case](state))
    try:
        zoo_weights.load_into(MeanScaleHyperprior.from_state_dict, load_weights(path.name))
    except RuntimeError as error:
        assert_ours(error)
    else:
        pytest.fail("it was loaded")


def test_weights_of_another_model_are_one_error(state, home, monkeypatch):
    path = named(home, torch_file({"g_a.0.weight": torch.zeros(4, 3, 5, 5)}))
    monkeypatch.setattr(
        zoo_weights,
        "published_weights",
        lambda: {"mbt2018-mean": {"mse": {"3": path.name}}},
    )
    with pytest.raises(RuntimeError, match="not of this model"):
        compressai.zoo.mbt2018_mean(3, pretrained=True)


def test_whole_hash_of_all_that_ships_is_listed():
    folder = Path(zoo_weights.__file__).with_name("shipped")
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    told = {name: digest for digest, name in (line.split() for line in lines)}
    # After a change of weights: sha256sum *.safetensors > SHA256SUMS
    assert told == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("*.safetensors")
    }


def test_whole_hash_beside_a_file_is_checked(state, home):
    content = safetensors_file("{}", state)
    path = install_weights(content, "cca", "mse", 1)
    note = path.with_name(f"{path.name}.sha256")
    digest = hashlib.sha256(content).hexdigest()
    assert note.read_text() == f"{digest}  {path.name}\n"
    note.write_text(f"{digest[:8]}{'0' * 56}  {path.name}\n")
    with pytest.raises(RuntimeError, match="not the file that it was"):
        load_checked(path)
    note.write_text("nothing")
    with pytest.raises(RuntimeError, match="does not tell"):
        load_checked(path)
    note.write_text(digest.upper())
    assert load_checked(path).keys() == state.keys()


def test_fetched_weights_get_their_whole_hash_noted(state, home, tmp_path_factory, monkeypatch):
    mirror = tmp_path_factory.mktemp("mirror")
    path = named(mirror, torch_file(state))
    monkeypatch.setenv("COMPRESSAI_WEIGHTS_URL", mirror.as_uri())
    assert load_weights(path.name, progress=False).keys() == state.keys()
    assert (home / f"{path.name}.sha256").exists()
    path.write_bytes(b"other")
    (home / path.name).unlink()
    with pytest.raises(RuntimeError, match="damaged or another file"):
        load_weights(path.name, progress=False)
    assert not (home / path.name).exists()


@pytest.mark.parametrize("url", ["http://mirror.example/w", "ftp://mirror.example", "data:,x"])
def test_unsafe_ways_to_fetch_need_to_be_asked_for(url, home, monkeypatch):
    monkeypatch.setenv("COMPRESSAI_WEIGHTS_URL", url)
    with pytest.raises(RuntimeError, match="COMPRESSAI_ALLOW_HTTP"):
        load_weights("mbt2018-mean-3-723404a8.pth.tar")


def test_redirections_must_not_leave_https(monkeypatch, home):
    request = urllib.request.Request("https://mirror.example/w")
    handler = zoo_weights._SafeRedirects()
    again = handler.redirect_request(request, None, 302, "", {}, "https://other.example/w")
    assert again.full_url == "https://other.example/w"
    with pytest.raises(RuntimeError, match="ALLOW_HTTP"):
        handler.redirect_request(request, None, 302, "", {}, "http://other.example/w")
    monkeypatch.setenv("COMPRESSAI_ALLOW_HTTP", "1")
    assert handler.redirect_request(request, None, 302, "", {}, "http://other.example/w")
    with pytest.raises(RuntimeError, match="ALLOW_HTTP"):
        fetch("ftp://mirror.example/w", home / "w")
