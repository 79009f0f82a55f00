# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The page: what it decodes, codes and says, in a real browser, also without a network."""

from __future__ import annotations

import base64
import functools
import http.server
import importlib.util
import io
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from test_runtime_rates import NAME, net_of_any_rate
from tiny_nets import one_thread, tiny_net
from webdriver import Browser, browser, why_no_browser

from compressai.bitstream import (
    CodedImage,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
    write_coded,
)
from compressai.models.base import ModelIdentity
from compressai.zoo import lite

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
from compressai.inference import export_bundle

ROOT = Path(__file__).parents[1]
PHOTO = ROOT / "examples" / "assets" / "chelsea.png"
WINDOW = (1000, 800)
# Bytes that the page may take for an image of 2048 x 1365.
MOST_MEMORY = 1.5e9


def why_no_page() -> str | None:
    """A reason to skip, or ``None``."""
    if why_no_browser():
        return why_no_browser()
    if shutil.which("emcc") is None:
        return "emscripten not installed (apt-get install emscripten)"
    if not list((ROOT / "build/npm").glob("onnxruntime-web-*.tgz")):
        return "onnxruntime-web not fetched (make web)"
    return None


# .ci/run sets it: there, tests fail where the page cannot be tested.
NEEDED = "COMPRESSAI_TEST_PAGE" in os.environ
pytestmark = pytest.mark.skipif(why_no_page() is not None and not NEEDED, reason=str(why_no_page()))


def test_page_can_be_tested() -> None:
    assert why_no_page() is None


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Nothing is said of requests."""


@dataclass
class Site:
    """The page, served: files in ``folder`` are next to it."""

    folder: Path
    server: http.server.ThreadingHTTPServer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def build_page(folder: Path, models: list[str]) -> Path:
    """``folder``, with a page of these models."""
    spec = importlib.util.spec_from_file_location("build_page", ROOT / "web/build.py")
    building = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(building)
    building.build(folder, models)
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page(tmp_path_factory.mktemp("page") / "dist", ["lite"])


def serve(folder: Path) -> Site:
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return Site(folder, server)


@pytest.fixture(scope="module")
def site(built: Path) -> Iterator[Site]:
    made = serve(built)
    yield made
    made.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def net() -> Any:
    return lite(pretrained=True).eval()


@pytest.fixture
def page(site: Site, chromium: Browser) -> Browser:
    chromium.open(site.url, *WINDOW)
    return chromium


def photo(size: tuple[int, int] | None = None) -> Image.Image:
    with Image.open(PHOTO) as image:
        image = image.convert("RGB")
        return image if size is None else image.resize(size, Image.Resampling.BICUBIC)


# What the page says, when it has finished.
STATE = """
const text = (id) => document.getElementById(id).textContent;
const message = document.getElementById("message");
return document.getElementById("progress").hidden && {
  message: message.hidden ? "" : message.textContent,
  kind: message.dataset.kind ?? "",
  facts: Object.fromEntries([...document.querySelectorAll("#facts div")].map((fact) =>
    [fact.children[0].textContent, fact.children[1].textContent])),
};
"""
DROP = """
const [name, content] = arguments;
const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
const dataTransfer = new DataTransfer();
dataTransfer.items.add(new File([bytes], name));
document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
"""
CALL = """
const { call } = await import("./client.js");
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const text = async (bytes) => {
  const reader = new FileReader();
  const read = new Promise((resolve) => (reader.onload = resolve));
  reader.readAsDataURL(new Blob([bytes]));
  await read;
  return reader.result.split(",")[1] ?? "";
};
"""


def finished(page: Browser) -> dict[str, Any]:
    """What the page says in the end."""
    for _ in range(1200):
        state = page.run(STATE)
        if state:
            return state
        time.sleep(0.1)  # as a person would look again
    raise AssertionError("the page does not come to an end")


def dropped(page: Browser, name: str, content: bytes) -> dict[str, Any]:
    page.run(DROP, name, base64.b64encode(content).decode())
    return finished(page)


def called(page: Browser, script: str, *contents: bytes) -> Any:
    """What a script returns that calls the worker."""
    texts = [base64.b64encode(content).decode() for content in contents]
    return page.run(
        f"const run = async (...given) => {{{CALL}{script}}}; return run(...arguments)", *texts
    )


def decoded(page: Browser, content: bytes) -> tuple[np.ndarray, dict[str, Any], Image.Image]:
    """Samples ``(H, W, 4)``, what else is known, and the image as it would be saved."""
    script = """
    const image = await call("decode", [bytes(given[0])]);
    const png = await call("toPng", [image]);
    const { rgba, icc, exif, ...known } = image;
    return { ...known, rgba: await text(rgba), png: await text(png) };
    """
    known = called(page, script, content)
    rgba = np.frombuffer(base64.b64decode(known.pop("rgba")), dtype=np.uint8)
    png = Image.open(io.BytesIO(base64.b64decode(known.pop("png"))))
    return rgba.reshape(known["height"], known["width"], 4), known, png


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    difference = np.abs(found.astype(int) - expected)
    return (
        difference.shape == expected.shape
        and difference.max() <= 1
        # As many as tests/test_c_library.py allows: which samples lie so near to a half that they
        # are rounded otherwise depends on the processor that torch runs on.
        and (difference > 0).mean() < 1e-3
    )


def test_link_shows_the_image_and_what_is_known_of_it(site: Site, page: Browser, net: Any) -> None:
    # Smooth, since half a pixel shows in detail.
    coded = encode_image(net, read_image(photo()), quality=22)
    size = write_coded(coded, site.folder / "photo.cai")
    page.open(f"{site.url}?src=photo.cai", *WINDOW)
    state = finished(page)
    assert state["message"] == ""
    assert state["facts"]["Latent"] == coded.tiles[0].y_hat_hash.hex()
    assert state["facts"]["Size"] == "451 × 300"
    assert state["facts"]["File"] == f"{size:,} bytes"
    assert state["facts"]["Rate"] == f"{8 * size / (451 * 300):.3f} bits a pixel"
    expected = np.asarray(decode_image(net, coded).to_image())
    shot = np.asarray(page.screenshot()).astype(int)
    box = page.run(
        "const box = document.getElementById('decoded').getBoundingClientRect();"
        "return [box.left, box.top, box.width, box.height].map(Math.round)"
    )
    assert box[2:] == [451, 300]
    left, top = box[:2]
    seen = shot[top : top + 300, left : left + 451]
    # The scene may lie half a pixel off.
    assert np.abs(seen - expected)[5:-5, 5:-5].mean() < 3


@pytest.mark.parametrize("tile", [None, 128])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_latent_and_pixels_are_those_of_torch(
    page: Browser, net: Any, mode: str, tile: Any
) -> None:
    image = photo((200, 170)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.radial_gradient("L").resize(image.size))
    coded = encode_image(net, read_image(image), tile=tile)
    samples, known, png = decoded(page, coded.to_bytes())
    assert known["hash"] == coded.tiles[-1].y_hat_hash.hex()
    expected = decode_image(net, coded).to_image()
    assert close(samples, np.asarray(expected.convert("RGBA")))
    assert png.mode == mode
    assert np.array_equal(np.asarray(png.convert("RGBA")), samples)


def test_profile_and_exif_are_in_the_saved_image(page: Browser, net: Any) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010E] = "a cat"
    image = read_image(photo((64, 64)))
    coded = encode_image(net, replace(image, icc=profile, exif=exif.tobytes()))
    _, _, png = decoded(page, coded.to_bytes())
    assert png.info["icc_profile"] == profile
    assert png.getexif()[0x010E] == "a cat"


def test_dropped_image_is_coded_and_torch_decodes_it(page: Browser, net: Any) -> None:
    buffer = io.BytesIO()
    photo().save(buffer, "PNG")
    state = dropped(page, "cat.png", buffer.getvalue())
    assert state["message"] == ""
    assert float(state["facts"]["PSNR"].removesuffix(" dB")) > 28
    script = "return !document.getElementById('{}').hidden"
    assert all(page.run(script.format(part)) for part in ("coding", "split", "source", "cai"))
    samples = np.asarray(photo().convert("RGBA"))
    script = """
    const image = { width: 451, height: 300, rgba: new Uint8ClampedArray(bytes(given[0])) };
    const { file, quality } = await call("encode", [image, 50, 0]);
    return [await text(file), quality];
    """
    content, quality = called(page, script, samples.tobytes())
    coded = parse_coded(base64.b64decode(content))
    assert (coded.model, coded.quality, quality) == ("lite", 50, 50)
    assert coded.sync_safe
    assert state["facts"]["Latent"] == coded.tiles[0].y_hat_hash.hex()
    found = np.asarray(decode_image(net, coded).to_image())  # which compares hashes
    assert np.abs(found.astype(int) - samples[..., :3]).mean() < 8


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Site]]:
    """A small model of variable rate, and a page of its bundle."""
    folder = tmp_path_factory.mktemp("rates")
    net = net_of_any_rate()
    with one_thread():
        export_bundle(net, folder / "tiny.caibundle")
    made = serve(build_page(folder / "dist", [str(folder / "tiny.caibundle"), "lite"]))
    yield net, made
    made.close()


@pytest.mark.parametrize("quality", [0, 33.3, 100])
def test_any_quality_decodes_and_is_coded(
    rates: tuple[Any, Site], chromium: Browser, quality: float
) -> None:
    net, site = rates
    chromium.open(site.url, *WINDOW)
    image = photo((150, 100))
    coded = encode_image(net, read_image(image), quality=quality)
    samples, known, _ = decoded(chromium, coded.to_bytes())
    assert known["hash"] == coded.tiles[0].y_hat_hash.hex()
    assert known["quality"] == coded.quality
    assert close(samples[..., :3], np.asarray(decode_image(net, coded).to_image()))
    made = coded_there(chromium, image, quality)
    assert made.quality == coded.quality
    decode_image(net, made)  # which compares hashes


def coded_there(page: Browser, image: Image.Image, quality: float, most: int = 0) -> CodedImage:
    """What the page makes of an image."""
    script = f"""
    const rgba = new Uint8ClampedArray(bytes(given[0]));
    const image = {{ width: {image.width}, height: {image.height}, rgba }};
    const {{ file }} = await call("encode", [image, {quality}, {most}]);
    return text(file);
    """
    return parse_coded(base64.b64decode(called(page, script, image.convert("RGBA").tobytes())))


@pytest.fixture(scope="module")
def levels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Site]]:
    """A small model with levels, and a page of its bundle."""
    folder = tmp_path_factory.mktemp("levels")
    net = tiny_net("mbt2018-mean-vbr")
    net.identity = ModelIdentity("mbt2018-mean-vbr", None, "mse")
    with one_thread():
        export_bundle(net, folder / "tiny.caibundle")
    made = serve(build_page(folder / "dist", [str(folder / "tiny.caibundle")]))
    yield net, made
    made.close()


def test_levels_decode_and_are_coded(levels: tuple[Any, Site], chromium: Browser) -> None:
    net, site = levels
    chromium.open(site.url, *WINDOW)
    image = photo((150, 100))
    sizes = {}
    for quality in (1, 5, 8):
        coded = encode_image(net, read_image(image), quality=quality)
        samples, known, _ = decoded(chromium, coded.to_bytes())
        assert known["hash"] == coded.tiles[0].y_hat_hash.hex()
        assert close(samples[..., :3], np.asarray(decode_image(net, coded).to_image()))
        made = coded_there(chromium, image, quality)
        assert (made.quality, type(made.quality)) == (quality, int)
        decode_image(net, made)  # which compares hashes
        sizes[quality] = len(made.to_bytes())
    assert coded_there(chromium, image, 4.6).quality == 5
    # The best level whose file is small enough, from the chosen one downwards.
    assert coded_there(chromium, image, 8, sizes[5]).quality == 5
    assert coded_there(chromium, image, 4, sizes[5]).quality == 4
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    assert dropped(chromium, "cat.png", buffer.getvalue())["facts"]["Model"].endswith(" 8")
    assert chromium.run("return document.getElementById('quality').step") == "1"


def test_sizes_between_whole_qualities_are_reached(
    rates: tuple[Any, Site], chromium: Browser
) -> None:
    net, site = rates
    chromium.open(site.url, *WINDOW)
    image = photo((300, 200))
    sizes = {q: len(coded_there(chromium, image, q).to_bytes()) for q in (0, 30, 100)}
    assert sizes[0] < sizes[30] < sizes[100]
    most = (2 * sizes[30] + sizes[100]) // 3
    found = coded_there(chromium, image, 100, most)
    assert 0.98 * most < len(found.to_bytes()) <= most
    assert 30 < found.quality < 100
    assert found.quality != round(found.quality)
    decode_image(net, found)
    # The quality that is chosen is the highest.
    assert coded_there(chromium, image, 30, most).quality == 30
    assert coded_there(chromium, image, 100, sizes[0]).quality < 30


def test_slider_chooses_the_quality(rates: tuple[Any, Site], chromium: Browser) -> None:
    _, site = rates
    chromium.open(site.url, *WINDOW)
    buffer = io.BytesIO()
    photo((100, 80)).save(buffer, "PNG")
    state = dropped(chromium, "cat.png", buffer.getvalue())
    assert state["facts"]["Model"] == f"{NAME} 50"
    move = """
    const [id, other, value] = arguments;
    const control = document.getElementById(id);
    control.value = value;
    control.dispatchEvent(new Event("input"));
    document.querySelector("#coding button").click();
    return document.getElementById(other).value;
    """
    assert chromium.run(move, "slider", "quality", "20") == "20"
    assert finished(chromium)["facts"]["Model"] == f"{NAME} 20"
    assert chromium.run(move, "quality", "slider", "72.25") == "72"
    assert finished(chromium)["facts"]["Model"] == f"{NAME} 72.25"
    # Files of the other model of the page are decoded, too.
    other = encode_image(lite(pretrained=True).eval(), read_image(photo((70, 50))))
    assert dropped(chromium, "other.cai", other.to_bytes())["facts"]["Model"] == "lite 50"


def test_image_is_zoomed_compared_and_saved(page: Browser) -> None:
    buffer = io.BytesIO()
    photo((100, 80)).save(buffer, "PNG")
    assert dropped(page, "cat.png", buffer.getvalue())["message"] == ""

    def shown_after(button: str) -> str:
        return page.run(
            "document.getElementById(arguments[0]).click();"
            "return document.getElementById('zoom').textContent",
            button,
        )

    zooms = [shown_after(button) for button in ("one", "larger", "smaller", "smaller", "fit")]
    assert zooms == ["100 %", "125 %", "100 %", "80 %", "100 %"]

    def hidden_at(place: int) -> float:
        clip = page.run(
            "const split = document.getElementById('split'); split.value = arguments[0];"
            "split.dispatchEvent(new Event('input'));"
            "return document.getElementById('source').style.clipPath",
            place,
        )
        # inset(0px RIGHT 0px 0px), or inset(0px) where all are alike
        sides = clip.removeprefix("inset(").removesuffix(")").split()
        return float(sides[min(1, len(sides) - 1)].removesuffix("px"))

    # The image lies in the middle; the original is what is left of the handle.
    assert [hidden_at(place) for place in (0, 500, 1000)] == [100, pytest.approx(50, abs=1), 0]
    page.run(
        "window.saved = [];"
        "const create = URL.createObjectURL;"
        "let blob;"
        "URL.createObjectURL = (made) => create((blob = made));"
        "HTMLAnchorElement.prototype.click = function () {"
        "  window.saved.push([this.download, blob]);"
        "};"
    )
    contents = {}
    for number, button in enumerate(("png", "cai"), 1):
        shown_after(button)
        for _ in range(100):
            if page.run("return window.saved.length") == number:
                break
            time.sleep(0.1)
        name, content = called(
            page,
            "const [name, blob] = window.saved.at(-1); return [name, await text(blob)];",
        )
        contents[name] = base64.b64decode(content)
    coded = CodedImage.from_bytes(contents.pop("cat.cai"))
    pixels = decode_image(lite(pretrained=True).eval(), coded).pixels
    [(name, png)] = contents.items()
    assert name == "cat.png"
    saved = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    expected = np.rint(255 * pixels.clamp(0, 1).permute(1, 2, 0).numpy())
    assert close(saved, expected)


def test_size_that_cannot_be_reached_is_told(page: Browser) -> None:
    buffer = io.BytesIO()
    photo((100, 80)).save(buffer, "PNG")
    assert dropped(page, "cat.png", buffer.getvalue())["message"] == ""
    page.run(
        "document.getElementById('most').value = 0.1;"
        "document.querySelector('#coding button').click()"
    )
    state = finished(page)
    page.run("document.getElementById('most').value = ''")
    assert state["kind"] == "SizeError"
    assert "the smallest file takes" in state["message"]


def damaged(coded: CodedImage) -> dict[str, tuple[bytes, str]]:
    """Files by what is told of them, and the kind of error."""
    content = coded.to_bytes()
    other = replace(coded, fingerprint=bytes(8)).to_bytes()
    unknown = replace(coded, fingerprint=bytes(8), model="nobody").to_bytes()
    alpha = replace(coded, mode="RGBA", alpha=b"x" * 50).to_bytes()
    return {
        "a part of it is missing": (content[:-9], "TruncatedFileError"),
        "some of it was changed": (content[:-9] + b"x" + content[-8:], "ChecksumError"),
        "neither a .cai file nor an image": (b"GIF?", "NotACodedImageError"),
        "the file is empty": (b"", "TruncatedFileError"),
        "other weights of lite": (other, "WrongWeightsError"),
        "the model nobody": (unknown, "UnknownModelError"),
        "the alpha plane is damaged": (alpha, "DamagedFileError"),
        "has format version 9": (content[:4] + b"\x09" + content[5:], "UnsupportedVersionError"),
    }


def test_damaged_and_foreign_files_are_told_of(page: Browser, net: Any) -> None:
    for text, (content, kind) in damaged(encode_image(net, read_image(photo((70, 50))))).items():
        state = dropped(page, "file.cai", content)
        assert text in state["message"]
        assert state["kind"] == kind


def test_large_image_decodes_within_memory(page: Browser, net: Any) -> None:
    coded = encode_image(net, read_image(photo((2048, 1365))))
    samples, known, _ = decoded(page, coded.to_bytes())
    assert known["hash"] == coded.tiles[0].y_hat_hash.hex()
    assert close(samples[..., :3], np.asarray(decode_image(net, coded).to_image()))
    assert 0 < page.peak_memory() < MOST_MEMORY


def test_element_shows_an_image_in_any_page(site: Site, page: Browser, net: Any) -> None:
    coded = encode_image(net, read_image(photo((90, 60))))
    write_coded(coded, site.folder / "small.cai")
    (site.folder / "bad.cai").write_bytes(coded.to_bytes()[:-1])
    page.open(f"{site.url}demo.html", *WINDOW)
    script = """
    const show = (src) => new Promise((resolve) => {
      const element = document.createElement("img-cai");
      element.setAttribute("alt", "a cat");
      element.addEventListener("load", () => resolve(element));
      element.addEventListener("error", () => resolve(element));
      element.src = src;
      document.body.append(element);
    });
    return Promise.all([show("small.cai"), show("bad.cai")]).then(([good, bad]) => {
      const canvas = good.shadowRoot.querySelector("canvas");
      const { width, height, hash } = good.info;
      return [canvas.width, canvas.height, canvas.getAttribute("aria-label"), width, height, hash,
        bad.shadowRoot.querySelector("p").textContent];
    });
    """
    *seen, refusal = page.run(script)
    assert seen == [90, 60, "a cat", 90, 60, coded.tiles[0].y_hat_hash.hex()]
    assert refusal.startswith("a cat (the file is truncated")


def test_page_opens_and_decodes_without_a_network(built: Path, chromium: Browser, net: Any) -> None:
    site, page = serve(built), chromium
    page.open(site.url, *WINDOW)
    page.run("return navigator.serviceWorker.ready.then(() => true)")
    content = encode_image(net, read_image(photo((120, 90)))).to_bytes()
    page.complaints()
    site.close()
    page.open(site.url, *WINDOW)
    assert page.run("return crossOriginIsolated")  # by the service worker: so there are threads
    state = dropped(page, "cat.cai", content)
    assert state["message"] == ""
    assert state["facts"]["Size"] == "120 × 90"
    assert page.complaints() == []
