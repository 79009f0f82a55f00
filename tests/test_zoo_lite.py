# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The weights that ship with the library: at hand without network, small, and trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import PHOTO

import compressai
import compressai.zoo.weights as weights_module
from compressai import quick, zoo
from compressai.bitstream import read_image
from compressai.inference import prepare
from compressai.models import Lite
from compressai.registry import ENTRIES


@pytest.fixture(autouse=True)
def empty_weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "weights"))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)


def test_one_file_of_four_megabytes_has_all_rates() -> None:
    files = {
        weights_module.installed_weights("lite", "mse", quality) for quality in (None, 0, 47.5)
    }
    (file,) = files
    assert file.stat().st_size <= 4e6
    assert weights_module.weights_at_hand("lite", "mse", 99.5)
    assert weights_module.weights_status("lite", "mse", 1) == "shipped"


def test_shipped_weights_load_in_single_precision() -> None:
    net = zoo.lite(pretrained=True)
    assert type(net) is Lite
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_bottleneck_tables_come_from_the_file_and_not_from_this_processor() -> None:
    net = zoo.lite(pretrained=True)
    bottleneck = net.latent_codec.hyper.entropy_bottleneck
    assert bottleneck.has_tables
    stored = bottleneck.quantized_cdf.clone()
    net.update()
    assert net.has_tables
    assert torch.equal(bottleneck.quantized_cdf, stored)


def test_rate_and_fidelity_ascend_at_every_whole_quality() -> None:
    boxes = ((0, 0, 256, 256), (195, 0, 451, 256), (100, 44, 356, 300))
    with Image.open(PHOTO) as image:
        x = torch.stack([read_image(image.crop(box)).pixels for box in boxes])
    net = prepare(zoo.lite(pretrained=True).eval(), "fp32")
    sizes, fidelities = [], []
    for quality in range(101):
        coded = net.compress(x, quality, sync_safe=True)
        decoded = net.g_s(coded["y_hat"]).clamp(0, 1)
        sizes.append([sum(map(len, strings)) for strings in zip(*coded["strings"])])
        errors = (decoded - x).square().mean((1, 2, 3))
        fidelities.append((-10 * errors.log10()).tolist())
    for found in zip(*sizes):
        assert list(found) == sorted(found)
        assert found[-1] > 10 * found[0]
    for found in zip(*fidelities):
        assert list(found) == sorted(found)
        assert found[0] > 24
        assert found[-1] > 38


def test_old_qualities_are_points_of_the_scale() -> None:
    nets = [zoo.lite(quality, pretrained=True) for quality in (1, 2, 3, 4)]
    assert [net.default_quality for net in nets] == [19, 32, 44, 56]
    with pytest.raises(ValueError, match=r"1 \(19\), .* 4 \(56\), .*, got 5"):
        zoo.lite(5)


def test_one_line_codes_with_any_quality_with_torch_and_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = [compressai.encode(PHOTO, quality) for quality in (10, 47.5, 75)]
    assert sorted(map(len, files)) == [len(file) for file in files]
    sizes = {image.size for image in map(compressai.decode, files)}
    monkeypatch.setattr(quick, "installed_bundle", lambda *_: None)
    monkeypatch.setattr(quick, "decoding_bundle", lambda *_: None)
    file = compressai.encode(PHOTO, 47.5)
    assert len(file) == pytest.approx(len(files[1]), rel=0.01)
    with Image.open(PHOTO) as image:
        assert {image.size, compressai.decode(file).size} == sizes
    for wrong in (-1, 101):
        with pytest.raises(ValueError, match=f"quality must be 0 to 100, got {wrong}"):
            compressai.encode(PHOTO, wrong)


def test_what_does_not_ship_is_said() -> None:
    for build in (zoo.lite, zoo.lite_integer):
        with pytest.raises(ValueError, match="metric"):
            build(1, "ms-ssim", pretrained=True)
    assert ENTRIES["lite"].published


def test_damaged_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = weights_module.installed_weights("lite", "mse", None)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    (tmp_path / file.name).write_bytes(content)
    monkeypatch.setattr(weights_module, "_SHIPPED", tmp_path)
    with pytest.raises(RuntimeError, match="damaged"):
        zoo.lite(pretrained=True)


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("effort", [1, 2])
def test_images_may_be_in_any_layout(effort: int) -> None:
    """Decoders begin with latents in the default layout, whose kernels round otherwise."""
    net = zoo.lite(pretrained=True).eval()
    with Image.open(PHOTO) as image:
        pixels = np.array(image.convert("RGB").crop((0, 0, 192, 192)))
    x = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2).float() / 255
    assert x.is_contiguous(memory_format=torch.channels_last)
    coded = net.compress(x, quality=19, effort=effort)
    decoded = net.decompress(coded["strings"], coded["shape"], quality=19)
    assert torch.equal(decoded["y_hat"], coded["y_hat"])
    assert coded["strings"] == net.compress(x.contiguous(), quality=19, effort=effort)["strings"]
