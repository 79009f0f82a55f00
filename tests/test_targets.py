# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Sizes and qualities that the user names: met, by the best quality that meets them."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from program import files
from test_overrides_families import build

from compressai.bitstream import CodedImage, decode_image, encode_image, read_coded
from compressai.bitstream import read_image as read
from compressai.evaluation import psnr
from compressai.inference import prepare
from compressai.model_choice import ChosenModel, Ladder
from compressai.models.lite import Lite
from compressai.targets import Target, encode_to_target
from compressai.zoo import lite

pytestmark = pytest.mark.usefixtures("one_torch_thread", "folder")

PHOTO = Path(__file__).parents[1] / "examples/assets/chelsea.png"


@pytest.fixture
def sample() -> Any:
    with Image.open(PHOTO) as image:
        return read(image.convert("RGB").crop((150, 60, 342, 252)))


class _OneRate(Lite):
    """A lite that is told no quality, as models of one rate are."""

    quality_range = None


@functools.cache
def shipped() -> Ladder:
    """Four networks of one rate each, trained."""
    nets = {}
    for quality in (1, 2, 3, 4):
        nets[quality] = prepare(lite(quality, pretrained=True).eval(), "fp32")
        nets[quality].__class__ = _OneRate
    return Ladder(lambda quality: ChosenModel(nets[quality], "lite", quality, "mse"), tuple(nets))


def sizes(sample: Any, ladder: Ladder) -> list[int]:
    coded = []
    for quality in ladder.qualities:
        chosen = ladder.choose(quality)
        coded.append(len(encode_image(image=sample, **vars(chosen)).to_bytes()))
    return coded


def test_largest_quality_that_fits_the_bytes(sample: Any) -> None:
    known = sizes(sample, shipped())
    assert known == sorted(known)
    for limit, quality in [(known[0], 1), (known[1] + 5, 2), (known[2] - 1, 2), (10**6, 4)]:
        coded = encode_to_target(sample, Target("bytes", limit), shipped())
        assert coded.quality == quality
        assert len(coded.to_bytes()) == known[quality - 1] <= limit


def test_bits_per_pixel_are_of_the_whole_file(sample: Any) -> None:
    known = sizes(sample, shipped())
    bpp = 8 * known[2] / 192**2
    assert encode_to_target(sample, Target("bpp", bpp), shipped()).quality == 3
    assert encode_to_target(sample, Target("bpp", bpp - 1e-6), shipped()).quality == 2


def test_lowest_quality_that_has_the_decibels(sample: Any) -> None:
    source = sample.to_image()
    for wanted in (30.0, 33.0):
        coded = encode_to_target(sample, Target("psnr", wanted), shipped())
        reached = {}
        for quality in shipped().qualities:
            chosen = shipped().choose(quality)
            other = encode_image(image=sample, **vars(chosen))
            reached[quality] = psnr(source, decode_image(chosen.net, other).to_image())
        assert coded.quality == min(q for q, value in reached.items() if value >= wanted)


def test_similarity(sample: Any) -> None:
    low, high = (
        encode_to_target(sample, Target("ms-ssim", value), shipped()) for value in (0.9, 0.985)
    )
    assert low.quality < high.quality


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Target("bytes", 40), r"40 bytes cannot be reached: the smallest file of lite .* bytes"),
        (Target("psnr", 60), r"60 dB cannot be reached: the best quality of lite .* has 3\d"),
    ],
)
def test_what_no_quality_reaches(sample: Any, target: Target, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_to_target(sample, target, shipped())


def test_small_files_that_shrink_with_quality_are_found() -> None:
    with Image.open(PHOTO) as image:
        small = read(image.convert("RGB").crop((150, 60, 214, 124)))
    nets, places = shipped(), {1: 2, 2: 1, 3: 3, 4: 4}
    ladder = Ladder(
        lambda quality: dataclasses.replace(nets.choose(places[quality]), quality=quality),
        nets.qualities,
    )
    known = sizes(small, ladder)
    assert known[1] < known[0]
    coded = encode_to_target(small, Target("bytes", known[1]), ladder)
    assert (coded.quality, len(coded.to_bytes())) == (2, known[1])
    with pytest.raises(ValueError, match=f"found for this image has {known[1]} bytes"):
        encode_to_target(small, Target("bytes", known[1] - 1), ladder)


@pytest.mark.parametrize("value", ["9", True, None])
def test_targets_are_numbers(value: Any) -> None:
    with pytest.raises(TypeError, match=f"value must be a number, got {type(value).__name__}"):
        Target("bytes", value)
    Target("psnr", np.float32(30))


def test_network_of_all_rates_analyses_an_image_once(sample: Any) -> None:
    net = build("mbt2018-vbr")
    net.update()
    calls = []
    net.g_a.register_forward_hook(lambda _, inputs, __: calls.append(tuple(inputs[0].shape)))
    chosen = ChosenModel(net, "mbt2018-vbr", None, None)
    ladder = Ladder(lambda quality: dataclasses.replace(chosen, quality=quality), None)
    assert ladder.qualities == tuple(range(1, 9))
    known = sizes(sample, ladder)
    calls.clear()
    coded = encode_to_target(sample, Target("bytes", sorted(known)[4]), ladder)
    # The other one, of the smallest size, is for the sizes of the latents.
    assert calls.count((1, 3, 192, 192)) == 1
    assert len(coded.to_bytes()) <= sorted(known)[4]
    again = CodedImage.from_bytes(coded.to_bytes())
    decode_image(net, again)  # checks the hash of the latent


@pytest.fixture(scope="module")
def scale() -> Ladder:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        net = Lite(N=4, M=20, details=8, widths=[8, 12], depths=[1, 1], nodes=3).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(50)
        net.y_gain.steps.fill_(5)  # sizes that differ much, as a trained model has them
    net.update()
    chosen = ChosenModel(net, "lite", None, None)
    return Ladder(lambda quality: dataclasses.replace(chosen, quality=quality), None)


def test_scale_comes_within_a_percent_of_a_size(sample: Any, scale: Ladder) -> None:
    assert scale.is_scale
    assert scale.qualities == tuple(map(float, range(101)))

    def size_of(quality: float) -> int:
        return len(encode_image(image=sample, **vars(scale.choose(quality))).to_bytes())

    between = 0
    for quality in (20, 50):
        low, high = size_of(quality), size_of(quality + 1)
        limit = (low + high) // 2
        coded = encode_to_target(sample, Target("bytes", limit), scale)
        assert min(0.99 * limit, limit - 32) <= len(coded.to_bytes()) <= limit
        assert quality <= coded.quality < quality + 1
        between += coded.quality != quality
        assert len(coded.to_bytes()) == size_of(coded.quality)
        again = CodedImage.from_bytes(coded.to_bytes())
        decode_image(scale.of_image(again).net, again)
    assert between
    assert scale.of_image(dataclasses.replace(again, quality=101.0)) is None


def test_scale_comes_within_hundredths_of_a_fidelity(sample: Any, scale: Ladder) -> None:
    """With fidelity that is a function of quality, since no trained weights of a scale ship yet."""
    tried = []

    class Exact(Target):
        def measure(self, coded: Any, net: Any, sample: Any) -> float:
            tried.append(coded.quality)
            return 26 + 0.16 * coded.quality

    coded = encode_to_target(sample, Exact("psnr", 33.03), scale)
    assert 33.03 <= 26 + 0.16 * coded.quality <= 33.05
    assert len(tried) <= 14
    assert encode_to_target(sample, Exact("psnr", 26), scale).quality == 0
    assert encode_to_target(sample, Exact("psnr", 42), scale).quality == 100
    with pytest.raises(ValueError, match="cannot be reached"):
        encode_to_target(sample, Exact("psnr", 42.01), scale)


def test_one_rate_has_nothing_to_choose_from() -> None:
    chosen = ChosenModel(build("mbt2018-mean"), "mbt2018-mean", None, None)
    with pytest.raises(ValueError, match="mbt2018-mean has one here"):
        Ladder(lambda quality: chosen, None)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("kilobytes", 1, "kind must be one of bytes, bpp, psnr, ms-ssim, got 'kilobytes'"),
        ("bytes", 0, "a target of bytes must be positive and finite, got 0"),
        ("psnr", float("nan"), "a target of psnr must be positive and finite, got nan"),
        ("ms-ssim", 1.1, "a target of ms-ssim must be at most 1, got 1.1"),
    ],
)
def test_targets_that_are_none(kind: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Target(kind, value)


# -- the program ----------------------------------------------------------------------------------


def test_program_codes_a_folder_to_a_size_and_goes_on(run: Any, sample: Any) -> None:
    Path("in").mkdir()
    for i, box in enumerate([(0, 0, 192, 192), (0, 0, 130, 70)]):
        sample.to_image().crop(box).save(f"in/{i}.png")
    arguments = ("encode", "in", "out", "--target-bytes", 1700, "--json")
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    report = json.loads(out)
    large, small = report["files"]
    assert large["quality"] < small["quality"]
    for file in report["files"]:
        assert Path(file["file"]).stat().st_size <= 1700
    status, out, _ = run(*arguments)
    assert status == 0
    assert json.loads(out)["skipped"] == 2


def test_program_refuses_what_contradicts(run: Any, photo: Any) -> None:
    status, _, err = run("encode", "photo.png", "--target-bytes", 900, "--target-psnr", 30)
    assert status == 2
    assert "--target-bytes and --target-psnr contradict each other" in " ".join(err.split())
    status, _, err = run("encode", "photo.png", "--target-bpp", 1, "-q", 2)
    assert status == 2
    assert "--quality and --target-bpp contradict each other" in " ".join(err.split())
    status, _, err = run("encode", "photo.png", "--lambda", 0.01)
    assert status == 2
    assert "--lambda: only for --effort 2 to 9" in " ".join(err.split())
    status, _, err = run("encode", "photo.png", "--target-bytes", 50)
    assert status == 1
    assert "50 bytes cannot be reached" in err
    assert files() == ["photo.png"]


def test_program_tries_harder(run: Any, sample: Any) -> None:
    sample.to_image().crop((0, 0, 64, 64)).save("crop.png")
    for effort in (1, 5):
        status, _, err = run("encode", "crop.png", f"{effort}.cai", "-q", 80, "--effort", effort)
        assert (status, err) == (0, "")
    plain, refined = read_coded("1.cai"), read_coded("5.cai")
    assert plain.tiles != refined.tiles
    assert run("decode", "5.cai", "back.png")[0] == 0
    status, _, err = run("encode", "crop.png", "x.cai", "--effort", 12)
    assert status == 2
    status, _, err = run("encode", "crop.png", "x.cai", "--model", "lite-integer", "--effort", 2)
    assert status == 1
    assert "effort must be 1 for IntegerLite" in err
