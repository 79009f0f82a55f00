# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles: what is in one, and which are refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import MODEL, program, save_tiny
from slice_nets import small_net
from tiny_nets import one_thread, tiny_net

from compressai.bitstream import fingerprint
from compressai.models.base import ModelIdentity
from compressai.registry import ENTRIES
from compressai.runtime import Bundle, BundleError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle  # noqa: E402

run = pytest.fixture(program)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = tiny_net("mbt2018-mean")
    net.identity = ModelIdentity("mbt2018-mean", 2, "mse")
    path = tmp_path_factory.mktemp("bundle") / "tiny.caibundle"
    with one_thread():
        export_bundle(net, path)
    return path


def test_manifest_tells_who_the_model_is_and_how_it_codes(written: Path) -> None:
    net = tiny_net("mbt2018-mean")
    bundle = Bundle.read(written)
    manifest = bundle.manifest
    assert (manifest["model"], manifest["quality"], manifest["metric"]) == (
        "mbt2018-mean",
        2,
        "mse",
    )
    assert bundle.fingerprints == {version: fingerprint(net, version) for version in (1, 2)}
    assert [step["op"] for step in manifest["coding"]] == ["factorized", "run", "gaussian"]
    assert not manifest["exact"]
    np.testing.assert_array_equal(bundle.array("y.cdfs"), net.gaussian_conditional._quantized_cdf)
    with zipfile.ZipFile(written) as file:
        assert file.infolist()[0].filename == "bundle.json"
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}


def test_graphs_compute_what_the_model_does_and_name_it(written: Path) -> None:
    net, bundle = tiny_net("mbt2018-mean"), Bundle.read(written)
    session = onnxruntime.InferenceSession(bundle.network("h_s"))
    z_hat = torch.round(3 * torch.randn(1, 4, 3, 2))
    scales, means = session.run(["scales", "means"], {"z_hat": z_hat.numpy()})
    with torch.no_grad():
        expected = net._scales_means(z_hat)
    np.testing.assert_allclose(scales, expected[0], atol=1e-5)
    np.testing.assert_allclose(means, expected[1], atol=1e-5)
    texts = session.get_modelmeta().custom_metadata_map
    assert (texts["model"], texts["fingerprint"]) == ("mbt2018-mean", fingerprint(net).hex())
    assert (texts["quality"], texts["metric"], texts["network"]) == ("2", "mse", "h_s")
    entry = ENTRIES["mbt2018-mean"]
    assert (texts["licence"], texts["paper"]) == (entry.licence, entry.paper) != ("", "")


def test_damaged_bundles_and_other_versions_are_refused(written: Path, tmp_path: Path) -> None:
    content = written.read_bytes()
    with pytest.raises(BundleError, match="no bundle, or a damaged one"):
        Bundle.read(content[:-100])
    place = content.index(b"g_s.onnx") + 200
    changed = content[:place] + bytes((content[place] ^ 1,)) + content[place + 1 :]
    with pytest.raises(BundleError, match="damaged"):
        Bundle.read(changed)
    for field, value, message in (
        ("version", 3, "has bundle version 3, this program reads 1 and 2"),
        ("format", "other", "does not say 'compressai-bundle'"),
        ("coding", {}, "no proper 'coding'"),
    ):
        with pytest.raises(BundleError, match=message):
            Bundle.read(_with_manifest(written, tmp_path, **{field: value}))
    manifest = Bundle.read(written).manifest
    networks = {**manifest["networks"], "g_s": {**manifest["networks"]["g_s"], "sha256": "0"}}
    with pytest.raises(BundleError, match=r"g_s is not what bundle\.json says"):
        Bundle.read(_with_manifest(written, tmp_path, networks=networks))


def _with_manifest(source: Path, folder: Path, **fields: object) -> Path:
    changed = folder / "changed.caibundle"
    with zipfile.ZipFile(source) as file, zipfile.ZipFile(changed, "w") as out:
        manifest = json.loads(file.read("bundle.json"))
        out.writestr("bundle.json", json.dumps({**manifest, **fields}))
        for entry in file.infolist()[1:]:
            out.writestr(entry, file.read(entry))
    return changed


def _in_context(codec: str) -> str:
    return f"its {codec} codes positions in the context of others, and a step"


REFUSED = {
    **dict.fromkeys(
        ("mbt2018", "mbt2018-vbr", "cheng2020-anchor", "cheng2020-attn"),
        "it codes position by position, and a step",
    ),
    **dict.fromkeys(
        ("cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier"),
        _in_context("CheckerboardLatentCodec"),
    ),
    **dict.fromkeys(
        ("mlic", "mlicplus", "mlicpp", "mlicv2"),
        _in_context("MultiContextCheckerboardLatentCodec"),
    ),
    **dict.fromkeys(
        ("hpcm-base", "hpcm-large", "hpcm-phi", "hpcm-1b"),
        _in_context("HierarchicalProgressiveLatentCodec"),
    ),
    **dict.fromkeys(("mambavc", "mambaic"), "ONNX has no operator for selective scans, as in g_a"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_code_otherwise_are_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    entry = ENTRIES[name]
    net = entry.model(**{**entry.arguments, **entry.small}).eval()
    net.identity = ModelIdentity(name)
    with pytest.raises(ValueError, match=rf"cannot be written as a bundle: {REFUSED[name]}"):
        export_bundle(net, tmp_path / "no.caibundle")
    assert not list(tmp_path.iterdir())


def test_models_without_a_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not know its name"):
        export_bundle(small_net("tcm"), tmp_path / "no.caibundle")
    assert not list(tmp_path.iterdir())


def test_bundle_command_writes_one_file(run: Any, tmp_path: Path) -> None:
    save_tiny(tmp_path / "tiny.pth")
    target = tmp_path / "new.caibundle"
    arguments = ("export", "--bundle", target, "--checkpoint", tmp_path / "tiny.pth")
    code, out, err = run(*arguments)
    assert (code, err) == (0, "")
    assert out.startswith(f"{target}: differs from torch by ")
    assert Bundle.read(target).manifest["model"] == MODEL
    code, _, err = run("export")
    assert (code, "either a folder" in err) == (2, True)
