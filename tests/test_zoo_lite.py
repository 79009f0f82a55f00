# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The weights that ship with the library: at hand without network, small, and trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from program import PHOTO

import compressai.zoo.weights as weights_module
from compressai import zoo
from compressai.bitstream import decode_image, encode_image, read_image
from compressai.models import Lite
from compressai.zoo.image import entries, training_recipe

QUALITIES = (1, 2, 3, 4)


@pytest.fixture(autouse=True)
def empty_weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "weights"))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)


def test_all_qualities_together_fit_into_12_megabytes() -> None:
    files = [weights_module.installed_weights("lite", "mse", quality) for quality in QUALITIES]
    assert sum(file.stat().st_size for file in files) <= 12e6
    assert all(weights_module.weights_at_hand("lite", "mse", quality) for quality in QUALITIES)
    assert weights_module.weights_status("lite", "mse", 1) == "shipped"


@pytest.mark.parametrize("quality", QUALITIES)
def test_shipped_weights_load_in_single_precision(quality: int) -> None:
    net = zoo.lite(quality, pretrained=True)
    assert type(net) is Lite
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert training_recipe("lite", quality)["lmbda"] > 0


def test_bottleneck_tables_come_from_the_file_and_not_from_this_processor() -> None:
    net = zoo.lite(1, pretrained=True)
    bottleneck = net.latent_codec.z.entropy_bottleneck
    assert bottleneck.has_tables
    stored = bottleneck.quantized_cdf.clone()
    net.update()
    assert net.has_tables
    assert torch.equal(bottleneck.quantized_cdf, stored)


def test_rate_and_quality_ascend_and_the_image_is_recognised() -> None:
    with Image.open(PHOTO) as image:
        sample = read_image(image.crop((100, 20, 292, 148)))
    points = []
    for quality in QUALITIES:
        net = zoo.lite(quality, pretrained=True).eval()
        coded = encode_image(net, sample, model="lite", quality=quality, metric="mse")
        decoded = decode_image(net, coded)
        error = (decoded.pixels - sample.pixels).square().mean()
        points.append((len(coded.to_bytes()), float(-10 * torch.log10(error))))
    assert points == sorted(points)
    psnrs = [psnr for _, psnr in points]
    assert psnrs == sorted(psnrs)
    assert psnrs[0] > 27
    assert psnrs[-1] > 31


def test_what_does_not_ship_is_said() -> None:
    with pytest.raises(RuntimeError, match=r"it has those of metric mse; train .*train_lite\.py"):
        zoo.lite(1, "ms-ssim", pretrained=True)
    with pytest.raises(
        RuntimeError, match=r"metric mse; .* compressai\.models\.integer\.quantize_entr"
    ):
        zoo.lite_integer(1, "ms-ssim", pretrained=True)
    assert type(zoo.lite(1, "ms-ssim")) is Lite
    with pytest.raises(ValueError, match="quality must be between 1 and 4"):
        zoo.lite(5)
    assert entries()["lite"].published


def test_damaged_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights_module.installed_weights("lite", "mse", 1)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    (tmp_path / file.name).write_bytes(content)
    monkeypatch.setattr(weights_module, "_SHIPPED", tmp_path)
    with pytest.raises(RuntimeError, match="damaged"):
        zoo.lite(1, pretrained=True)
