# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``make demo``: a fair comparison, and the files that it promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import blurred_noise, save_tiny

from compressai.evaluation import find_codec

SCRIPT = Path(__file__).parents[1] / "examples" / "demo.py"


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def demo():
    return runpy.run_path(str(SCRIPT), run_name="demo")


def test_demo_codes_compares_and_shows(demo, capsys):
    photo = blurred_noise((176, 168))
    photo.save("photo.png")
    save_tiny(Path("tiny.safetensors"))
    demo["main"](["photo.png", "--checkpoint", "tiny.safetensors"])
    out = capsys.readouterr().out
    size = Path("out/photo.cai").stat().st_size
    lines = [line.split("│")[1:-1] for line in out.splitlines() if line.startswith("│")]
    rows = {name.strip(): figures for name, *figures in lines}
    assert int(rows["mbt2018-mean"][1]) == size
    for codec in ("JPEG", "WebP"):
        quality, length = int(rows[codec][0]), int(rows[codec][1])
        assert length >= size or quality == 100
    assert "RANDOM" not in out
    with Image.open("out/photo.png") as decoded, Image.open("out/comparison.png") as sheet:
        assert decoded.size == photo.size
        assert sheet.width > 4 * 400


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_files_compared_with_are_not_smaller_and_as_near_as_can_be(demo, name):
    photo, codec = blurred_noise((96, 80)), find_codec(name)
    sizes = [len(codec.code(photo, quality).content) for quality in range(101)]
    for size in (1, sizes[40], sizes[40] + 1):
        quality, coded = demo["not_smaller"](codec, photo, size)
        assert len(coded.content) == sizes[quality] >= size
        assert quality == 0 or sizes[quality - 1] < size
    assert demo["not_smaller"](codec, photo, 10**9)[0] == 100


def test_detail_is_where_something_is_going_on(demo):
    sample = np.full((100, 120, 3), 128, np.uint8)
    sample[60:70, 80:90] = np.random.default_rng(1).integers(0, 256, (10, 10, 3))
    left, top, right, bottom = demo["detail_of"](Image.fromarray(sample))
    assert left <= 80 < 90 <= right <= 120
    assert top <= 60 < 70 <= bottom <= 100


def test_random_weights_are_told(demo, capsys):
    blurred_noise((64, 64)).save("photo.png")
    demo["main"](["photo.png", "--model", "bmshj2018-factorized", "--quality", "1"])
    out = capsys.readouterr().out
    assert "RANDOM" in out
    assert Path("out/comparison.png").is_file()
