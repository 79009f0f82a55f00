# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles of variable rate: factors and files as torch has them, at any quality."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_models_lite import TINY
from tiny_nets import one_thread, tiny_net

from compressai.bitstream import ImageData, decode_image, encode_image, parse_coded
from compressai.models.base import ModelIdentity
from compressai.models.integer import IntegerLite, quantize_entropy_path
from compressai.models.lite import Lite
from compressai.runtime import Bundle, BundleError, RuntimeModel, bundle_file, installed_bundle

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle

NAME = "tiny-lite"
GAINS = ("y_gain", "y_gain_inv", "z_gain", "z_gain_inv")
QUALITIES = (0, 33.3, 60, 75, 100)


def net_of_any_rate() -> Lite:
    """A small model whose gains are as if they were learned."""
    torch.manual_seed(0)
    net = Lite(**TINY).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(40)
        net.latent_codec.hyper.h_a[-1].weight.mul_(20)
        for name in GAINS:
            gains = getattr(net, name)
            gains.middle.normal_(0, 0.2)
            gains.steps.add_(0.3 * torch.randn_like(gains.steps))
        # Where softplus is the identity, or nearly nothing.
        net.y_gain.steps[0, :2] = torch.tensor([-30.0, 1.0])
    net.update()
    net.identity = ModelIdentity(NAME, None, "mse")
    return net


def integers_of(net: Lite) -> Any:
    """The same with integers, as small."""
    source = copy.deepcopy(net)
    with torch.no_grad():
        for place in IntegerLite.entropy_networks(source):
            place.module[-1].weight.mul_(4)
            place.module[-1].bias.uniform_(0.2, 1)
    images = torch.rand(2, 3, 64, 128, generator=torch.Generator().manual_seed(2))
    made = quantize_entropy_path(source, [images])
    made.identity = ModelIdentity(f"{NAME}-integer", None, "mse")
    return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lite, Path]:
    net = net_of_any_rate()
    path = tmp_path_factory.mktemp("rates") / "tiny.caibundle"
    with one_thread():
        export_bundle(net, path)
    return net, path


def _image() -> ImageData:
    return ImageData(torch.rand(3, 70, 100, generator=torch.Generator().manual_seed(1)))


def test_factors_are_those_of_torch_to_the_bit(pair: tuple[Lite, Path]) -> None:
    net, path = pair
    rates = RuntimeModel(path, threads=1).rates
    assert rates is not None
    random = np.random.default_rng(0).uniform(0, 100, 200).astype(np.float32)
    for quality in (0.0, 12.5, 100.0, *map(float, random)):
        for name in GAINS:
            expected = getattr(net, name).exact(torch.tensor([quality]))
            np.testing.assert_array_equal(rates.factor(name, quality), expected)


@pytest.mark.parametrize("quality", QUALITIES)
def test_files_decode_with_and_without_torch(pair: tuple[Lite, Path], quality: float) -> None:
    net, path = pair
    runtime = RuntimeModel(path, threads=1)
    made = {}
    for engine, other in ((net, runtime), (runtime, net)):
        coded = parse_coded(encode_image(engine, _image(), quality=quality).to_bytes())
        assert coded.quality == pytest.approx(quality, abs=1e-4)
        # Hashes of latents are compared, too.
        decoded = [_levels(decode_image(one, coded)) for one in (engine, other)]
        assert (np.abs(decoded[0] - decoded[1]) <= 1).mean() >= 0.9999
        made[engine] = sum(len(string) for tile in coded.tiles for string in tile.strings)
    # Guards are those of the nodes around.
    assert made[runtime] == pytest.approx(made[net], rel=0.01)


def test_dead_zones_are_those_of_torch(tmp_path: Path) -> None:
    net = net_of_any_rate()
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(3))
    leaf = net.latent_codec.y.latent_codec["y4"]
    latents = {}
    for dead_zone in (0.0, 0.1):
        leaf.dead_zone = dead_zone
        with one_thread():
            export_bundle(net, path := tmp_path / f"{dead_zone}.caibundle")
            theirs = net.compress(x, 60, sync_safe=True)["y_hat"].numpy()
        latents[dead_zone] = theirs, RuntimeModel(path).compress(x.numpy(), quality=60)["y_hat"]
    changed = np.abs(latents[0.1][0] - latents[0.0][0]) > 0.1
    assert changed.mean() > 0.01
    for theirs, ours in latents.values():
        # Few values are rounded to the next step of the grid, as engines differ.
        assert (np.abs(ours - theirs) > 0.01).mean() < 0.005


def _levels(image: ImageData) -> np.ndarray:
    return np.rint(255 * np.asarray(image.pixels))


def test_integers_decode_alike_at_any_quality(pair: tuple[Lite, Path], tmp_path: Path) -> None:
    net = integers_of(pair[0])
    with one_thread():
        export_bundle(net, tmp_path / "integer.caibundle")
    runtime = RuntimeModel(tmp_path / "integer.caibundle", threads=1)
    assert runtime.exact
    for quality in QUALITIES:
        for engine, other in ((net, runtime), (runtime, net)):
            coded = encode_image(engine, _image(), quality=quality, sync_safe=False)
            # Hashes of latents are compared.
            decoded = [_levels(decode_image(one, coded)) for one in (engine, other)]
            assert (np.abs(decoded[0] - decoded[1]) <= 1).mean() >= 0.9999


def test_qualities_beyond_the_scale_are_refused(pair: tuple[Lite, Path]) -> None:
    _, path = pair
    runtime = RuntimeModel(path, threads=1)
    for quality in (-1, 100.5):
        with pytest.raises(ValueError, match=r"quality.* must be in 0 \.\.\. 100"):
            encode_image(runtime, _image(), quality=quality)
        with pytest.raises(ValueError, match=r"quality must be in 0 \.\.\. 100"):
            runtime.compress(np.zeros((1, 3, 64, 64), np.float32), quality=quality)


def test_bundles_of_one_rate_take_no_quality(tmp_path: Path) -> None:
    net = tiny_net("mbt2018-mean")
    net.identity = ModelIdentity("mbt2018-mean", 1, "mse")
    export_bundle(net, tmp_path / "tiny.caibundle")
    fixed = RuntimeModel(tmp_path / "tiny.caibundle", threads=1)
    with pytest.raises(ValueError, match="has one rate"):
        fixed.compress(np.zeros((1, 3, 64, 64), np.float32), quality=3)


def test_one_bundle_serves_all_qualities(
    pair: tuple[Lite, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path))
    place = bundle_file(NAME, None, "mse")
    assert place.name == "tiny-lite-mse.caibundle"
    assert installed_bundle(NAME, 12.5, "mse") is None
    place.parent.mkdir()
    place.write_bytes(pair[1].read_bytes())
    found = installed_bundle(NAME, 12.5, "mse")
    assert found is not None
    assert installed_bundle(NAME, 60, "mse") is found


@pytest.mark.parametrize(
    ("field", "value"), [("default", 200), ("low", "x"), ("factors", {}), ("factors", {"a": {}})]
)
def test_damaged_rates_are_refused(pair: tuple[Lite, Path], field: str, value: Any) -> None:
    bundle = Bundle.read(pair[1])
    rate = {**bundle.manifest["rate"], field: value}
    with pytest.raises(BundleError, match="rate"):
        RuntimeModel(Bundle({**bundle.manifest, "rate": rate}, bundle.contents))
