# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coding without torch: the same latents to the bit, the same images to a level, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slice_nets import small_net
from tiny_nets import one_thread, tiny_net
from torch import nn

from compressai import zoo
from compressai.bitstream import (
    BitstreamError,
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
SLOW = ("cca", "tcm", "wacnn")
SIZES = ((64, 64), (128, 192), (256, 128))


def _net(name: str) -> nn.Module:
    if name.startswith("lite"):
        return zoo.image_models[name](3, pretrained=True).eval()
    net = small_net(name) if name in SLOW else tiny_net(name)
    net.identity = ModelIdentity(name, 1, "mse")
    return net


@pytest.fixture(
    scope="module", params=[*NETS, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """A model, and its bundle."""
    net = _net(request.param)
    path = tmp_path_factory.mktemp("runtime") / f"{request.param}.caibundle"
    with one_thread():
        export_bundle(net, path)
    return net, path


def _image(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(sum(size)))
    height, width = size
    coarse = rng.random((1, 3, height // 16, width // 16), dtype=np.float32)
    fine = rng.random((1, 3, height, width), dtype=np.float32)
    return 0.8 * coarse.repeat(16, 2).repeat(16, 3) + 0.2 * fine


def _equal_images(a: np.ndarray, b: np.ndarray) -> None:
    apart = np.abs(np.rint(255 * a) - np.rint(255 * b))
    assert (apart <= 1).mean() >= 0.9999


@pytest.mark.parametrize("threads", [1, 2])
def test_strings_decode_to_the_same_latent_with_and_without_torch(
    pair: tuple[Any, Path], threads: int
) -> None:
    net, path = pair
    runtime = RuntimeModel(path, threads=threads)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for size in SIZES:
            x = _image(size)
            theirs = net.compress(torch.from_numpy(x), sync_safe=True)
            *y, z = (step[0] for step in theirs["strings"])
            found = runtime.decompress([z, *y], *size)
            np.testing.assert_array_equal(found["y_hat"], theirs["y_hat"])
            expected = net.decompress(theirs["strings"], theirs["shape"], sync_safe=True)
            _equal_images(found["x_hat"], expected["x_hat"].numpy())

            ours = runtime.compress(x)
            z, *y = ours["strings"]
            strings = [[string] for string in (*y, z)]
            decoded = net.decompress(strings, theirs["shape"], sync_safe=True)
            np.testing.assert_array_equal(decoded["y_hat"], ours["y_hat"])
            assert np.abs(ours["y_hat"]).max() > 0
    finally:
        torch.set_num_threads(before)


def test_lost_strings_leave_what_the_networks_expect(pair: tuple[Any, Path]) -> None:
    net, path = pair
    runtime = RuntimeModel(path, threads=1)
    out = runtime.compress(_image((64, 64)))
    z, *y = out["strings"]
    kept = [z, *[None] * len(y)]
    shape = net.compress(torch.zeros(1, 3, 64, 64))["shape"]
    strings = [[string] for string in (*[None] * len(y), z)]
    theirs = net.decompress(strings, shape, sync_safe=True)
    found = runtime.decompress(kept, 64, 64)
    # Nothing was told of how to round, so that values may fall on either side.
    assert np.abs(found["y_hat"] - theirs["y_hat"].numpy()).max() <= 0.125


def test_damaged_strings_and_images_of_other_sizes_are_refused(pair: tuple[Any, Path]) -> None:
    _, path = pair
    runtime = RuntimeModel(path, threads=1)
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


def test_files_have_tiles_regions_and_damage_alike(pair: tuple[Any, Path]) -> None:
    net, path = pair
    runtime = RuntimeModel(path, threads=1)
    pixels = _image((192, 256))[0, :, :150, :200]
    for coder, image in ((net, torch.from_numpy(pixels)), (runtime, pixels)):
        content = encode_image(coder, ImageData(image), tile=128, tile_overlap=16).to_bytes()
        coded = parse_coded(content)
        assert len(coded.tiles) == 4
        whole = [np.asarray(decode_image(one, coded).pixels) for one in (net, runtime)]
        _equal_images(*whole)
        region = (90, 100, 60, 40)
        part = np.asarray(decode_image(runtime, coded, region=region).pixels)
        np.testing.assert_array_equal(part, whole[1][:, 100:140, 90:150])
        for place in (len(content) - 20, len(content) // 2):
            damaged = bytearray(content)
            damaged[place] ^= 16
            found = []
            for one in (net, runtime):
                with pytest.raises(BitstreamError) as error:
                    decode_image(one, parse_coded(bytes(damaged)))
                found.append(type(error.value))
            assert found[0] is found[1]
            salvaged = [
                decode_image(one, parse_coded(bytes(damaged), best_effort=True), best_effort=True)
                for one in (net, runtime)
            ]
            assert salvaged[0].notes == salvaged[1].notes != []
