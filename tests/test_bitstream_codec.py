# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Images to coded images and back: exact, within limits, and with the right weights only."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace

import pytest
import torch
from bitstream_images import noise
from PIL import Image
from tiny_nets import tiny_net
from torch import nn

import compressai
from compressai.bitstream import (
    CodedImage,
    CodedTile,
    DamagedFileError,
    DesyncError,
    ImageData,
    ImpossibleHeaderError,
    TooLargeError,
    UnsupportedFileError,
    WrongWeightsError,
    decode_image,
    encode_image,
    fingerprint,
    hash_latent,
    read_image,
)
from compressai.bitstream._nets import latent_layout, pad_to_multiple
from compressai.bitstream.container import COLOUR_MODES

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def coded(net):
    return encode_image(net, read_image(noise(70, 40)), model="mbt2018-mean", quality=3)


# -- sizes that a file claims ---------------------------------------------------------------------


@pytest.fixture
def watched_net(net, monkeypatch):
    def decompress(*_, sync_safe=False):
        raise AssertionError("decoding began")

    monkeypatch.setattr(net, "decompress", decompress)
    return net


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": (1, 3)},
        {"shape": (2**30, 2**9)},
        {"shape": (2**20, 1, 2)},
        {"shape": (2,)},
        {"shape": ()},
        {"shape": [(1, 2), (1, 2)]},
        {"shape": {"y": (1, 2), "hyper": (1, 2)}},
        {"width": 129, "shape": (1, 2)},
        {"height": 2000, "shape": (1, 2)},
        {"tiles": (CodedTile((b"",)),)},
        {"tiles": (CodedTile((b"",) * 1000),)},
    ],
)
def test_sizes_that_contradict_each_other_are_refused_before_decoding(coded, watched_net, changes):
    with pytest.raises(ImpossibleHeaderError, match="latents of sizes"):
        decode_image(watched_net, replace(coded, **changes))


@pytest.mark.parametrize(("width", "height"), [(2**20, 2**20), (2**39, 1), (1, 2**23)])
def test_images_beyond_the_limit_are_refused_with_the_way_out(coded, watched_net, width, height):
    with pytest.raises(TooLargeError, match="raise max_pixels"):
        decode_image(watched_net, replace(coded, width=width, height=height))


def test_limit_counts_padded_pixels_and_can_be_set(net, coded):
    assert decode_image(net, coded, max_pixels=128 * 64).size == (70, 40)
    with pytest.raises(TooLargeError, match="8191"):
        decode_image(net, coded, max_pixels=128 * 64 - 1)
    with pytest.raises(ValueError, match="8191"):
        encode_image(net, read_image(noise(70, 40)), model="m", max_pixels=128 * 64 - 1)


def test_values_that_are_not_finite_are_no_image(net, coded, monkeypatch):
    out = {"x_hat": torch.full((1, 3, 64, 128), torch.nan)}
    monkeypatch.setattr(net, "decompress", lambda *_, sync_safe: out)
    with pytest.raises(DesyncError, match="not finite"):
        decode_image(net, coded)


# -- exact decoding -------------------------------------------------------------------------------

PARALLEL = [
    "bmshj2018-factorized",
    "bmshj2018-hyperprior",
    "mbt2018-mean",
    "cheng2020-anchor-checkerboard",
    "elic2022-official",
    "elic2022-chandelier",
]
AUTOREGRESSIVE = ["mbt2018", "cheng2020-anchor"]


def padded(sample):
    """To multiples of 64 (which all of these models take), by repeating the last samples."""
    height, width = sample.pixels.shape[1:]
    pixels = sample.pixels[:, :, torch.arange(width + -width % 64).clamp_max(width - 1)]
    return pixels[:, torch.arange(height + -height % 64).clamp_max(height - 1)][None]


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (130, 1), (64, 64), (70, 130)])
@pytest.mark.parametrize("model", PARALLEL)
def test_decoded_image_is_that_of_forward_in_every_bit(model, size):
    net = tiny_net(model)
    sample = read_image(noise(*size))
    content = encode_image(net, sample, model=model, sync_safe=False).to_bytes()
    decoded = decode_image(tiny_net(model), CodedImage.from_bytes(content))
    with torch.no_grad():
        if model == "bmshj2018-factorized":  # this one needs multiples of 16 only
            net_input = padded(sample)[:, :, : size[1] + -size[1] % 16, : size[0] + -size[0] % 16]
        else:
            net_input = padded(sample)
        x_hat = net(net_input)["x_hat"].clamp(0, 1)
    assert torch.equal(decoded.pixels, x_hat[0, :, : size[1], : size[0]])
    assert decoded.mode == "RGB"


@pytest.mark.parametrize("size", [(1, 70), (70, 66)])
@pytest.mark.parametrize("model", AUTOREGRESSIVE)
def test_decoded_image_is_that_of_decompress_in_every_bit(model, size):
    net = tiny_net(model)
    sample = read_image(noise(*size))
    content = encode_image(net, sample, model=model, sync_safe=False).to_bytes()
    decoded = decode_image(tiny_net(model), CodedImage.from_bytes(content))
    out = net.compress(padded(sample))
    x_hat = net.decompress(out["strings"], out["shape"])["x_hat"]
    assert torch.equal(decoded.pixels, x_hat[0, :, : size[1], : size[0]])


@pytest.mark.parametrize("model", [*PARALLEL, *AUTOREGRESSIVE])
def test_files_are_sync_safe_and_hold_a_hash_of_the_latent(model):
    net = tiny_net(model)
    sample = read_image(noise(70, 66))
    coded = CodedImage.from_bytes(encode_image(net, sample, model=model).to_bytes())
    assert coded.sync_safe
    out = net.compress(pad_to_multiple(sample.pixels[None], 64), sync_safe=True)
    if model != "bmshj2018-factorized":  # which pads to multiples of 16
        assert coded.tiles[0].y_hat_hash == hash_latent(out["y_hat"])
    net = tiny_net(model)
    decoded = decode_image(net, coded)
    strings = [[string] for string in coded.tiles[0].strings]
    width, height = (80, 80) if model == "bmshj2018-factorized" else (128, 128)
    shape, _ = latent_layout(net, width, height)
    x_hat = net.decompress(strings, shape, sync_safe=True)["x_hat"]
    assert torch.equal(decoded.pixels, x_hat[0, :, :66, :70])
    tile = replace(coded.tiles[0], y_hat_hash=b"anything")
    with pytest.raises(DesyncError, match="another one"):
        decode_image(net, replace(coded, tiles=(tile,)))
    notes = decode_image(net, replace(coded, tiles=(tile,)), best_effort=True).notes
    assert "another one" in notes[0]


def test_files_without_synchrony_have_no_hash_unless_it_is_asked_for(net):
    sample = read_image(noise(70, 40))
    plain = encode_image(net, sample, model="m", sync_safe=False)
    assert (plain.sync_safe, plain.tiles[0].y_hat_hash) == (False, b"")
    hashed = encode_image(net, sample, model="m", sync_safe=False, hash_y_hat=True)
    assert len(hashed.tiles[0].y_hat_hash) == 8
    decode_image(net, hashed)
    factorized = tiny_net("bmshj2018-factorized")  # the same on every machine as it is
    exact = encode_image(factorized, sample, model="m", sync_safe=False)
    assert len(exact.tiles[0].y_hat_hash) == 8


class Plain(nn.Module):
    """What a user's own model may be: without synchrony, and without ``y_hat``."""

    has_tables = True

    def __init__(self, net):
        super().__init__()
        self.net = net

    def compress(self, x):
        out = self.net.compress(x)
        return {"strings": out["strings"], "shape": out["shape"]}

    def decompress(self, strings, shape):
        return {"x_hat": self.net.decompress(strings, shape)["x_hat"]}


def test_models_of_other_origin_are_coded_without_synchrony(net):
    other, sample = Plain(net), read_image(noise(70, 40))
    coded = encode_image(other, sample, model="m")
    assert (coded.sync_safe, coded.tiles[0].y_hat_hash) == (False, b"")
    assert decode_image(other, coded).size == (70, 40)
    for argument in ("sync_safe", "hash_y_hat"):
        with pytest.raises(ValueError, match=f"{argument} must be False for Plain"):
            encode_image(other, sample, model="m", **{argument: True})
    with pytest.raises(UnsupportedFileError, match="sync-safe"):
        decode_image(other, replace(coded, sync_safe=True))


def test_symbols_of_the_tiny_nets_are_worth_testing(coded):
    assert len(coded.strings[0]) > 100


@pytest.mark.parametrize("mode", COLOUR_MODES)
def test_colour_mode_and_alpha_come_back(net, mode):
    image = noise(21, 34).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    coded = encode_image(net, read_image(image), model="m")
    back = decode_image(net, CodedImage.from_bytes(coded.to_bytes())).to_image()
    assert back.mode == mode
    if mode.endswith("A"):
        assert back.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_alpha_plane_of_another_size_is_refused_before_decoding(net, watched_net, coded):
    plane = ImageData(torch.zeros(3, 4, 4), Image.new("L", (4, 4))).alpha_png()
    with pytest.raises(DamagedFileError, match="alpha plane"):
        decode_image(watched_net, replace(coded, mode="RGBA", alpha=plane))


def test_images_without_pixels_are_refused(net):
    with pytest.raises(ValueError, match="0 x 4"):
        encode_image(net, ImageData(torch.zeros(3, 4, 0)), model="m")


def test_nets_with_another_entropy_coder_are_refused(net):
    other = copy.deepcopy(net)
    other.entropy_bottleneck.entropy_coder.name = "rangecoder"
    with pytest.raises(ValueError, match="rangecoder"):
        encode_image(other, read_image(noise(8, 8)), model="m")


def test_training_mode_and_missing_tables_make_no_difference():
    net, other = tiny_net("bmshj2018-factorized"), tiny_net("bmshj2018-factorized")
    coded = encode_image(net, read_image(noise(40, 30)), model="m")
    other.train()
    for name in ("_quantized_cdf", "_cdf_length", "_offset"):
        setattr(other.entropy_bottleneck, name, torch.empty(0, dtype=torch.int32))
    assert torch.equal(decode_image(other, coded).pixels, decode_image(net, coded).pixels)
    assert other.training


# -- fingerprints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_fingerprint_is_computed_as_documented(net, version):
    digest = hashlib.sha256()
    for name in sorted(net.state_dict()):
        if "g_a" not in name.split(".") and "h_a" not in name.split("."):
            value, kind = net.state_dict()[name], None
            if version == 2 and "g_s" in name.split("."):
                value, kind = value.bfloat16().view(torch.int16), "bfloat16"
            values = value.numpy()
            digest.update(f"{name} torch.{kind or values.dtype} {values.shape}\n".encode())
            digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    assert fingerprint(net, version) == digest.digest()[:8]
    with pytest.raises(ValueError, match="version"):
        fingerprint(net, 3)


def test_preparing_a_net_for_speed_leaves_its_fingerprint(net, coded):
    fast = copy.deepcopy(net)
    fast.g_s.to(dtype=torch.bfloat16, memory_format=torch.channels_last)
    fast.g_a.half()
    assert fingerprint(fast) == fingerprint(net)
    assert fingerprint(copy.deepcopy(net).double()) == fingerprint(net)
    assert fingerprint(copy.deepcopy(net).bfloat16()) != fingerprint(net)


@pytest.mark.parametrize("name", ["g_a.0.weight", "h_a.0.bias"])
def test_weights_of_the_encoder_do_not_count(net, coded, name):
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.get_parameter(name).add_(1)
    assert fingerprint(other) == fingerprint(net)
    assert torch.equal(decode_image(other, coded).pixels, decode_image(net, coded).pixels)


@pytest.mark.parametrize(
    "name", ["g_s.0.weight", "h_s.0.bias", "entropy_bottleneck._quantized_cdf"]
)
def test_other_weights_and_tables_are_refused(net, coded, name):
    other = copy.deepcopy(net)
    other.state_dict()[name].view(-1)[0] += 1
    with pytest.raises(WrongWeightsError, match="other weights of mbt2018-mean"):
        decode_image(other, coded)


def test_fingerprint_takes_every_kind_of_buffer():
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Linear(2, 2, dtype=torch.bfloat16))
    module.register_buffer("nothing", torch.empty(0, 3))
    before = fingerprint(module)
    module[0].num_batches_tracked += 1  # a number, without axes
    assert fingerprint(module) != before


@pytest.mark.parametrize("variable_bottleneck", [False, True])
def test_quality_of_a_variable_rate_model_is_its_level(variable_bottleneck: bool) -> None:
    torch.manual_seed(0)
    vbr = compressai.registry.MODELS["mbt2018-mean-vbr"]
    net = vbr(8, 12, vr_entbttlnck=variable_bottleneck).eval()
    with torch.no_grad():  # fresh networks give latents near zero
        for layer in net.g_a[::2]:
            layer.weight *= 4
    sample = ImageData(torch.rand(3, 50, 70))
    decoded = []
    for quality in (1, 8, None):
        coded = encode_image(
            net, sample, model="mbt2018-mean-vbr", quality=quality, sync_safe=False
        )
        coded = CodedImage.from_bytes(coded.to_bytes())
        level = 7 if quality is None else quality - 1
        x = pad_to_multiple(sample.pixels[None], 64)
        if variable_bottleneck:
            net.update(force=True, scale=net.Gain[level].detach())
        out = net.compress(x, s=level)
        want = net.decompress(out["strings"], out["shape"], s=level)["x_hat"][0, :, :50, :70]
        decoded.append(decode_image(net, coded).pixels)
        assert torch.equal(decoded[-1], want)
    assert not torch.equal(decoded[0], decoded[1])
    assert torch.equal(decoded[1], decoded[2])
    first = encode_image(net, sample, model="mbt2018-mean-vbr", quality=1, sync_safe=False)
    encode_image(net, sample, model="mbt2018-mean-vbr", quality=8)
    assert torch.equal(decode_image(net, first).pixels, decoded[0])
    with pytest.raises(ValueError, match="quality"):
        encode_image(net, sample, model="mbt2018-mean-vbr", quality=9)
