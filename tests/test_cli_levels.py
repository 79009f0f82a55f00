# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checkpoints of variable-rate models, whose quality is chosen when an image is coded."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image
from program import alone_in, blurred_noise, save_tiny

import compressai
import compressai.pillow
from compressai.bitstream import decode_image, read_coded
from compressai.checkpoint import save_checkpoint
from compressai.models.vbr import MeanScaleHyperpriorVbr

SIZES = {"N": 8, "M": 12}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = MeanScaleHyperpriorVbr(**SIZES).eval()
        with torch.no_grad():
            net.g_a[-1].weight.mul_(30)
    net.update()
    path = tmp_path_factory.mktemp("vbr") / "vbr.safetensors"
    save_checkpoint(path, net, architecture="mbt2018-mean-vbr", arguments=SIZES)
    return path


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    with alone_in(tmp_path, monkeypatch):
        blurred_noise((128, 64)).save("photo.png")
        yield tmp_path


def test_quality_is_the_level(run, folder, checkpoint):
    sizes = {}
    for quality in (1, 5, 8):
        target = f"{quality}.cai"
        status, out, err = run(
            *("encode", "photo.png", "-o", target, "-q", quality, "--json"),
            *("--checkpoint", checkpoint),
        )
        assert status == 0, err
        assert json.loads(out)["quality"] == quality
        sizes[quality] = json.loads(out)["bytes"]
        decode = ("decode", target, "-o", f"{quality}.png", "--checkpoint", checkpoint)
        # As below; bfloat16 gives slightly other samples.
        assert run(*decode, "--precision", "fp32")[0] == 0
        coded = read_coded(folder / target)
        expected = decode_image(compressai.load(checkpoint), coded).to_image()
        with Image.open(f"{quality}.png") as decoded:
            assert decoded.tobytes() == expected.tobytes()
    assert sizes[1] < sizes[5] < sizes[8]


def test_highest_level_is_the_default(run, checkpoint):
    for options in ((), ("-q", 8)):
        status, _, err = run(
            *("encode", "photo.png", "-o", f"{len(options)}.cai", "--checkpoint", checkpoint),
            *options,
        )
        assert status == 0, err
    one, other = (read_coded(f"{n}.cai") for n in (0, 2))
    assert one.tiles == other.tiles


def test_levels_out_of_range_and_qualities_of_other_checkpoints_are_refused(
    run, folder, checkpoint
):
    encode = ("encode", "photo.png", "--checkpoint")
    status, _, err = run(*encode, checkpoint, "-q", 9)
    assert status
    assert "quality of this model must be between 1 and 8, got 9" in err
    status, _, err = run(*encode, save_tiny(folder / "one.safetensors"), "-q", 3)
    assert status
    assert "quality must not be given with one.safetensors" in err.replace(f"{folder}/", "")
    status, _, err = run(*encode, checkpoint, "--metric", "mse")
    assert status
    assert "--metric" in err
    assert not list(folder.glob("*.cai"))


def test_pillow_saves_at_a_level(folder, checkpoint):
    with Image.open("photo.png") as photo:
        photo.save("low.cai", checkpoint=checkpoint, quality=1)
        photo.save("high.cai", checkpoint=checkpoint)
    assert (folder / "low.cai").stat().st_size < (folder / "high.cai").stat().st_size
    with Image.open("low.cai") as image:
        assert image.info["quality"] == 1
        image.load()
    with pytest.raises(ValueError, match="metric"):
        Image.new("RGB", (64, 64)).save("x.cai", checkpoint=checkpoint, metric="mse")
