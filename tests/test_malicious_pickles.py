# SPDX-License-Identifier: BSD-3-Clause-Clear
"""No way in which weights come into this library runs code that is in a file."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import os
import pickle
import runpy
import sys
from pathlib import Path

import pytest
import torch
from program import alone_in, blurred_noise, program
from tiny_nets import tiny_net

import compressai
from compressai._weight_files import read_weights
from compressai.checkpoint import load_checkpoint, read_metadata
from compressai.convert import convert_checkpoint
from compressai.training.state import load_training_state
from compressai.utils.eval_model.__main__ import load_checkpoint as load_to_evaluate
from compressai.utils.update_model.__main__ import load_checkpoint as load_to_update
from compressai.utils.video.eval_model.__main__ import load_checkpoint as load_video
from compressai.zoo.weights import load_checked, load_weights

ROOT = Path(__file__).parents[1]
SHIPPED = [
    path
    for folder in ("compressai", "examples", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
]


UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


class Payload:
    def __reduce__(self):
        return (os.mkdir, (str(Path.cwd() / "executed"),))


@pytest.fixture(params=["pickle", "zip"])
def evil(request, tmp_path, monkeypatch):
    """A checkpoint that makes a folder when it is unpickled."""
    with alone_in(tmp_path, monkeypatch):
        path = tmp_path / "evil.pth.tar"
        content = {"state_dict": Payload(), "epoch": 1, "loss": 1.0}
        if request.param == "pickle":
            path.write_bytes(pickle.dumps(content, protocol=2))
        else:
            torch.save(content, path)
        yield path
        assert not (tmp_path / "executed").exists()


def test_the_payload_would_run(evil, tmp_path):
    with contextlib.suppress(Exception):  # such as for what the payload gives
        torch.load(evil, weights_only=False)
    (tmp_path / "executed").rmdir()  # which fails unless it is there


def load_from_folder(path):
    name = f"mbt2018-mean-1-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth.tar"
    folder = Path(os.environ["COMPRESSAI_HOME"])
    folder.mkdir()
    (folder / name).write_bytes(path.read_bytes())
    return load_weights(name)


def load_from_mirror(path):
    name = f"mbt2018-mean-1-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth.tar"
    path.with_name(name).write_bytes(path.read_bytes())
    os.environ["COMPRESSAI_WEIGHTS_URL"] = path.parent.as_uri()
    try:
        return load_weights(name, progress=False)
    finally:
        del os.environ["COMPRESSAI_WEIGHTS_URL"]


def load_named(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return load_checked(path.rename(path.with_name(f"evil-{digest[:8]}.pth.tar")))


LOADERS = {
    "load": lambda path: compressai.load(path, architecture="mbt2018-mean"),
    "load_checkpoint": lambda path: load_checkpoint(path, architecture="tcm"),
    "read_metadata": read_metadata,
    "read_weights": read_weights,
    "convert": convert_checkpoint,
    "convert as": lambda path: convert_checkpoint(path, source="tcm"),
    "zoo file": load_named,
    "zoo folder": load_from_folder,
    "zoo mirror": load_from_mirror,
    "training": lambda path: load_training_state(path, tiny_net("mbt2018-mean"), {}, {}),
    "eval_model": lambda path: load_to_evaluate("mbt2018-mean", False, path),
    "update_model": lambda path: load_to_update(path, "scale-hyperprior"),
    "video eval_model": lambda path: load_video("ssf2020", False, path),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_loaders_refuse_code_and_do_not_run_it(evil, loader):
    error = RuntimeError if loader.startswith("zoo") else ValueError
    with pytest.raises(error, match=r"safely.*mkdir.*state_dict") as caught:
        LOADERS[loader](evil)
    assert "weights_only" not in str(caught.value)
    assert str(caught.value).isprintable()


COMMANDS = {
    "encode": "encode photo.png -o out.cai --model mbt2018-mean --checkpoint {}",
    "decode": "decode photo.cai -o decoded.png --checkpoint {}",
    "eval": "eval photo.png --model mbt2018-mean --checkpoint {}",
    "convert": "convert {} out.safetensors",
    "export": "export out --model mbt2018-mean --checkpoint {}",
    "bench": "bench photo.png --model mbt2018-mean --checkpoint {}",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_refuse_code_and_do_not_run_it(evil, capsys, command):
    blurred_noise().save("photo.png")
    coded = Path(__file__).parent / "corpus" / "v2-mean-la.cai"
    Path("photo.cai").write_bytes(coded.read_bytes())
    status, _, err = program(capsys)(*COMMANDS[command].format(evil).split())
    assert status != 0
    assert "safely" in " ".join(err.split()), err


@pytest.mark.parametrize(
    "script", ["codec.py", "convert_tcm_checkpoint.py", "convert_stf_checkpoint.py"]
)
def test_examples_refuse_code_and_do_not_run_it(evil, monkeypatch, capsys, script):
    blurred_noise().save("photo.png")
    arguments = {
        "codec.py": ["encode", "photo.png", "--model", "mbt2018-mean", "--checkpoint", evil]
    }.get(script, ["--src", evil, "--dst", "out.safetensors"])
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
    assert stop.value.code not in (None, 0)
    told = " ".join(f"{stop.value.code} {capsys.readouterr().err}".split())
    assert "safely" in told


def test_nothing_that_ships_unpickles_without_weights_only():
    calls = 0
    for path in SHIPPED:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not {a.name.partition(".")[0] for a in node.names} & UNSAFE, path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in UNSAFE, path
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name in ("torch.load", "torch.hub.load_state_dict_from_url"):
                calls += 1
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert keywords["weights_only"] == "True", path
            assert not {k.arg for k in node.keywords} & {"allow_pickle"}, path
    assert calls >= 1
