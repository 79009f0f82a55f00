# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Tiles cover an image, blend without seams, and decode alone."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitstream_images import FUZZING, noise
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from program import save_crops
from tiny_nets import tiny_net

from compressai.bitstream import (
    CodedImage,
    ImageData,
    ImpossibleHeaderError,
    Tiling,
    TooLargeError,
    decode_image,
    encode_image,
    limits,
    read_image,
    save_image,
)
from compressai.bitstream._memory import coding_bytes
from compressai.bitstream.tiling import Box

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import tiles

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def sample():
    image = noise(230, 150)
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return read_image(image)


@pytest.fixture(scope="module")
def coded(net, sample):
    coded = encode_image(net, sample, model="mbt2018-mean", tile=128, tile_overlap=32)
    return CodedImage.from_bytes(coded.to_bytes())


@FUZZING
@given(st.data())
def test_tiles_cover_every_pixel_and_their_weights_sum_to_one(data):
    size = data.draw(st.integers(64, 200))
    overlap = data.draw(st.integers(0, size // 2))
    width, height = data.draw(st.integers(1, 600)), data.draw(st.integers(1, 600))
    tiling = Tiling(width, height, size, overlap)
    total = torch.zeros(height, width)
    boxes = list(tiling)
    assert len(boxes) == tiling.count == tiling.columns * tiling.rows
    for index, (x, y, across, down) in enumerate(boxes):
        assert 0 < across <= size
        assert 0 < down <= size
        weights = tiling.weights(index)
        assert bool((weights > 0).all())
        total[y : y + down, x : x + across] += weights
    assert torch.allclose(total, torch.ones(()), atol=1e-6)
    region = Box(width // 2, height // 3, 1, 1)
    for index, (x, y, across, down) in enumerate(boxes):
        holds = x <= region.x < x + across and y <= region.y < y + down
        assert holds == (index in tiling.indexes(region))


@pytest.mark.parametrize(("size", "overlap"), [(63, 0), (-1, 0), (64, -1), (64, 33), (0, 1)])
def test_impossible_tilings_are_refused(size, overlap):
    with pytest.raises(ValueError, match=r"overlap|tiles"):
        Tiling(10, 10, size, overlap)


def test_tiles_that_blend_are_those_that_the_model_gives_alone(net, sample, coded):
    assert [tuple(box) for box in coded.tiling] == [
        (0, 0, 128, 128),
        (96, 0, 128, 128),
        (192, 0, 38, 128),
        (0, 96, 128, 54),
        (96, 96, 128, 54),
        (192, 96, 38, 54),
    ]
    decoded = decode_image(net, coded)
    expected = torch.zeros(3, 150, 230)
    for index, (x, y, width, height) in enumerate(coded.tiling):
        part = ImageData(sample.pixels[:, y : y + height, x : x + width])
        alone = encode_image(net, part, model="mbt2018-mean", tile=None)
        assert alone.tiles[0] == coded.tiles[index]
        pixels = decode_image(net, alone).pixels
        expected[:, y : y + height, x : x + width] += coded.tiling.weights(index) * pixels
    assert torch.equal(decoded.pixels, expected.clamp(0, 1))
    assert decoded.mode == "RGBA"


@pytest.mark.parametrize(
    "region", [(0, 0, 230, 150), (0, 0, 1, 1), (100, 100, 20, 20), (229, 149, 1, 1), (90, 3, 50, 9)]
)
def test_a_region_is_the_same_as_in_the_whole_image(net, coded, region, monkeypatch):
    whole = decode_image(net, coded)
    x, y, width, height = region
    calls = []
    decompress = net.decompress

    def counted(strings, shape, *, sync_safe):
        calls.append(shape)
        return decompress(strings, shape, sync_safe=sync_safe)

    monkeypatch.setattr(net, "decompress", counted)
    part = decode_image(net, coded, region=region, workers=1)
    assert len(calls) == len(coded.tiling.indexes(Box(*region)))
    assert torch.equal(part.pixels, whole.pixels[:, y : y + height, x : x + width])
    assert part.alpha.tobytes() == whole.alpha.crop((x, y, x + width, y + height)).tobytes()


def test_regions_of_images_without_tiles_are_cut_out(net, sample):
    coded = encode_image(net, sample, model="m", tile=None)
    assert len(coded.tiles) == 1
    whole = decode_image(net, coded)
    part = decode_image(net, coded, region=(10, 20, 30, 40))
    assert torch.equal(part.pixels, whole.pixels[:, 20:60, 10:40])


@pytest.mark.parametrize(
    "region", [(0, 0, 231, 1), (-1, 0, 2, 2), (0, 0, 0, 5), (230, 0, 1, 1), (0, 150, 1, 1), (1, 2)]
)
def test_regions_outside_of_the_image_are_refused(net, coded, region):
    with pytest.raises(ValueError, match="region must be"):
        decode_image(net, coded, region=region)


def test_limit_counts_the_tiles_that_are_decoded(net, coded):
    with pytest.raises(TooLargeError):
        decode_image(net, coded, max_pixels=2 * 128 * 128)
    assert decode_image(net, coded, region=(0, 0, 9, 9), max_pixels=128 * 128).size == (9, 9)


@pytest.mark.parametrize("tile", [0, -64, 65, "64"])
def test_tiles_that_do_not_suit_the_model_are_refused(net, sample, tile):
    with pytest.raises(ValueError, match="tile must be"):
        encode_image(net, sample, model="m", tile=tile)


def test_tiles_that_hold_the_whole_image_are_none(net, sample):
    coded = encode_image(net, sample, model="m", tile=256)
    assert (coded.tile_size, coded.tile_overlap, len(coded.tiles)) == (0, 0, 1)


def test_limit_of_an_image_without_tiles_is_what_coding_it_takes(net, sample, monkeypatch):
    whole = encode_image(net, sample, model="mbt2018-mean", tile=None)
    monkeypatch.setattr(limits, "UNTILED_PIXELS", 1)
    assert decode_image(net, whole).size == sample.size
    monkeypatch.setattr(limits, "MAX_MEMORY", 100_000)
    with pytest.raises(TooLargeError, match="in one tile take about"):
        decode_image(net, whole)
    with pytest.raises(ValueError, match="in one tile take about") as caught:
        encode_image(net, sample, model="mbt2018-mean", tile=None)
    enough = int(re.search(r"max_pixels to (\d+)", str(caught.value))[1])
    assert decode_image(net, whole, max_pixels=enough).size == sample.size
    with pytest.raises(TooLargeError):
        decode_image(net, whole, max_pixels=enough - 1)
    # What is never tiled unless it is asked for is always decoded.
    monkeypatch.setattr(limits, "UNTILED_PIXELS", 2**22)
    assert decode_image(net, whole).size == sample.size


@pytest.mark.parametrize("factor", [2, 3])
def test_estimate_of_memory_grows_with_the_area(net, factor):
    assert coding_bytes(net, factor * 64 * 64, {}) == factor * coding_bytes(net, 64 * 64, {})
    # A network of a few channels takes some tens of bytes a pixel, more than its input.
    assert 12 <= coding_bytes(net, 1, {}) < 1000


def test_large_images_are_tiled_unless_it_is_forbidden(monkeypatch):
    monkeypatch.setattr("compressai.bitstream.encoding.TILED_ABOVE", 1000 * 100 - 1)
    net = tiny_net("bmshj2018-factorized")
    large, small = ImageData(torch.rand(3, 1100, 100)), ImageData(torch.rand(3, 999, 100))
    coded = encode_image(net, large, model="m")
    assert (coded.tile_size, coded.tile_overlap, len(coded.tiles)) == (1024, 32, 2)
    assert len(encode_image(net, large, model="m", tile=None).tiles) == 1
    assert len(encode_image(net, small, model="m").tiles) == 1


@pytest.mark.parametrize("quality", tiles.QUALITIES)
def test_tiles_lose_no_quality_of_a_photo(tmp_path, quality):
    save_crops({tmp_path / "photo.png": (100, 40, 356, 240)})
    net = tiles.load(None, quality)
    (row,) = tiles.measure_quality(net, tmp_path / "photo.png", [128], quality)
    assert row["tiles"] == 6
    assert row["psnr_loss"] <= tiles.MOST_LOSS_DB
    assert row["psnr_loss_in_overlaps"] <= tiles.MOST_LOSS_DB
    assert row["psnr_untiled"] > 27


def test_tiles_lose_no_quality(net):
    """Of a network that gives what it got but for its borders, which zeros spoil."""
    sample = read_image(noise(230, 150))
    whole = encode_image(net, sample, model="m", tile=None)
    tiled = encode_image(net, sample, model="m", tile=128)

    def loss(coded):
        return float((decode_image(net, coded).pixels - sample.pixels).square().mean().log10())

    assert 10 * (loss(tiled) - loss(whole)) <= 0.05


def test_another_number_of_tiles_is_refused(net, coded):
    with pytest.raises(ImpossibleHeaderError, match="6 tiles"):
        decode_image(net, replace(coded, tiles=coded.tiles[:-1]))


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".webp", ".jpg"])
def test_profile_and_exif_come_back_if_they_are_asked_for(net, tmp_path, suffix):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "maker", 6  # to be turned
    noise(40, 30).save(tmp_path / "source.png", icc_profile=profile, exif=exif.tobytes())
    plain = encode_image(net, read_image(tmp_path / "source.png"), model="m")
    assert (plain.icc, plain.exif) == (b"", b"")
    sample = read_image(tmp_path / "source.png", keep_metadata=True)
    assert sample.notes == []
    assert sample.size == (30, 40)
    coded = CodedImage.from_bytes(encode_image(net, sample, model="m").to_bytes())
    save_image(decode_image(net, coded), tmp_path / f"decoded{suffix}")
    with Image.open(tmp_path / f"decoded{suffix}") as decoded:
        assert decoded.info["icc_profile"] == profile
        assert decoded.getexif()[0x010F] == "maker"
        assert decoded.getexif().get(0x0112, 1) == 1
        assert decoded.size == (30, 40)


def test_samples_with_a_profile_are_kept_as_they_are(tmp_path):
    from PIL import ImageCms

    wide = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    image = noise(8, 8)
    image.info["icc_profile"] = bytes(wide)
    kept = read_image(image, keep_metadata=True)
    assert kept.to_image().tobytes() == image.tobytes()
    assert kept.icc == bytes(wide)
    cmyk = image.convert("CMYK")
    cmyk.info["icc_profile"] = bytes(wide)  # not of its samples
    assert read_image(cmyk, keep_metadata=True).icc == b""
    assert read_image(image.convert("P"), keep_metadata=True).source_mode == "P"
