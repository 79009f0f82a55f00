# SPDX-License-Identifier: BSD-3-Clause-Clear
"""bfloat16 costs hardly any quality, and the benchmark that says so sees when it does."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from program import save_crops
from tiny_nets import one_thread
from torch import Tensor, nn
from torchvision.transforms.functional import to_tensor

from compressai.inference import prepare
from compressai.layers import ResidualBottleneckBlock
from compressai.zoo import lite

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _find_benchmarks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "weights"))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)
    with one_thread():
        yield
    sys.modules.pop("precision", None)


@pytest.fixture
def crop(tmp_path: Path) -> Path:
    save_crops({tmp_path / "crop.png": (96, 20, 352, 212)})
    return tmp_path / "crop.png"


def test_shipped_weights_lose_little_in_bf16(
    crop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import precision

    status = precision.main([str(crop)])
    lines = capsys.readouterr().out.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")][1:]
    figures = [row["images"]["crop.png"] for row in rows]
    assert [row["quality"] for row in rows] == [1, 2, 3, 4]
    assert all(row["loss_db"] != 0 for row in figures)
    assert max(row["loss_db"] for row in figures) <= 0.01
    assert status == 0
    assert {row["bytes_ratio"] for row in figures} == {1}


def emulated(synthesis: nn.Module) -> nn.Module:
    """A synthesis with the roundings of processors that have bfloat16: of weights, and of sums.

    The machine that runs this may round elsewhere, such as between the sums and the bias.
    """
    copied = copy.deepcopy(synthesis)
    *layers, last = [m for m in copied.modules() if isinstance(m, nn.Conv2d)]
    for layer in layers:
        layer.weight.data = rounded(layer.weight.data)
        layer.register_forward_hook(lambda module, inputs, out: rounded(out))
    for block in copied.modules():
        if isinstance(block, ResidualBottleneckBlock):
            block.register_forward_hook(lambda module, inputs, out: rounded(out))
    last.register_forward_pre_hook(lambda module, inputs: (rounded(inputs[0]),))
    return copied


def rounded(x: Tensor) -> Tensor:
    return x.bfloat16().float()


@pytest.mark.parametrize("quality", [1, 2, 3, 4])
def test_processors_with_bf16_lose_as_little(crop: Path, quality: int) -> None:
    net = lite(quality, pretrained=True).eval()
    image = to_tensor(Image.open(crop)).unsqueeze(0)[..., :192, :256]
    with torch.no_grad():
        coded = net.compress(image)
        plain = net.decompress(coded["strings"], coded["shape"])["x_hat"]
        net.g_s = emulated(net.g_s)
        x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    errors = [(image - other).square().mean().item() for other in (plain, x_hat)]
    assert not torch.equal(plain, x_hat)
    assert 10 * math.log10(errors[1] / errors[0]) <= 0.01


def test_benchmark_sees_what_coarse_transforms_lose(
    crop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import precision

    def coarse(net, precision):
        prepared = prepare(net, "fp32")
        if precision == "bf16":
            synthesis = prepared.g_s
            vars(prepared)["g_s"] = lambda y_hat: synthesis((y_hat * 2).round() / 2)
        return prepared

    monkeypatch.setattr(precision, "prepare", coarse)
    assert precision.main([str(crop), "--quality", "4"]) == 1


@pytest.mark.parametrize(("slow", "status"), [("bf16", 0), ("fp32", 1)])
def test_speed_of_what_auto_takes_is_checked(
    crop: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    slow: str,
    status: int,
) -> None:
    import precision

    def alternated(functions: dict[str, Any], repeats: int, *_: Any) -> dict[str, list[float]]:
        for function in functions.values():
            function()
        return {name: [1.2 if name == slow else 1.0] * repeats for name in functions}

    monkeypatch.setattr(precision, "alternate", alternated)
    monkeypatch.setattr(precision, "choose_precision", lambda *_: torch.float32)
    assert precision.main([str(crop), "--speed"]) == status
    row = json.loads(capsys.readouterr().out.splitlines()[1])
    assert row["auto"] == "fp32"
    assert row["over_other"]["median"] == pytest.approx(1 / 1.2 if slow == "bf16" else 1.2)
    assert precision.main([str(crop), "--speed", "--slack", "0.3"]) == 0


def test_random_weights_are_refused(crop: Path) -> None:
    import precision

    with pytest.raises(ValueError, match="no trained weights"):
        precision.main([str(crop), "--model", "mbt2018-mean", "--quality", "1"])
