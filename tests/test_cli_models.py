# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai models``: what the table says, and that its figures are right."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import torch
from torch import nn

from compressai.cli.models import _weights, multiplications
from compressai.models import FactorizedPriorReLU
from compressai.zoo import image_models
from compressai.zoo.weights import published_weights, weights_status

pytestmark = pytest.mark.usefixtures("folder")


def by_hand(network: nn.Sequential, side: int) -> float:
    """Multiplications for each pixel of a network of 5x5 convolutions that halve or double."""
    total = 0.0
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            side //= 2
            positions = side**2
        elif isinstance(layer, nn.ConvTranspose2d):
            positions = side**2
            side *= 2
        else:
            continue
        total += positions * layer.weight.numel()
    return total


def test_operations_are_those_that_one_counts_by_hand():
    with torch.device("meta"):
        net = FactorizedPriorReLU(N=8, M=12)
    counts = multiplications(net)
    assert counts["g_a"] == by_hand(net.g_a, 512) / 512**2
    assert counts["g_s"] == by_hand(net.g_s, 32) / 512**2
    assert counts["all"] >= counts["g_a"] + counts["g_s"]


def test_table_has_the_models_asked_for_with_sizes_and_papers(run):
    names = ["bmshj2018-factorized", "mbt2018-vbr"]
    status, out, err = run("models", *names, "-q", 99, "--json")
    assert (status, err) == (0, "")
    first, second = json.loads(out)["models"]
    assert [first["model"], second["model"]] == names
    assert "Ballé et al. 2018" in first["paper"]
    assert (first["qualities"], first["quality"]) == ([1, 8], 8)
    net = image_models[names[0]](8)
    assert first["parameters"] == sum(p.numel() for p in net.parameters())
    assert set(first["weights"]["mse"].values()) == {"published"}
    # Encoder and decoder share nothing but the entropy model, which is a small part.
    assert first["encode_macs_per_pixel"] == pytest.approx(first["decode_macs_per_pixel"], rel=0.1)
    status, out, _ = run("models", names[0])
    assert status == 0
    heading, row, empty, *paper = out.splitlines()
    assert (heading.split()[0], row.split()[0], empty) == ("model", names[0], "")
    assert "published, not here" in row
    assert " ".join(paper) == f"{names[0]}: {first['paper']}"


def test_all_models_of_the_zoo_are_listed_without_names(run, monkeypatch):
    monkeypatch.setattr("compressai.cli.models.multiplications", lambda net: {"all": 1.0})
    status, out, _ = run("models", "--json")
    assert status == 0
    entries = json.loads(out)["models"]
    assert [entry["model"] for entry in entries] == list(image_models)
    assert all(entry["parameters"] and entry["paper"] for entry in entries)


def in_terminal(run, *words):
    """Lines that a terminal of 80 columns shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        patch.setenv("COLUMNS", "80")
        patch.delenv("NO_COLOR", raising=False)
        patch.delenv("TERM", raising=False)
        status, out, _ = run(*words)
    assert status == 0
    assert "\x1b[" in out, "taken for a file"
    return [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in out.splitlines()]


def test_list_fits_80_columns_and_breaks_no_name(run, monkeypatch):
    monkeypatch.setattr("compressai.cli.models.multiplications", lambda net: {"all": 999e3})
    monkeypatch.setenv("COLUMNS", "20")
    status, out, _ = run("models")
    assert status == 0
    redirected = [line.rstrip() for line in out.splitlines()]
    assert [line.split()[0] for line in redirected] == ["model", *image_models]
    assert max(map(len, redirected)) <= 80
    assert "et al." not in out
    assert in_terminal(run, "models") == redirected


def test_names_are_whole_in_every_table(run, monkeypatch):
    weights = "installed 1,2,4 (mse); shipped 1-3 (ms-ssim)"
    monkeypatch.setattr("compressai.cli.models._weights", lambda entry: weights)
    monkeypatch.setattr("compressai.cli.models.multiplications", lambda net: {"all": 1.0})
    lines = in_terminal(run, "models", "cheng2020-anchor-checkerboard")
    table = lines[1 : lines.index("")]
    assert table[0].startswith("cheng2020-anchor-checkerboard ")
    assert len(table) > 1
    assert max(map(len, table)) <= 80
    assert " ".join(" ".join(table).split()).endswith("(ms-ssim)")
    # Not even where there is no room at all; the terminal breaks such lines.
    name = "model-" * 14
    monkeypatch.setitem(image_models, name, image_models["bmshj2018-factorized"])
    row = in_terminal(run, "models", name)[1]
    assert row.startswith(name)
    assert row.endswith(weights)


def test_weights_are_told_in_ranges():
    statuses = {1: "shipped", 2: "shipped", 3: "shipped", 4: "installed", 6: "installed"}
    entry = {"weights": {"mse": statuses, "ms-ssim": {1: "published"}}}
    assert _weights(entry) == "shipped 1-3 (mse); installed 4,6 (mse)"
    assert _weights({"weights": {"mse": {1: "published", 2: None}}}) == "published, not here"
    assert _weights({"weights": {"mse": {1: None}}}) == "none"


def test_weights_that_are_there_are_told(run, folder):
    name = published_weights()["bmshj2018-factorized"]["mse"]["2"]
    (folder / "weights").mkdir()
    (folder / "weights" / name).write_bytes(b"")
    digest = hashlib.sha256(b"").hexdigest()[:8]
    (folder / "weights" / f"stf-mse-3-{digest}.safetensors").write_bytes(b"")
    assert weights_status("bmshj2018-factorized", "mse", 2) == "installed"
    assert weights_status("bmshj2018-factorized", "mse", 3) == "published"
    assert weights_status("stf", "mse", 3) == "installed"
    assert weights_status("stf", "mse", 4) is None
    assert "installed 2 (mse)" in run("models", "bmshj2018-factorized")[1]


def test_models_whose_extra_is_missing_say_so(run, monkeypatch):
    def build(*_):
        raise ImportError("run: pip install 'compressai-torch[attn]'")

    monkeypatch.setitem(image_models, "tcm", build)
    status, out, _ = run("models", "tcm")
    assert status == 0
    assert "pip install 'compressai-torch[attn]'" in out


def test_unknown_models_are_refused(run):
    status, _, err = run("models", "nonsense")
    assert status == 1
    assert "names must be in" in err
