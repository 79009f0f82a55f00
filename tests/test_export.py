# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Transforms in ONNX files: onnxruntime computes what torch does, for images of any size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import MODEL, alone_in, program, save_tiny
from slice_nets import small_net
from tiny_nets import one_thread, tiny_net
from torch import Tensor, nn

from compressai.inference import export, export_onnx, prepare
from compressai.registry import ENTRIES

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_exported_transforms_take_images_of_any_size(tmp_path: Path) -> None:
    net = tiny_net("mbt2018-mean")
    with one_thread():
        exported = export_onnx(prepare(net), tmp_path / "new")
        assert set(exported) == {"g_a", "g_s"}
        assert all(one.error <= 1e-4 for one in exported.values())
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
            "g_a.onnx",
            "g_s.onnx",
        ]
        x = torch.rand(3, 3, 64, 256)
        sessions = [onnxruntime.InferenceSession(exported[name].path) for name in ("g_a", "g_s")]
        y = sessions[0].run(["y"], {"x": x.numpy()})[0]
        x_hat = sessions[1].run(["x_hat"], {"y_hat": np.round(y)})[0]
        with torch.no_grad():
            np.testing.assert_allclose(y, net.g_a(x), atol=1e-4)
            theirs = net.g_s(torch.from_numpy(np.round(y)))
    np.testing.assert_allclose(x_hat, theirs, atol=1e-4)


@pytest.mark.parametrize("name", ["stf", "wacnn", "tcm", "cca"])
def test_transforms_of_every_family_are_exported_for_one_size(tmp_path: Path, name: str) -> None:
    net = small_net(name, **({"config": (1,) * 6} if name == "tcm" else {}))
    side = net.downsampling_factor
    with one_thread():
        exported = export_onnx(net, tmp_path, size=(side, 2 * side))
        x = torch.rand(1, 3, side, 2 * side)
        session = onnxruntime.InferenceSession(exported["g_a"].path)
        y = session.run(["y"], {"x": x.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(y, net.g_a(x), atol=1e-4)
    assert all(one.error <= 1e-4 for one in exported.values())


@pytest.mark.parametrize("name", ["mambavc", "mambaic"])
def test_scans_have_no_operator(tmp_path: Path, name: str) -> None:
    net = ENTRIES[name].model(**ENTRIES[name].small).eval()
    with pytest.raises(RuntimeError, match=r"g_a of Mamba\w+ cannot be exported: ONNX has no op"):
        export_onnx(net, tmp_path, size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_what_works_for_one_size_only_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = tiny_net("bmshj2018-factorized")

    def one_size(network: nn.Module, args: tuple[Tensor, ...], **kwargs: Any) -> Any:
        return original(network, args, **{**kwargs, "dynamic_shapes": None})

    def fail(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("too new\nand much more")

    original = torch.onnx.export
    for instead in (one_size, fail):
        monkeypatch.setattr(torch.onnx, "export", instead)
        with one_thread(), pytest.raises(ValueError, match="give size="):
            export_onnx(net, tmp_path)
    with pytest.raises(RuntimeError, match=r"g_a cannot be exported: too new$"):
        export_onnx(net, tmp_path, size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_wrong_results_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="onnxruntime gives other results for g_a"):
        export_onnx(tiny_net("bmshj2018-factorized"), tmp_path, size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_both_transforms_are_written_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_second(network: nn.Module, name: str, *rest: Any, **options: Any) -> None:
        if name == "g_s":
            raise export.CannotExportError("too new")
        original(network, name, *rest, **options)

    original = export._export
    monkeypatch.setattr(export, "_export", fail_second)
    with one_thread(), pytest.raises(RuntimeError, match="g_s cannot be exported: too new"):
        export_onnx(tiny_net("bmshj2018-factorized"), tmp_path, size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_a_transform_that_appears_meanwhile_leaves_none_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def another_writes(network: nn.Module, name: str, *rest: Any, **options: Any) -> None:
        original(network, name, *rest, **options)
        (tmp_path / "g_s.onnx").write_bytes(b"of another")

    original = export._export
    monkeypatch.setattr(export, "_export", another_writes)
    net = tiny_net("bmshj2018-factorized")
    with one_thread(), pytest.raises(FileExistsError, match=r"g_s\.onnx exists"):
        export_onnx(net, tmp_path, size=(64, 64), replace=False)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of another"]


def test_sizes_that_the_model_does_not_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        export_onnx(tiny_net("mbt2018-mean"), tmp_path, size=(64, 100))


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"compressai-torch\[onnx\]"):
        export_onnx(tiny_net("mbt2018-mean"), tmp_path)


def test_program_exports_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = program(capsys)
    with alone_in(tmp_path, monkeypatch):
        save_tiny(Path("tiny.safetensors"))
        arguments = ("export", "out", "--checkpoint", "tiny.safetensors", "--size", 64, 64)
        status, out, err = run(*arguments)
        assert (status, err) == (0, "")
        assert "g_a.onnx" in out
        assert {path.name for path in Path("out").iterdir()} == {"g_a.onnx", "g_s.onnx"}
        status, _, err = run(*arguments)
        assert status == 1
        assert "--overwrite" in err
        status, out, err = run(*arguments, "--overwrite", "--json")
        assert (status, err) == (0, "")
        report = json.loads(out)
        assert (report["model"], report["random_weights"]) == (MODEL, False)
        assert Path(report["files"]["g_s"]["path"]) == Path("out/g_s.onnx")
        assert 0 <= report["files"]["g_s"]["error"] <= 1e-4


def test_program_exports_the_default_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = program(capsys)
    with alone_in(tmp_path, monkeypatch):
        status, out, _ = run("export", "out", "--size", 64, 64, "--json")
        assert status == 0
        report = json.loads(out)
        assert (report["model"], report["quality"], report["random_weights"]) == ("lite", 50, False)
        assert len(list(Path("out").iterdir())) == 2
        _, out, _ = run("export", "--help")
        text = " ".join(out.replace("│", " ").split())
        assert all(f"(default: {value})" in text for value in ("lite", "the model's", "mse", "any"))
