# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Of a damaged tile, or an image without tiles, the parts before the damage are kept."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from bitstream_images import header_end, noise
from PIL import Image
from program import PHOTO
from slice_nets import small_net
from tiny_nets import tiny_net

from compressai.bitstream import (
    ChecksumError,
    DamagedFileError,
    DesyncError,
    TruncatedFileError,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
)
from compressai.models import get_scale_table
from compressai.registry import MODELS
from compressai.zoo import lite

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def photo():
    with Image.open(PHOTO) as image:
        return read_image(image.convert("RGB").crop((100, 60, 292, 188)))


@pytest.fixture(scope="module")
def net():
    # At lower qualities the last slice is a few bytes, and cannot be damaged within.
    return lite(quality=3, metric="mse", pretrained=True).eval()


@pytest.fixture(scope="module")
def coded(net, photo):
    return encode_image(net, photo)


def string_ends(coded):
    """Where the strings of an image without tiles end, in the order of the file: z first."""
    *parts, hyper = coded.tiles[0].strings
    end = len(coded.to_bytes()) - 4  # the checksum
    ends = [end]
    for string in reversed(parts):
        ends.append(ends[-1] - len(string))
    assert ends[-1] - len(hyper) > header_end(coded.to_bytes()) + 4
    return ends[::-1]


def psnr(one, other):
    return -10 * math.log10(float((one.pixels - other.pixels).square().mean()))


def salvaged(net, content):
    return decode_image(net, parse_coded(content, best_effort=True), best_effort=True)


@pytest.mark.parametrize("damage", ["changed", "cut"])
def test_slices_before_the_damage_make_the_image(net, photo, coded, damage):
    content, ends = coded.to_bytes(), string_ends(coded)
    qualities = []
    for kept, end in enumerate(ends[:-1]):
        broken = bytearray(content)
        broken[end + 9] ^= 4
        broken = bytes(broken) if damage == "changed" else content[: end + 9]
        with pytest.raises(ChecksumError if damage == "changed" else TruncatedFileError):
            parse_coded(broken)
        sample = salvaged(net, broken)
        (note,) = sample.notes
        assert f"{kept} of its 5 parts are left, the others are estimated" in note
        assert ("checksum does not match" if damage == "changed" else "truncated") in note
        *parts, hyper = coded.tiles[0].strings
        strings = [*parts[:kept], *[None] * (5 - kept), hyper]
        shape = net.compress(photo.pixels[None])["shape"]
        expected = net.decompress([[string] for string in strings], shape, sync_safe=True)
        assert torch.equal(sample.pixels, expected["x_hat"][0])
        qualities.append(psnr(sample, photo))
    qualities.append(psnr(decode_image(net, coded), photo))
    assert qualities == sorted(qualities)
    flat = replace(photo, pixels=photo.pixels.mean((1, 2), keepdim=True).expand_as(photo.pixels))
    assert qualities[1] > psnr(flat, photo) + 1
    assert qualities[-1] > qualities[0] + 5


def test_without_the_hyper_latent_nothing_is_left(net, coded):
    content, first = coded.to_bytes(), string_ends(coded)[0]
    changed = bytearray(content)
    changed[first - 9] ^= 1
    for broken in (bytes(changed), content[: first - 1], content[: header_end(content) + 9]):
        with pytest.raises(DamagedFileError, match="nothing is left"):
            salvaged(net, broken)


def test_a_damaged_checksum_or_hash_costs_nothing(net, coded):
    content = bytearray(coded.to_bytes())
    whole = decode_image(net, coded)
    content[-1] ^= 1
    sample = salvaged(net, bytes(content))
    assert sample.notes[0].endswith("all of it decodes")
    assert torch.equal(sample.pixels, whole.pixels)
    content = bytearray(coded.to_bytes())
    content[header_end(content) + 4] ^= 1
    sample = salvaged(net, bytes(content))
    assert sample.notes[0].endswith("maybe not as coded")
    assert torch.equal(sample.pixels, whole.pixels)


def test_a_part_that_this_machine_cannot_follow_is_lost_with_those_after_it(net, coded):
    *parts, hyper = coded.tiles[0].strings
    tile = replace(coded.tiles[0], strings=(parts[0], parts[2], parts[1], *parts[3:], hyper))
    content = replace(coded, tiles=(tile,)).to_bytes()
    with pytest.raises(DesyncError):
        decode_image(net, parse_coded(content))
    (note,) = salvaged(net, content).notes
    assert "decodes to something else here" in note
    assert "1 of its 5 parts are left" in note


def test_only_the_damaged_tile_is_estimated(net, photo):
    coded = encode_image(net, photo, tile=128, tile_overlap=32)
    whole = decode_image(net, coded)
    content = coded.to_bytes()
    sample = salvaged(net, content[:-30])
    assert "parts are left" in sample.notes[0]
    assert torch.equal(sample.pixels[..., :96], whole.pixels[..., :96])
    difference = (sample.pixels - whole.pixels)[..., 128:].abs()
    assert 0 < float(difference.mean()) < 0.1  # not grey


def lively_vbr():
    torch.manual_seed(0)
    net = MODELS["mbt2018-mean-vbr"](4, 6).eval()
    with torch.no_grad():
        net.g_a[6].weight.mul_(12)
    net.update(scale_table=get_scale_table(0.11, 16, 12))
    return net


NETS = {
    **{
        name: lambda name=name: tiny_net(name)
        for name in (
            "bmshj2018-hyperprior",
            "mbt2018-mean",
            "mbt2018",
            "cheng2020-anchor-checkerboard",
            "elic2022-official",
        )
    },
    "cca": lambda: small_net("cca"),
    "mbt2018-mean-vbr": lively_vbr,
}


@pytest.mark.parametrize("sync_safe", [True, False])
@pytest.mark.parametrize("name", NETS)
def test_every_model_with_a_hyperprior_estimates_what_is_lost(name, sync_safe):
    net = NETS[name]()
    coded = encode_image(net, read_image(noise(90, 70)), model=name, sync_safe=sync_safe)
    content, ends = coded.to_bytes(), string_ends(coded)
    count = len(ends) - 1
    for kept, end in enumerate(ends[:-1]):
        sample = salvaged(net, content[: end + 3])
        assert sample.size == (90, 70)
        assert f"{kept} of its {count} parts" in sample.notes[0]
