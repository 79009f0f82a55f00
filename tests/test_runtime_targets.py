# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Sizes and qualities that the user names, met with bundles, without torch."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from program import PHOTO, program
from test_runtime_rates import net_of_any_rate
from tiny_nets import one_thread

from compressai.bitstream import ImageData, decode_image, encode_image, read_coded, read_image
from compressai.bitstream.chosen import ChosenModel, Ladder, ladder_of_bundles
from compressai.model_choice import Chooser
from compressai.runtime import (
    Bundle,
    BundleError,
    RuntimeModel,
    bundle_file,
    has_all_rates,
)
from compressai.runtime.networks import OnnxNetworks
from compressai.targets import Target, encode_to_target

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle

run = pytest.fixture(program)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("targets") / "tiny.caibundle"
    with one_thread():
        export_bundle(net_of_any_rate(), path)
    return path.read_bytes()


def photo() -> ImageData:
    with Image.open(PHOTO) as image:
        return read_image(image.convert("RGB").crop((150, 60, 342, 252)), as_array=True)


@pytest.mark.parametrize("target", [Target("bytes", 1400), Target("psnr", 31), Target("bpp", 0.4)])
def test_weights_that_ship_reach_what_they_reach_with_torch(target: Target) -> None:
    ladder = ladder_of_bundles("lite", "mse", threads=1)
    assert ladder is not None
    assert ladder.is_scale
    found = encode_to_target(photo(), target, ladder)
    theirs = Chooser(model="lite", precision="fp32").ladder()
    with one_thread():
        other = encode_to_target(photo(), target, theirs).quality
    # Prepared networks round otherwise, so that few symbols are others.
    assert found.quality == pytest.approx(other, abs=0.1)


class Counted(OnnxNetworks):
    """Networks that tell how often each runs."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle, 1)
        self.runs: list[str] = []

    def __getitem__(self, name: str) -> Any:
        def run(values: Any) -> Any:
            self.runs.append(name)
            return network(values)

        network = super().__getitem__(name)
        return run


def test_scale_is_searched_with_one_analysis_of_each_tile(content: bytes) -> None:
    bundle = Bundle.read(content)
    networks = Counted(bundle)
    model = RuntimeModel(bundle, networks=networks)
    chosen = ChosenModel(model, "tiny-lite", None, "mse")
    ladder = Ladder(lambda quality: dataclasses.replace(chosen, quality=quality), None)
    assert ladder.is_scale
    assert ladder.qualities == tuple(map(float, range(101)))
    image = photo()
    sizes = [len(encode_image(model, image, quality=q, tile=128).to_bytes()) for q in (40, 41)]
    networks.runs.clear()
    limit = sum(sizes) // 2
    coded = encode_to_target(image, Target("bytes", limit), ladder, tile=128)
    assert 0.99 * limit <= len(coded.to_bytes()) <= limit
    assert 40 <= coded.quality < 41
    assert len(coded.tiles) == 4
    assert networks.runs.count("g_a") == 4
    assert networks.runs.count("h_a") >= 5 * 4
    # Other pixels are analysed anew, and the same file comes of the model itself.
    again = encode_image(model, image, quality=coded.quality, tile=128)
    assert again.tiles == coded.tiles
    decode_image(model, coded)


def test_qualities_at_hand(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path))
    assert has_all_rates("lite", "mse")
    assert not has_all_rates("nobody", "mse")
    assert ladder_of_bundles("nobody", "mse") is None
    # Floats that are coded plainly need torch.
    assert ladder_of_bundles("lite", "mse", plain=True) is None
    place = bundle_file("nobody", None, "mse")
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    assert has_all_rates("nobody", "mse")
    place.write_bytes(content[:-1000])
    with pytest.raises(BundleError):
        ladder_of_bundles("nobody", "mse")


def test_program_meets_targets_without_torch(tmp_path: Path) -> None:
    program = """
import sys
from compressai.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    print(stop.code or 0, [name for name in ("torch", "scipy") if name in sys.modules])
"""
    for target, value in (("bytes", 5000), ("psnr", 32)):
        words = ["encode", PHOTO, tmp_path / f"{target}.cai", "--model", "lite", "--json"]
        words += [f"--target-{target}", value]
        done = subprocess.run(
            [sys.executable, "-c", program, *map(str, words)],
            capture_output=True,
            text=True,
            check=True,
        )
        report, told, _ = done.stdout.split("\n")
        assert told == "0 []"
        assert json.loads(report)["engine"] == "runtime"
    assert (tmp_path / "bytes.cai").stat().st_size <= 5000
    coded = read_coded(tmp_path / "psnr.cai")
    with Image.open(PHOTO) as image:
        source = np.asarray(image.convert("RGB"), float)
    chosen = Chooser(model="lite", quality=coded.quality, precision="fp32")()
    decoded = np.asarray(decode_image(chosen.net, coded).to_image(), float)
    assert 20 * np.log10(255) - 10 * np.log10(np.square(source - decoded).mean()) >= 32


def test_program_tells_what_needs_torch(run: Any, tmp_path: Path) -> None:
    words = ("encode", PHOTO, tmp_path / "a.cai", "--engine", "runtime")
    status, _, err = run(*words, "--target-ms-ssim", 0.9)
    assert (status, "neither --effort nor --target-ms-ssim" in " ".join(err.split())) == (2, True)
    status, _, err = run(*words, "--model", "mbt2018-mean", "--target-bytes", 900)
    assert (status, "a target needs a bundle of all qualities" in err) == (1, True)
