# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coding without torch: the same latents to the bit, the same images to a level, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from slice_nets import small_net
from tiny_nets import one_thread, tiny_net
from torch import nn

from compressai import zoo
from compressai.bitstream import (
    BitstreamError,
    CodedImage,
    ImageData,
    decode_image,
    encode_image,
    parse_coded,
)
from compressai.models.base import ModelIdentity
from compressai.runtime import RuntimeModel

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle

NETS = ("lite", "lite-integer", "mbt2018-mean", "bmshj2018-hyperprior", "bmshj2018-factorized")
LEVELS = ("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr")
SLOW = ("cca", "tcm", "wacnn")
SIZES = ((64, 64), (128, 192), (256, 128))
# Of images: one tile, two beside each other, and two below each other.
IMAGES = ((50, 64), (100, 140), (140, 100))


class Pair(NamedTuple):
    """A model, its bundle, and how each of both is told a rate that is not the default."""

    net: Any
    path: Path
    theirs: dict[str, Any]
    ours: dict[str, Any]


def _net(name: str) -> nn.Module:
    if name.startswith("lite"):
        return zoo.image_models[name](3, pretrained=True).eval()
    net = small_net(name) if name in SLOW else tiny_net(name)
    net.identity = ModelIdentity(name, None if name in LEVELS else 1, "mse")
    return net


@pytest.fixture(
    scope="module",
    params=[*NETS, *LEVELS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)],
)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    name = request.param
    net = _net(name)
    path = tmp_path_factory.mktemp("runtime") / f"{name}.caibundle"
    with one_thread():
        export_bundle(net, path)
    return Pair(net, path, *(({"s": 4}, {"quality": 5}) if name in LEVELS else ({}, {})))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """As many threads, of torch and of onnxruntime."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def _image(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(sum(size)))
    height, width = size
    coarse = rng.random((1, 3, height // 16, width // 16), dtype=np.float32)
    fine = rng.random((1, 3, height, width), dtype=np.float32)
    return 0.8 * coarse.repeat(16, 2).repeat(16, 3) + 0.2 * fine


def _equal_images(a: np.ndarray, b: np.ndarray) -> None:
    apart = np.abs(np.rint(255 * a) - np.rint(255 * b))
    assert (apart <= 1).mean() >= 0.9999


def test_strings_decode_to_the_same_latent_with_and_without_torch(pair: Pair, threads: int) -> None:
    runtime = RuntimeModel(pair.path, threads=threads)
    for size in SIZES:
        x = _image(size)
        theirs = pair.net.compress(torch.from_numpy(x), **pair.theirs, sync_safe=True)
        *y, z = (step[0] for step in theirs["strings"])
        found = runtime.decompress([z, *y], *size, **pair.ours)
        np.testing.assert_array_equal(found["y_hat"], theirs["y_hat"])
        expected = pair.net.decompress(
            theirs["strings"], theirs["shape"], **pair.theirs, sync_safe=True
        )
        _equal_images(found["x_hat"], expected["x_hat"].numpy())

        ours = runtime.compress(x, **pair.ours)
        z, *y = ours["strings"]
        strings = [[string] for string in (*y, z)]
        decoded = pair.net.decompress(strings, theirs["shape"], **pair.theirs, sync_safe=True)
        np.testing.assert_array_equal(decoded["y_hat"], ours["y_hat"])
        assert np.abs(ours["y_hat"]).max() > 0


def test_lost_strings_leave_what_the_networks_expect(pair: Pair) -> None:
    runtime = RuntimeModel(pair.path, threads=1)
    out = runtime.compress(_image((64, 64)), **pair.ours)
    z, *y = out["strings"]
    kept = [z, *[None] * len(y)]
    shape = pair.net.compress(torch.zeros(1, 3, 64, 64))["shape"]
    strings = [[string] for string in (*[None] * len(y), z)]
    theirs = pair.net.decompress(strings, shape, **pair.theirs, sync_safe=True)
    found = runtime.decompress(kept, 64, 64, **pair.ours)
    # Nothing was told of how to round, so that values may fall on either side.
    assert np.abs(found["y_hat"] - theirs["y_hat"].numpy()).max() <= 0.125


def test_damaged_strings_and_images_of_other_sizes_are_refused(pair: Pair) -> None:
    runtime = RuntimeModel(pair.path, threads=1)
    strings = runtime.compress(_image((64, 128)))["strings"]
    for damaged in ([strings[0][:-4], *strings[1:]], [*strings[:-1], strings[-1] + bytes(8)]):
        with pytest.raises(ValueError, match=r"string|finished|end"):
            runtime.decompress(damaged, 64, 128)
    with pytest.raises(ValueError, match="strings must be"):
        runtime.decompress(strings[1:], 64, 128)
    with pytest.raises(ValueError, match="multiples of"):
        runtime.decompress(strings, 64, 100)
    with pytest.raises(ValueError, match="multiples of"):
        runtime.compress(np.zeros((1, 3, 60, 64), dtype=np.float32))
    with pytest.raises(ValueError, match="finite"):
        runtime.compress(np.full((1, 3, 64, 64), np.nan, dtype=np.float32))


def _pixels(size: tuple[int, int]) -> np.ndarray:
    height, width = size
    return _image((height + -height % 16, width + -width % 16))[0, :, :height, :width]


def test_files_have_tiles_and_regions_alike(pair: Pair, threads: int) -> None:
    runtime = RuntimeModel(pair.path, threads=threads)
    engines = (pair.net, runtime)
    for height, width in IMAGES:
        pixels = _pixels((height, width))
        region = (width // 2, height // 3, width // 4, height // 2)
        x, y, right, bottom = *region[:2], region[0] + region[2], region[1] + region[3]
        for coder, image in zip(engines, (torch.from_numpy(pixels), pixels)):
            made = encode_image(coder, ImageData(image), **_told(pair), tile=128, tile_overlap=16)
            coded = parse_coded(made.to_bytes())
            assert len(coded.tiles) == -(-(height - 16) // 112) * -(-(width - 16) // 112)
            # Hashes of latents are compared, too.
            whole = [np.asarray(decode_image(one, coded).pixels) for one in engines]
            _equal_images(*whole)
            theirs, ours = (
                np.asarray(decode_image(one, coded, region=region).pixels) for one in engines
            )
            np.testing.assert_array_equal(ours, whole[1][:, y:bottom, x:right])
            _equal_images(ours, theirs)


def _told(pair: Pair) -> dict[str, Any]:
    """What a file says of the rate, as for ``encode_image``."""
    return {"model": pair.net.identity.model, "metric": "mse", **pair.ours} if pair.ours else {}


def test_damaged_files_are_told_alike(pair: Pair, threads: int) -> None:
    runtime = RuntimeModel(pair.path, threads=threads)
    engines = (pair.net, runtime)
    for number, size in enumerate(IMAGES):
        coder = engines[number % 2]
        pixels: Any = _pixels(size)
        image = ImageData(pixels if coder is runtime else torch.from_numpy(pixels))
        content = encode_image(coder, image, tile=128, tile_overlap=16).to_bytes()
        damaged = bytearray(content)
        damaged[len(content) // 2 if number == 1 else len(content) - 20] ^= 16
        found = []
        for one in engines:
            with pytest.raises(BitstreamError) as error:
                decode_image(one, parse_coded(bytes(damaged)))
            found.append(type(error.value))
        assert found[0] is found[1]
        coded = parse_coded(bytes(damaged), best_effort=True)
        salvaged = [_salvaged(one, coded) for one in engines]
        assert salvaged[0] == salvaged[1]
        assert salvaged[0]


def _salvaged(engine: Any, coded: CodedImage) -> Any:
    """What is told of what is left, or the error if nothing is."""
    try:
        return decode_image(engine, coded, best_effort=True).notes
    except BitstreamError as error:
        return type(error)
