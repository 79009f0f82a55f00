# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Damage is always noticed, spoils no more than it has to, and what is left can be decoded."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitstream_images import CORPUS, header_end, noise
from PIL import Image

from compressai.bitstream import (
    BitstreamError,
    ChecksumError,
    CodedImage,
    DamagedFileError,
    TruncatedFileError,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
)

FUZZ = Path(__file__).parent / "fuzz"
sys.path.insert(0, str(FUZZ))
from targets import TARGETS  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def sample():
    image = noise(200, 100)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return read_image(image)


@pytest.fixture(scope="module")
def tiled(net, sample):
    """4 x 2 tiles."""
    return encode_image(net, sample, model="mbt2018-mean", tile=64, tile_overlap=16)


@pytest.fixture(scope="module")
def whole(net, tiled):
    return decode_image(net, tiled)


def section_starts(coded):
    """Where the sections of a file begin, and where it ends."""
    content = coded.to_bytes()
    starts, position = [], header_end(content) + 4
    sections = [replace(coded, tiles=(tile,), alpha=b"") for tile in coded.tiles]
    for one in sections:
        single = replace(one, width=10, height=10, mode="RGB", tile_size=0, tile_overlap=0)
        alone = single.to_bytes()
        starts.append(position)
        position += len(alone) - header_end(alone) - 4
    return [*starts, position, len(content)]


def test_every_flipped_bit_of_every_seed_is_noticed():
    for path in sorted(CORPUS.glob("v*-la.cai")):
        content = path.read_bytes()
        for position in range(8 * len(content)):
            changed = bytearray(content)
            changed[position // 8] ^= 1 << position % 8
            with pytest.raises(BitstreamError):
                parse_coded(bytes(changed))


def test_one_damaged_tile_is_grey_and_the_others_are_exact(net, tiled, whole):
    content = bytearray(tiled.to_bytes())
    content[section_starts(tiled)[5] + 14] ^= 1
    with pytest.raises(ChecksumError, match="section 5"):
        parse_coded(bytes(content))
    coded = parse_coded(bytes(content), best_effort=True)
    with pytest.raises(ChecksumError, match="section 5"):
        decode_image(net, coded)
    sample = decode_image(net, coded, best_effort=True)
    assert len(sample.notes) == 1
    assert "64 x 52 pixels at 48, 48" in sample.notes[0]
    assert "checksum" in sample.notes[0]
    x, y, width, height = tiled.tiling[5]
    outside = torch.ones(100, 200, dtype=torch.bool)
    outside[y : y + height, x : x + width] = False
    assert torch.equal(sample.pixels[:, outside], whole.pixels[:, outside])
    inside = sample.pixels[:, y + 16 : y + height, x + 16 : x + width - 16]
    assert bool((inside == 0.5).all())
    assert sample.mode == "RGBA"


def test_regions_beside_the_damage_are_whole(net, tiled, whole):
    content = bytearray(tiled.to_bytes())
    content[section_starts(tiled)[5] + 14] ^= 1
    coded = parse_coded(bytes(content), best_effort=True)
    region = decode_image(net, coded, region=(120, 10, 60, 60))
    assert region.notes == []
    assert torch.equal(region.pixels, whole.pixels[:, 10:70, 120:180])


def test_of_every_truncation_the_tiles_before_it_are_left(net, tiled, whole):
    content = tiled.to_bytes()
    *tiles, alpha, end = section_starts(tiled)
    assert (len(tiles), end) == (8, len(content))
    for length in (*(start + 7 for start in tiles), alpha + 3, len(content) - 1):
        with pytest.raises(TruncatedFileError):
            parse_coded(content[:length])
        coded = parse_coded(content[:length], best_effort=True)
        complete = sum(start <= length for start in (*tiles[1:], alpha))
        if not complete:
            with pytest.raises(DamagedFileError, match="nothing is left"):
                decode_image(net, coded, best_effort=True)
            continue
        sample = decode_image(net, coded, best_effort=True)
        assert len(sample.notes) >= len(tiles) - complete
        assert (sample.alpha is None) == (length < len(content))
        assert torch.equal(sample.pixels[:, :48, :48], whole.pixels[:, :48, :48])


def test_swapped_tiles_are_noticed(net, sample):
    coded = encode_image(net, sample, model="mbt2018-mean", tile=64, tile_overlap=16)
    same = replace(coded, tiles=(coded.tiles[0], coded.tiles[0], *coded.tiles[2:]))
    twice = bytearray(same.to_bytes())
    starts = section_starts(same)
    first, second = slice(*starts[:2]), slice(*starts[1:3])
    assert twice[first][:-4] == twice[second][:-4]
    twice[first], twice[second] = twice[second], twice[first]  # which moves the sums only
    with pytest.raises(ChecksumError, match="section 0"):
        parse_coded(bytes(twice))
    assert [bool(t.damage) for t in parse_coded(bytes(twice), best_effort=True).tiles[:3]] == [
        True,
        True,
        False,
    ]


def test_tiles_of_another_image_are_noticed(tiled):
    content = bytearray(tiled.to_bytes())
    other = replace(tiled, quality=7).to_bytes()
    start, end = section_starts(tiled)[3:5]
    content[start:end] = other[start:end]
    with pytest.raises(ChecksumError, match="section 3"):
        parse_coded(bytes(content))


def test_a_damaged_header_leaves_nothing(tiled):
    content = bytearray(tiled.to_bytes())
    content[30] ^= 1
    with pytest.raises(BitstreamError):
        parse_coded(bytes(content), best_effort=True)


def test_damaged_extras_are_left_out(net):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    sample = replace(read_image(noise(20, 20)), exif=exif.tobytes(), icc=bytes(36) + b"acsp")
    coded = encode_image(net, sample, model="m")
    assert decode_image(net, coded).exif == sample.exif
    cut = sample.exif[:-9]
    for name, value in (("exif", b"Exif\0\0MM\0\x2a\0\0"), ("exif", cut), ("icc", b"none")):
        broken = CodedImage.from_bytes(replace(coded, **{name: value}).to_bytes())
        with pytest.raises(DamagedFileError):
            decode_image(net, broken)
        left = decode_image(net, broken, best_effort=True)
        assert getattr(left, name) == b""
        assert "left out" in left.notes[0]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The content with a few bytes changed, removed, repeated or added."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(changed) + 1), rng.choice((1, 1, 2, 4, 9))
        kind = rng.randrange(4)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[place : place + length]
        elif kind == 2:
            changed[place:place] = changed[place : place + length]
        else:
            changed[place : place + length] = rng.randbytes(length)
    return bytes(changed)


@pytest.mark.parametrize("target", TARGETS)
def test_targets_of_the_fuzzer_take_its_seeds_and_their_neighbours(target):
    rng = random.Random(0)
    for path in sorted((FUZZ / "seeds" / target).iterdir()):
        content = path.read_bytes()
        TARGETS[target](content)
        for _ in range(200 if target == "container" else 4):
            TARGETS[target](mutated(content, rng))
