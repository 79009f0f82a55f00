# SPDX-License-Identifier: BSD-3-Clause-Clear
"""No command replaces a file without ``--overwrite``, whoever writes it and however late."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import MODEL, save_crops
from tiny_nets import SIZES, tiny_net

from compressai import _files
from compressai.checkpoint import save_checkpoint
from compressai.convert import Conversion

RIVAL = b"written by another process meanwhile"
EVAL = ("eval", "photo.png", "--checkpoint", "net.safetensors")
COMMANDS = {
    "x.cai": ("encode", "photo.png", "-o", "x.cai", "--checkpoint", "net.safetensors"),
    "x.png": ("decode", "photo.cai", "-o", "x.png", "--checkpoint", "net.safetensors"),
    "r.json": (*EVAL, "--json", "r.json"),
    "r.csv": (*EVAL, "--csv", "r.csv"),
    "r.svg": (*EVAL, "--plot", "r.svg"),
    "r.html": (*EVAL, "--html", "r.html"),
    "p.png": ("plot", "curves.json", "-o", "p.png"),
    "new/c.pth": ("convert", "authors.pth", "new/c.pth"),
    "new/c.safetensors": ("convert", "authors.pth", "new/c.safetensors"),
    "onnx/g_a.onnx": (
        *("export", "onnx", "--checkpoint", "net.safetensors"),
        *("--size", "64", "64"),
    ),
}
EXTRAS = {"eval": "matplotlib", "plot": "matplotlib", "export": "onnxscript"}


@pytest.fixture
def sources(run, folder, monkeypatch):
    save_crops({"photo.png": (100, 40, 164, 104)})
    save_checkpoint("net.safetensors", tiny_net(MODEL), architecture=MODEL, arguments=SIZES[MODEL])
    assert run("encode", "photo.png", "--checkpoint", "net.safetensors")[0] == 0
    assert run(*EVAL, "--json", "curves.json")[0] == 0
    conversion = Conversion("tcm", MODEL, tiny_net(MODEL), {}, ())
    monkeypatch.setattr("compressai.convert.convert_checkpoint", lambda *_: conversion)


@pytest.mark.parametrize("name", COMMANDS)
def test_file_that_comes_while_a_command_works_is_kept(run, sources, monkeypatch, name):
    command, target = COMMANDS[name], Path(name)
    if command[0] in EXTRAS:
        pytest.importorskip(EXTRAS[command[0]])
    begun = []
    real = _files._clear_away

    def write_first(folder):
        """Called when a command has found that the file is missing, and begins to write it."""
        real(folder)
        begun.append(folder)
        target.write_bytes(RIVAL)

    with monkeypatch.context() as race:
        race.setattr(_files, "_clear_away", write_first)
        status, out, err = run(*command)
        assert begun
        assert (status, out) == (1, "")
        assert f"{name} exists, and is not to be replaced" in err
    assert target.read_bytes() == RIVAL
    assert [path for path in target.parent.iterdir() if "unfinished" in path.name] == []

    status, _, err = run(*command)
    assert (status, f"{name} exists; give --overwrite" in err) == (1, True)
    assert target.read_bytes() == RIVAL
    assert run(*command, "--overwrite")[0] == 0
    assert target.read_bytes() != RIVAL
