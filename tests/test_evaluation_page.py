# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The page of an evaluation, as a browser shows it: it needs nothing else and tells no lies."""

from __future__ import annotations

import base64
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image
from webdriver import browser, why_no_browser

from compressai.evaluation import Coded, ImageCodec, evaluate, find_codec

pytest.importorskip("matplotlib")

SIZE = (320, 200)
RED, BLUE = (230, 10, 10), (10, 10, 230)


class Plain(ImageCodec):
    """Everything becomes one colour; higher qualities take more bytes."""

    def __init__(self, name, colour, qualities, size=1000):
        self.name, self.qualities, self.description = name, qualities, f"all {colour}"
        self.colour, self.size = colour, size

    def code(self, image, quality):
        decoded = Image.new("RGB", image.size, self.colour)
        # So that more bytes are better.
        decoded.paste(image.crop((0, 0, 1, quality)), (0, 0))
        return Coded(bytes(self.size * quality), decoded, 0.012, 0.034)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.Generator(np.random.PCG64(1))
    for name in ("one.png", "</script><b>two.png"):
        path = folder / name.replace("/", "_")
        noise = rng.integers(0, 256, (SIZE[1] // 8, SIZE[0] // 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(SIZE, Image.Resampling.NEAREST).save(path)
    return sorted(folder.iterdir(), reverse=True)


@pytest.fixture(scope="module")
def page(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "result.html"
    evaluate(
        files,
        [Plain("new", BLUE, (1, 2, 3))],
        [Plain("old", RED, (1, 2, 3, 30), size=1100), find_codec("jpeg")],
        keep_images=True,
    ).to_html(path)
    return path


def test_page_is_one_file_that_names_no_other(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    plain = re.sub(r"data:[\w/+-]+;base64,[\w+/=]+", "", text)
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|")""", plain)
    assert "http" not in plain
    # The name of an image does not end the script.
    assert text.count("</script>") == 2


def test_page_needs_images_and_a_name_of_a_page(files, tmp_path):
    result = evaluate(files[:1], [Plain("new", BLUE, (1, 2))])
    with pytest.raises(ValueError, match="keep_images=True"):
        result.to_html(tmp_path / "a.html")
    with pytest.raises(ValueError, match="suffix must be"):
        result.to_html(tmp_path / "a.txt")


def test_page_without_matplotlib_names_the_extra(files, tmp_path, monkeypatch):
    result = evaluate(files[:1], [Plain("new", BLUE, (1, 2))], keep_images=True)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"compressai-torch\[plot\]"):
        result.to_html(tmp_path / "a.html")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def chromium(page):
    reason = why_no_browser()
    if reason:
        pytest.skip(reason)
    with browser() as session:
        session.open(page, 1000, 900)
        yield session


def colours_across(session):
    """Colours along the middle of the images, at an eighth, three eighths and so on."""
    box = session.run(
        "window.scrollTo(0, 0);"
        "const b = document.getElementById('stage').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height, window.devicePixelRatio]"
    )
    x, y, width, height, ratio = box
    shot = session.screenshot()
    row = int((y + 0.8 * height) * ratio)
    return [shot.getpixel((int((x + width * k / 8) * ratio), row)) for k in (1, 3, 5, 7)]


SET = """
const node = document.getElementById(arguments[0]);
node.value = arguments[1];
node.dispatchEvent(new Event(arguments[2]));
"""
TEXT = "return document.getElementById(arguments[0]).textContent"


def choose(session, name, value):
    session.run(SET, name, value, "change")


def test_browser_shows_both_images_and_the_slider_moves_the_border(chromium):
    choose(chromium, "left", "old 2")
    choose(chromium, "right", "new 2")
    chromium.run(SET, "slider", "50", "input")
    assert colours_across(chromium) == [RED, RED, BLUE, BLUE]
    chromium.run(SET, "slider", "25", "input")
    assert colours_across(chromium) == [RED, BLUE, BLUE, BLUE]
    chromium.run(SET, "slider", "100", "input")
    assert colours_across(chromium) == [RED] * 4
    chromium.run(SET, "slider", "0", "input")
    assert colours_across(chromium) == [BLUE] * 4


def test_browser_shows_the_original_untouched(chromium, files):
    choose(chromium, "zoom", "1")
    choose(chromium, "right", "original")
    chromium.run(SET, "slider", "0", "input")
    x, y = chromium.run(
        "const b = document.getElementById('stage').getBoundingClientRect(); return [b.x, b.y]"
    )
    shot = chromium.screenshot().crop((round(x), round(y), round(x) + SIZE[0], round(y) + SIZE[1]))
    with Image.open(files[0]) as image:
        # Above is the name of what is shown, and on the left the border.
        same = np.asarray(shot) == np.asarray(image.convert("RGB"))
    assert same[60:, 40:].all()
    choose(chromium, "zoom", "fit")


def test_browser_tells_the_figures_of_what_is_shown(chromium):
    choose(chromium, "left", "old 2")
    choose(chromium, "right", "new 3")
    sides = chromium.run("return document.getElementById('sides').innerText")
    # The codec to compare with follows the size: 3300 bytes are nearer to 3000 than 2200.
    assert re.search(r"left\s+old 3\s+3,300\s+0\.41[23]\s", sides)
    assert re.search(r"right\s+new 3\s+3,000\s+0\.375\s.*\s12\s+34", sides)
    choose(chromium, "right", "new 1")
    assert "old 1" in chromium.run(TEXT, "sides")
    # What nothing under test comes near to has figures, but no image.
    assert "old 30" in chromium.run(TEXT, "all")
    assert "old 30" not in chromium.run(TEXT, "left")


def test_browser_goes_to_the_other_image(chromium, files):
    name = files[1].name
    choose(chromium, "right", "new 2")
    choose(chromium, "image", "1")
    shown = chromium.run(
        "const s = document.getElementById('image'); return s.options[s.selectedIndex].text"
    )
    assert shown == name
    assert chromium.run("return document.getElementById('right').value") == "new 2"
    choose(chromium, "left", "original")
    png = chromium.run("return document.getElementById('left-image').src").partition(",")[2]
    with Image.open(io.BytesIO(base64.b64decode(png))) as got, Image.open(files[1]) as image:
        assert np.array_equal(np.asarray(got), np.asarray(image))
    choose(chromium, "image", "0")


def test_browser_has_all_images_and_nothing_to_complain_about(chromium):
    assert chromium.run(
        "return [...document.images].every((image) => image.complete && image.naturalWidth > 0)"
    )
    loaded = chromium.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert all(name.startswith("data:") for name in loaded)
    assert "no overlap" in chromium.run(TEXT, "bd") or "%" in chromium.run(TEXT, "bd")
    assert chromium.complaints() == []
