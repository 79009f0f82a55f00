# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Transforms in ONNX files: onnxruntime computes what torch does, for pictures of any size."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from program import alone_in, program, save_tiny
from tiny_nets import one_thread, tiny_net

from compressai.inference import export, export_onnx, prepare

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def test_exported_transforms_take_pictures_of_any_size(tmp_path: Path) -> None:
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


def test_wrong_results_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="onnxruntime gives other results for g_a"):
        export_onnx(tiny_net("bmshj2018-factorized"), tmp_path, size=(64, 64))
    assert not list(tmp_path.iterdir())


def test_sizes_that_the_model_does_not_take_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        export_onnx(tiny_net("mbt2018-mean"), tmp_path, size=(64, 100))


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"compressai\[onnx\]"):
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
        status, _, err = run("export", "out")
        assert status == 2
