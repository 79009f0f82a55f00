# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles of models with levels: files as torch has them, at each level, and no others."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import program
from tiny_nets import one_thread, tiny_net

from compressai.bitstream import (
    ImageData,
    ImpossibleHeaderError,
    decode_image,
    encode_image,
    parse_coded,
    save_image,
)
from compressai.bitstream.chosen import rates_of
from compressai.models import MeanScaleHyperpriorVbr
from compressai.models.base import ModelIdentity
from compressai.runtime import Bundle, BundleError, RuntimeModel, bundle_file, has_all_rates

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle

run = pytest.fixture(program)

NAMES = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr")
SIZES = ((64, 64), (70, 100), (130, 60))
QUALITIES = range(1, 9)


def _net(name: str) -> Any:
    net = tiny_net(name)
    net.identity = ModelIdentity(name, None, "mse")
    with torch.no_grad():
        # Gains need not ascend, and their signs do not matter.
        net.Gain[2:5] = torch.tensor([-0.3, 0.27, 0.6])
    return net


def _export(net: Any, path: Path) -> Path:
    with one_thread():
        export_bundle(net, path)
    return path


@pytest.fixture(scope="module", params=NAMES)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    net = _net(request.param)
    return net, _export(net, tmp_path_factory.mktemp("levels") / "tiny.caibundle")


@pytest.fixture(scope="module")
def with_means(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    net = _net(NAMES[1])
    return net, _export(net, tmp_path_factory.mktemp("levels") / "tiny.caibundle")


def _image(size: tuple[int, int] = (70, 100)) -> ImageData:
    return ImageData(torch.rand(3, *size, generator=torch.Generator().manual_seed(sum(size))))


def _levels(image: ImageData) -> np.ndarray:
    return np.rint(255 * np.asarray(image.pixels))


@pytest.mark.parametrize("threads", [1, 2])
def test_files_of_each_level_decode_with_and_without_torch(
    pair: tuple[Any, Path], threads: int
) -> None:
    net, path = pair
    runtime = RuntimeModel(path, threads=threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for quality in QUALITIES:
            made = dict.fromkeys((net, runtime), 0)
            for size in SIZES:
                for engine, other in ((net, runtime), (runtime, net)):
                    coded = parse_coded(
                        encode_image(engine, _image(size), quality=quality).to_bytes()
                    )
                    assert (coded.quality, type(coded.quality)) == (quality, int)
                    # Hashes of latents are compared, too.
                    decoded = [_levels(decode_image(one, coded)) for one in (engine, other)]
                    assert (np.abs(decoded[0] - decoded[1]) <= 1).mean() >= 0.9999
                    made[engine] += len(coded.tiles[0].strings[0])
            # Guards are those of the level.
            assert made[runtime] == pytest.approx(made[net], rel=0.02)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("no_offsets", [False, True])
def test_latents_are_those_of_torch_to_the_bit(tmp_path: Path, no_offsets: bool) -> None:
    net = _net(NAMES[1])
    net.no_quantoffset = no_offsets
    runtime = RuntimeModel(_export(net, tmp_path / "tiny.caibundle"), threads=1)
    x = torch.rand(1, 3, 64, 128, generator=torch.Generator().manual_seed(3))
    latents = []
    for quality in QUALITIES:
        theirs = net.compress(x, s=quality - 1, sync_safe=True)
        y, z = (step[0] for step in theirs["strings"])
        found = runtime.decompress([z, y], 64, 128, quality=quality)
        np.testing.assert_array_equal(found["y_hat"], theirs["y_hat"])
        latents.append(found["y_hat"])
    # Each level has a step of its own.
    assert all(np.abs(a - b).max() > 0.1 for a, b in itertools.pairwise(latents))


def test_qualities_that_are_no_levels_are_refused(with_means: tuple[Any, Path]) -> None:
    net, path = with_means
    runtime = RuntimeModel(path, threads=1)
    for engine in (net, runtime):
        with pytest.raises(ValueError, match="between 1 and 8, got 9"):
            encode_image(engine, _image(), quality=9)
        with pytest.raises(ValueError, match=r"must be a whole number, got 2\.5"):
            encode_image(engine, _image(), quality=2.5)
    x = np.zeros((1, 3, 64, 64), np.float32)
    with pytest.raises(ValueError, match=r"quality must be in 1 \.\.\. 8, got 0"):
        runtime.compress(x, quality=0)
    with pytest.raises(ValueError, match=r"quality must be a whole number, got 2\.5"):
        runtime.compress(x, quality=2.5)
    coded = encode_image(runtime, _image(), quality=8)
    for quality in (9, 2.5):
        told = type(coded)(**{**vars(coded), "quality": quality})
        for engine in (net, runtime):
            with pytest.raises(ImpossibleHeaderError):
                decode_image(engine, told)


def test_a_file_without_a_quality_is_of_the_highest_level(with_means: tuple[Any, Path]) -> None:
    net, path = with_means
    runtime = RuntimeModel(path, threads=1)
    assert rates_of(runtime) == rates_of(net) == QUALITIES
    for engine, other in ((net, runtime), (runtime, net)):
        coded = parse_coded(encode_image(engine, _image()).to_bytes())
        assert coded.quality is None
        strings = coded.tiles[0].strings
        assert strings == encode_image(engine, _image(), quality=8).tiles[0].strings
        decode_image(other, coded)


def test_bundle_says_by_its_version_that_it_has_levels(with_means: tuple[Any, Path]) -> None:
    manifest = Bundle.read(with_means[1]).manifest
    assert manifest["version"] == 2
    assert manifest["rate"]["whole"] is True


@pytest.mark.parametrize(
    ("field", "value"),
    [("default", 2.5), ("low", 2), ("high", 9), ("whole", False), ("factors", {"gain": {}})],
)
def test_damaged_levels_are_refused(with_means: tuple[Any, Path], field: str, value: Any) -> None:
    bundle = Bundle.read(with_means[1])
    rate = {**bundle.manifest["rate"], field: value}
    with pytest.raises(BundleError, match="rate"):
        RuntimeModel(Bundle({**bundle.manifest, "rate": rate}, bundle.contents))


def test_program_takes_the_bundle_for_each_level(
    with_means: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    name = NAMES[1]
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "home"))
    place = bundle_file(name, None, "mse")
    place.parent.mkdir(parents=True)
    place.write_bytes(with_means[1].read_bytes())
    assert has_all_rates(name, "mse")
    photo, coded, decoded = (tmp_path / name for name in ("a.png", "a.cai", "b.png"))
    save_image(_image(), photo)
    sizes = {}
    for asked, told in ((("-q", "8"), 8), ((), 3), (("-q", "1"), 1)):
        code, out, err = run(
            "encode", "--json", "--overwrite", "--model", name, *asked, photo, coded
        )
        assert (code, err) == (0, "")
        found = json.loads(out)
        assert (found["engine"], found["quality"]) == ("runtime", told)
        sizes[told] = found["bytes"]
        code, out, err = run("decode", "--json", "--overwrite", coded, decoded)
        assert (code, err, json.loads(out)["engine"]) == (0, "", "runtime")
    assert sizes[8] > sizes[3] > sizes[1]
    most = (sizes[1] + sizes[8]) // 2
    code, out, err = run(
        *("encode", "--json", "--overwrite", "--model", name, "--target-bytes", most, photo, coded)
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["engine"] == "runtime"
    assert sizes[1] <= found["bytes"] <= most
    code, _, err = run("encode", "--overwrite", "--model", name, "-q", "9", photo, coded)
    assert (code, "between 1 and 8, got 9" in err) == (1, True)


def test_tables_of_each_level_are_refused_by_name(tmp_path: Path) -> None:
    net = MeanScaleHyperpriorVbr(4, 6, vr_entbttlnck=True).eval()
    net.identity = ModelIdentity(NAMES[1], None, "mse")
    with pytest.raises(ValueError, match="each of its levels has tables and a fingerprint"):
        export_bundle(net, tmp_path / "no.caibundle")
    assert not list(tmp_path.iterdir())
