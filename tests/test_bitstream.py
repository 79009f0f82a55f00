# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded pictures: what is written is read, what is damaged is refused, what decodes is exact."""

from __future__ import annotations

import copy
import hashlib
import zlib
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_nets import one_thread, tiny_net
from torch import nn

import compressai
from compressai.bitstream import (
    BitstreamError,
    CodedPicture,
    DamagedFileError,
    LegacyPicture,
    Picture,
    UnsupportedFileError,
    WrongWeightsError,
    decode_picture,
    encode_picture,
    fingerprint,
    parse_coded,
    read_coded,
    read_picture,
)
from compressai.bitstream.codec import pad_to_multiple
from compressai.bitstream.container import COLOUR_MODES, MAGIC
from compressai.bitstream.legacy import MODEL_IDS
from compressai.ops import compute_padding

CORPUS = Path(__file__).parent / "corpus"
FUZZING = settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def noise(width, height, channels=3):
    rng = np.random.Generator(np.random.PCG64(width * 1000 + height))
    smooth = Image.fromarray(rng.integers(0, 256, (4, 4, channels), dtype=np.uint8))
    return smooth.resize((width, height), Image.Resampling.BICUBIC)


def with_checksum(content):
    """The content with a checksum that fits, so that what comes after that check is tried."""
    return bytes(content[:-4]) + zlib.crc32(content[:-4]).to_bytes(4, "little")


@pytest.fixture(scope="module", autouse=True)
def _threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def net():
    return tiny_net("mbt2018-mean")


@pytest.fixture(scope="module")
def coded(net):
    return encode_picture(net, read_picture(noise(70, 40)), model="mbt2018-mean", quality=3)


# -- the container --------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8"), max_size=20).filter(str.isprintable)
sizes = st.lists(st.integers(0, 2**40 - 1), max_size=4).map(tuple)
trees = st.recursive(
    sizes,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3), st.dictionaries(names, inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def coded_pictures(draw):
    mode = draw(st.sampled_from(COLOUR_MODES))
    return CodedPicture(
        model=draw(names),
        quality=draw(st.none() | st.integers(1, 255)),
        metric=draw(st.sampled_from([None, "mse", "ms-ssim"])),
        random_weights=draw(st.booleans()),
        fingerprint=draw(st.binary(min_size=8, max_size=8)),
        width=draw(st.integers(1, 2**40 - 1)),
        height=draw(st.integers(1, 2**40 - 1)),
        mode=mode,
        shape=draw(trees),
        strings=tuple(draw(st.lists(st.binary(max_size=300), max_size=4))),
        alpha=draw(st.binary(min_size=1, max_size=200)) if mode.endswith("A") else b"",
    )


def depth(tree):
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return 1 + max(map(depth, inner), default=0)


@FUZZING
@given(coded_pictures())
def test_whatever_is_written_is_read_back(picture):
    if depth(picture.shape) > 5:
        with pytest.raises(ValueError, match="levels deep"):
            picture.to_bytes()
        return
    assert CodedPicture.from_bytes(picture.to_bytes()) == picture


def test_layout_of_version_1_is_as_documented(coded):
    content = coded.to_bytes()
    header = b"".join(
        (
            b"\x0cmbt2018-mean\x03\xff" + coded.fingerprint,
            b"\x46\x28\x03RGB",
            b"\x00\x02\x01\x02",  # z: 1 x 2
        )
    )
    y, z = coded.strings
    expected = b"\x93CAI\x01\x00" + len(header).to_bytes(2, "little") + header + b"\x02"
    expected += bytes((len(y) & 127 | 128, len(y) >> 7)) if len(y) > 127 else bytes((len(y),))
    expected += y + bytes((len(z),)) + z + b"\x00"
    assert content == expected + zlib.crc32(expected).to_bytes(4, "little")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("metric", "psnr"),
        ("quality", 0),
        ("quality", 256),
        ("mode", "CMYK"),
        ("mode", "RGBA"),  # without alpha
        ("alpha", b"x"),  # without RGBA
        ("fingerprint", b"short"),
        ("width", 0),
        ("height", 2**40),
        ("model", "line\nbreak"),
        ("model", "x" * 256),
        ("shape", [[[[[(1, 1)]]]]]),
        ("shape", (2**40, 1)),
        ("shape", tuple(range(70_000))),
    ],
)
def test_writer_refuses_what_no_reader_takes(coded, field, value):
    with pytest.raises(ValueError):
        replace(coded, **{field: value}).to_bytes()


def test_reader_refuses_every_truncation(coded):
    content = coded.to_bytes()
    for length in range(len(content)):
        with pytest.raises(BitstreamError):
            CodedPicture.from_bytes(content[:length])
        if length > 12:
            with pytest.raises(DamagedFileError):
                CodedPicture.from_bytes(with_checksum(content[:length]))


def test_reader_refuses_every_changed_byte(coded):
    content = coded.to_bytes()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x10
        with pytest.raises(BitstreamError):
            CodedPicture.from_bytes(bytes(changed))


def test_reader_tells_other_files_from_damaged_and_later_ones(coded):
    content = coded.to_bytes()
    with pytest.raises(DamagedFileError, match="empty"):
        CodedPicture.from_bytes(b"")
    with pytest.raises(UnsupportedFileError, match=r"no \.cai file"):
        CodedPicture.from_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UnsupportedFileError, match="version 2"):
        CodedPicture.from_bytes(content[:4] + b"\2" + content[5:])
    with pytest.raises(UnsupportedFileError, match="0x03"):
        CodedPicture.from_bytes(with_checksum(content[:5] + b"\3" + content[6:]))
    with pytest.raises(DamagedFileError, match="checksum"):
        CodedPicture.from_bytes(content[:-1])


def test_reader_skips_what_later_headers_may_add(coded):
    content = coded.to_bytes()
    length = int.from_bytes(content[6:8], "little")
    longer = (length + 5).to_bytes(2, "little")
    extended = content[:6] + longer + content[8 : 8 + length] + b"later" + content[8 + length :]
    assert CodedPicture.from_bytes(with_checksum(extended)) == coded


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (b"\0more", "4 bytes too many"),
        (b"\1x", "contradict"),  # an alpha plane, in mode RGB
        (b"\x80" * 20 + b"\0", "impossibly large"),
        (b"\xff\xff\xff\xff\xff\x1f", "bytes are announced"),
        (b"\xff\xff\xff\xff\xff\x3f", "impossibly large"),
    ],
)
def test_reader_refuses_other_ends_behind_a_fitting_checksum(coded, end, message):
    content = coded.to_bytes()
    assert content[-5:-4] == b"\0"  # no alpha plane
    with pytest.raises(DamagedFileError, match=message):
        CodedPicture.from_bytes(with_checksum(content[:-5] + end + b"...."))


def test_reader_refuses_sizes_that_name_a_part_twice(coded):
    content = replace(coded, shape={"aaa": (1,), "bbb": (1,)}).to_bytes()
    with pytest.raises(DamagedFileError, match="twice"):
        CodedPicture.from_bytes(with_checksum(content.replace(b"bbb", b"aaa")))


def test_reader_refuses_transparent_modes_without_a_plane(coded):
    content = replace(coded, mode="RGBA", alpha=b"x").to_bytes()
    with pytest.raises(DamagedFileError, match="contradict"):
        CodedPicture.from_bytes(with_checksum(content[:-6] + b"\0...."))


@pytest.mark.parametrize("name", [b"\x1b[2J", b"\xff\xfe", b"a\0b"])
def test_reader_refuses_names_that_a_terminal_must_not_show(coded, name):
    content = replace(coded, model="n" * len(name)).to_bytes()
    with pytest.raises(DamagedFileError, match="name"):
        CodedPicture.from_bytes(with_checksum(content.replace(b"n" * len(name), name)))


@FUZZING
@given(st.binary(max_size=400), st.sampled_from([b"", MAGIC, MAGIC + b"\1\0", b"\3\0\0\0\0"]))
def test_any_bytes_are_a_picture_or_a_bitstream_error(content, start):
    for candidate in (start + content, with_checksum(start + content)):
        try:
            parse_coded(candidate)
        except BitstreamError:
            continue


@st.composite
def damages(draw, length):
    """Some bytes of a file of that length, replaced, inserted or removed."""
    position = draw(st.integers(0, length - 5))
    removed = draw(st.integers(0, 4))
    return position, removed, draw(st.binary(max_size=4))


@FUZZING
@given(st.data())
def test_damage_behind_a_fitting_checksum_is_a_picture_or_a_bitstream_error(net, coded, data):
    content = bytearray(coded.to_bytes())
    for position, removed, inserted in data.draw(st.lists(damages(len(content)), max_size=3)):
        content[position : position + removed] = inserted
    try:
        again = CodedPicture.from_bytes(with_checksum(content))
        picture = decode_picture(net, again)
    except BitstreamError:
        return
    assert picture.size == (again.width, again.height)
    assert bool(((picture.pixels >= 0) & (picture.pixels <= 1)).all())


@pytest.mark.parametrize("model", ["bmshj2018-factorized", "cheng2020-anchor-checkerboard"])
def test_damaged_strings_are_a_picture_or_a_damaged_file(model):
    net = tiny_net(model)
    coded = encode_picture(net, read_picture(noise(64, 64)), model=model)
    rng = np.random.Generator(np.random.PCG64(1))
    refused = 0
    for step, string in enumerate(coded.strings):
        for _ in range(12):
            changed = bytearray(string)
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
            strings = [*coded.strings]
            strings[step] = bytes(changed)[: rng.integers(1, 2 * len(changed))]
            try:
                decode_picture(net, replace(coded, strings=tuple(strings)))
            except DamagedFileError:
                refused += 1
    assert refused > 5 * len(coded.strings)


# -- sizes that a file claims ---------------------------------------------------------------------


@pytest.fixture
def watched_net(net, monkeypatch):
    def decompress(*_):
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
        {"width": 129},
        {"height": 2000},
        {"strings": (b"",)},
        {"strings": (b"",) * 1000},
    ],
)
def test_sizes_that_contradict_each_other_are_refused_before_decoding(coded, watched_net, changes):
    with pytest.raises(DamagedFileError, match="latents of sizes"):
        decode_picture(watched_net, replace(coded, **changes))


@pytest.mark.parametrize(("width", "height"), [(2**20, 2**20), (2**39, 1), (1, 2**23)])
def test_pictures_beyond_the_limit_are_refused_with_the_way_out(coded, watched_net, width, height):
    with pytest.raises(UnsupportedFileError, match="raise max_pixels"):
        decode_picture(watched_net, replace(coded, width=width, height=height))


def test_limit_counts_padded_pixels_and_can_be_set(net, coded):
    assert decode_picture(net, coded, max_pixels=128 * 64).size == (70, 40)
    with pytest.raises(UnsupportedFileError, match="8191"):
        decode_picture(net, coded, max_pixels=128 * 64 - 1)
    with pytest.raises(ValueError, match="8191"):
        encode_picture(net, read_picture(noise(70, 40)), model="m", max_pixels=128 * 64 - 1)


def test_values_that_are_not_finite_are_damage(net, coded, monkeypatch):
    out = {"x_hat": torch.full((1, 3, 64, 128), torch.nan)}
    monkeypatch.setattr(net, "decompress", lambda *_: out)
    with pytest.raises(DamagedFileError, match="not finite"):
        decode_picture(net, coded)


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


def padded(picture):
    """To multiples of 64 (which all of these models take), by repeating the last samples."""
    height, width = picture.pixels.shape[1:]
    pixels = picture.pixels[:, :, torch.arange(width + -width % 64).clamp_max(width - 1)]
    return pixels[:, torch.arange(height + -height % 64).clamp_max(height - 1)][None]


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (130, 1), (64, 64), (70, 130)])
@pytest.mark.parametrize("model", PARALLEL)
def test_decoded_picture_is_that_of_forward_in_every_bit(model, size):
    net = tiny_net(model)
    picture = read_picture(noise(*size))
    content = encode_picture(net, picture, model=model).to_bytes()
    decoded = decode_picture(tiny_net(model), CodedPicture.from_bytes(content))
    with torch.no_grad():
        if model == "bmshj2018-factorized":  # this one needs multiples of 16 only
            net_input = padded(picture)[:, :, : size[1] + -size[1] % 16, : size[0] + -size[0] % 16]
        else:
            net_input = padded(picture)
        x_hat = net(net_input)["x_hat"].clamp(0, 1)
    assert torch.equal(decoded.pixels, x_hat[0, :, : size[1], : size[0]])
    assert decoded.mode == "RGB"


@pytest.mark.parametrize("size", [(1, 70), (70, 66)])
@pytest.mark.parametrize("model", AUTOREGRESSIVE)
def test_decoded_picture_is_that_of_decompress_in_every_bit(model, size):
    net = tiny_net(model)
    picture = read_picture(noise(*size))
    content = encode_picture(net, picture, model=model).to_bytes()
    decoded = decode_picture(tiny_net(model), CodedPicture.from_bytes(content))
    out = net.compress(padded(picture))
    x_hat = net.decompress(out["strings"], out["shape"])["x_hat"]
    assert torch.equal(decoded.pixels, x_hat[0, :, : size[1], : size[0]])


def test_symbols_of_the_tiny_nets_are_worth_testing(coded):
    assert len(coded.strings[0]) > 100


@pytest.mark.parametrize("mode", COLOUR_MODES)
def test_colour_mode_and_alpha_come_back(net, mode):
    image = noise(21, 34).convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    coded = encode_picture(net, read_picture(image), model="m")
    back = decode_picture(net, CodedPicture.from_bytes(coded.to_bytes())).to_image()
    assert back.mode == mode
    if mode.endswith("A"):
        assert back.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_alpha_plane_of_another_size_is_refused_before_decoding(net, watched_net, coded):
    plane = Picture(torch.zeros(3, 4, 4), Image.new("L", (4, 4))).alpha_png()
    with pytest.raises(DamagedFileError, match="alpha plane"):
        decode_picture(watched_net, replace(coded, mode="RGBA", alpha=plane))


def test_pictures_without_pixels_are_refused(net):
    with pytest.raises(ValueError, match="0 x 4"):
        encode_picture(net, Picture(torch.zeros(3, 4, 0)), model="m")


def test_nets_with_another_entropy_coder_are_refused(net):
    other = copy.deepcopy(net)
    other.entropy_bottleneck.entropy_coder.name = "rangecoder"
    with pytest.raises(ValueError, match="rangecoder"):
        encode_picture(other, read_picture(noise(8, 8)), model="m")


def test_training_mode_and_missing_tables_make_no_difference():
    net, other = tiny_net("bmshj2018-factorized"), tiny_net("bmshj2018-factorized")
    coded = encode_picture(net, read_picture(noise(40, 30)), model="m")
    other.train()
    for name in ("_quantized_cdf", "_cdf_length", "_offset"):
        setattr(other.entropy_bottleneck, name, torch.empty(0, dtype=torch.int32))
    assert torch.equal(decode_picture(other, coded).pixels, decode_picture(net, coded).pixels)
    assert other.training


# -- fingerprints ---------------------------------------------------------------------------------


def test_fingerprint_is_computed_as_documented(net):
    digest = hashlib.sha256()
    for name in sorted(net.state_dict()):
        if "g_a" not in name.split(".") and "h_a" not in name.split("."):
            values = net.state_dict()[name].numpy()
            digest.update(f"{name} torch.{values.dtype} {values.shape}\n".encode())
            digest.update(values.astype(values.dtype.newbyteorder("<")).tobytes())
    assert fingerprint(net) == digest.digest()[:8]


@pytest.mark.parametrize("name", ["g_a.0.weight", "h_a.0.bias"])
def test_weights_of_the_encoder_do_not_count(net, coded, name):
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.get_parameter(name).add_(1)
    assert fingerprint(other) == fingerprint(net)
    assert torch.equal(decode_picture(other, coded).pixels, decode_picture(net, coded).pixels)


@pytest.mark.parametrize(
    "name", ["g_s.0.weight", "h_s.0.bias", "entropy_bottleneck._quantized_cdf"]
)
def test_other_weights_and_tables_are_refused(net, coded, name):
    other = copy.deepcopy(net)
    other.state_dict()[name].view(-1)[0] += 1
    with pytest.raises(WrongWeightsError, match="other weights of mbt2018-mean"):
        decode_picture(other, coded)


def test_fingerprint_takes_every_kind_of_buffer():
    module = nn.Sequential(nn.BatchNorm2d(2), nn.Linear(2, 2, dtype=torch.bfloat16))
    module.register_buffer("nothing", torch.empty(0, 3))
    before = fingerprint(module)
    module[0].num_batches_tracked += 1  # a number, without axes
    assert fingerprint(module) != before


# -- files of CompressAI 1.2 ----------------------------------------------------------------------


# Model 2, ms-ssim, quality 4, 220 x 200, 8 bit, latent 4 x 4, strings 01 02 03 and aa bb.
EXAMPLE = bytes.fromhex(
    "0213 000000c8 000000dc 08 00000004 00000004 00000002 00000003 010203 00000002 aabb"
)


def test_worked_example_of_the_old_format_is_read():
    picture = parse_coded(EXAMPLE)
    assert picture == LegacyPicture(
        model="bmshj2018-hyperprior",
        metric="ms-ssim",
        quality=4,
        width=220,
        height=200,
        shape=(4, 4),
        strings=(b"\1\2\3", b"\xaa\xbb"),
        bit_depth=8,
    )
    assert picture.to_bytes() == EXAMPLE


def test_numbers_of_models_in_the_old_format_never_change():
    assert MODEL_IDS[0] == "bmshj2018-factorized"
    assert MODEL_IDS[3] == "mbt2018-mean"
    assert MODEL_IDS[6:8] == ("cheng2020-attn", "bmshj2018-hyperprior-vbr")
    assert (len(MODEL_IDS), MODEL_IDS[13]) == (14, "ssf2020")


def test_every_truncation_of_the_old_format_is_refused():
    for length in range(len(EXAMPLE)):
        with pytest.raises(BitstreamError):
            parse_coded(EXAMPLE[:length])
    with pytest.raises(DamagedFileError, match="1 bytes too many"):
        parse_coded(EXAMPLE + b"\0")


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (0, 13, "a video"),
        (0, 10, "a point cloud"),
        (0, 14, "no coded picture"),
        (1, 0x20, "no coded picture"),
        (5, 0, "impossible header"),
        (10, 0, "impossible header"),
    ],
)
def test_impossible_headers_of_the_old_format_are_refused(position, value, error):
    changed = bytearray(EXAMPLE)
    changed[position] = value
    with pytest.raises(BitstreamError, match=error):
        parse_coded(bytes(changed))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "ssf2020"),
        ("model", "mine"),
        ("metric", None),
        ("quality", 17),
        ("width", 2**32),
        ("shape", (1, 2, 3)),
        ("bit_depth", 300),
    ],
)
def test_writer_of_the_old_format_refuses_what_it_cannot_hold(field, value):
    with pytest.raises(ValueError):
        replace(parse_coded(EXAMPLE), **{field: value}).to_bytes()


@pytest.mark.parametrize("size", [(70, 41), (1, 1), (64, 128)])
@pytest.mark.parametrize("model", ["bmshj2018-factorized", "mbt2018-mean"])
def test_old_files_are_decoded_from_the_centre(model, size):
    net = tiny_net(model)
    picture = read_picture(noise(*size))
    width, height = size
    pad, unpad = compute_padding(height, width, min_div=64)
    x = F.pad(picture.pixels[None], pad)
    out = net.compress(x)
    strings = tuple(step[0] for step in out["strings"])
    old = LegacyPicture(model, "mse", 1, width, height, tuple(out["shape"]), strings)
    decoded = decode_picture(net, parse_coded(old.to_bytes()))
    with torch.no_grad():
        x_hat = F.pad(net(x)["x_hat"].clamp(0, 1), unpad)
    assert torch.equal(decoded.pixels, x_hat[0])
    with pytest.raises(DamagedFileError, match="latents of sizes"):
        decode_picture(net, replace(old, width=width + 64))
    with pytest.raises(DamagedFileError):
        decode_picture(net, replace(old, strings=(b"\0" * 8, *strings[1:])))


# -- files of earlier versions --------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    sorted(p for p in CORPUS.iterdir() if p.suffix in (".cai", ".bin")),
    ids=lambda path: path.name,
)
def test_files_of_every_version_decode_for_ever(path):
    coded = read_coded(path)
    net = compressai.load(CORPUS / f"{coded.model}.safetensors")
    decoded = decode_picture(net, coded).to_image()
    with Image.open(path.with_suffix(".png")) as expected:
        assert decoded.mode == expected.mode
        difference = np.asarray(decoded).astype(int) - np.asarray(expected)
        # The last bit of the network's arithmetic is not the same on all machines.
        assert np.abs(difference).max() <= 1
        if expected.mode.endswith("A"):
            assert not difference[..., -1].any()


def test_corpus_holds_both_formats_and_nested_sizes():
    coded = [read_coded(p) for p in CORPUS.iterdir() if p.suffix in (".cai", ".bin")]
    assert {type(c) for c in coded} == {CodedPicture, LegacyPicture}
    assert {type(c.shape) for c in coded} >= {tuple, dict}
    assert {c.mode for c in coded} >= {"LA", "RGB", "RGBA"}


def test_fields_of_old_and_new_pictures_have_the_same_names():
    new = {field.name for field in fields(CodedPicture)}
    assert all(
        hasattr(LegacyPicture, name) or name in vars(LegacyPicture)["__annotations__"]
        for name in new
    )


@pytest.mark.parametrize("variable_bottleneck", [False, True])
def test_quality_of_a_variable_rate_model_is_its_level(variable_bottleneck: bool) -> None:
    torch.manual_seed(0)
    vbr = compressai.registry.MODELS["mbt2018-mean-vbr"]
    net = vbr(8, 12, vr_entbttlnck=variable_bottleneck).eval()
    with torch.no_grad():  # fresh networks give latents near zero
        for layer in net.g_a[::2]:
            layer.weight *= 4
    picture = Picture(torch.rand(3, 50, 70))
    decoded = []
    for quality in (1, 8, None):
        coded = encode_picture(net, picture, model="mbt2018-mean-vbr", quality=quality)
        coded = CodedPicture.from_bytes(coded.to_bytes())
        level = 7 if quality is None else quality - 1
        x = pad_to_multiple(picture.pixels[None], 64)
        if variable_bottleneck:
            net.update(force=True, scale=net.Gain[level].detach())
        out = net.compress(x, s=level)
        want = net.decompress(out["strings"], out["shape"], s=level)["x_hat"][0, :, :50, :70]
        decoded.append(decode_picture(net, coded).pixels)
        assert torch.equal(decoded[-1], want)
    assert not torch.equal(decoded[0], decoded[1])
    assert torch.equal(decoded[1], decoded[2])
    with pytest.raises(ValueError, match="quality"):
        encode_picture(net, picture, model="mbt2018-mean-vbr", quality=9)
