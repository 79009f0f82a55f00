# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The Pillow plugin: coded images behave like all other images of Pillow."""

from __future__ import annotations

import contextlib
import copy
import io
import pickle
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageFile, UnidentifiedImageError
from program import MODEL, alone_in, blurred_noise
from tiny_nets import tiny_net

import compressai.pillow
from compressai.bitstream import BitstreamError, decode_image, parse_coded, read_coded
from compressai.pillow import models as plugin_models
from compressai.pillow import plugin


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_models, "_checkpoints", {})
    compressai.pillow.configure(precision="fp32")
    with alone_in(tmp_path, monkeypatch) as here:
        yield here
    compressai.pillow.configure()


@pytest.fixture
def photo(checkpoint):
    image = blurred_noise()
    image.save("photo.cai", checkpoint=checkpoint)
    return image


def test_images_are_saved_and_opened_like_others(photo, checkpoint):
    coded = read_coded("photo.cai")
    assert (coded.model, coded.quality, coded.width, coded.height) == (MODEL, None, 70, 50)
    with Image.open("photo.cai") as image:
        assert (image.format, image.mode, image.size) == ("CAI", "RGB", (70, 50))
        assert image.get_format_mimetype() == "image/x-cai"
        assert image.info["model"] == MODEL
        got = np.asarray(image)
    expected = decode_image(compressai.load(checkpoint), coded).to_image()
    # The plugin's transforms are prepared for speed, which changes the last digits.
    assert np.abs(got.astype(int) - np.asarray(expected)).max() <= 1
    assert np.array_equal(got, np.asarray(Image.open("photo.cai").convert("RGB")))


def test_pixels_are_decoded_when_they_are_asked_for_and_once(photo, monkeypatch):
    calls = []

    def decode(*arguments, **options):
        calls.append(arguments)
        return decode_image(*arguments, **options)

    monkeypatch.setattr(plugin, "decode_image", decode)
    image = Image.open("photo.cai")
    assert image.size == (70, 50)
    assert calls == []
    image.load()
    image.getpixel((0, 0))
    image.resize((8, 8))
    assert len(calls) == 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
def test_all_modes_can_be_saved(mode, checkpoint):
    image = blurred_noise().convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image.save("x.cai", checkpoint=checkpoint)
    with Image.open("x.cai") as back:
        back.load()
        # What is opaque needs no alpha.
        assert back.mode == ("L" if mode in ("L", "LA", "1", "I;16") else "RGB")
        assert back.size == image.size


def test_transparency_is_kept(checkpoint):
    Image.new("RGBA", (20, 10), (1, 2, 3, 40)).save("x.cai", checkpoint=checkpoint)
    with Image.open("x.cai") as back:
        assert back.mode == "RGBA"
        assert np.all(np.asarray(back)[..., 3] == 40)


def test_streams_work_as_files_do(checkpoint):
    stream = io.BytesIO()
    blurred_noise().save(stream, format="CAI", checkpoint=checkpoint)
    stream.seek(0)
    with Image.open(stream) as image:
        assert image.size == (70, 50)
    # As of all formats, the pixels may be read while the stream is open only. We read it all.
    stream.seek(0)
    assert Image.open(stream, formats=("CAI",)).convert("L").size == (70, 50)


def test_copies_and_pickles_are_images(photo):
    image = Image.open("photo.cai")
    pixels = np.asarray(image)
    for twin in (image.copy(), copy.copy(image), pickle.loads(pickle.dumps(image))):
        assert np.array_equal(np.asarray(twin), pixels)


def test_metadata_are_kept_on_request(checkpoint):
    image = blurred_noise()
    exif = Image.Exif()
    exif[0x010F] = "maker"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save("given.cai", checkpoint=checkpoint, exif=exif, icc_profile=profile)
    image.info["exif"] = exif.tobytes()
    image.save("kept.cai", checkpoint=checkpoint, keep_metadata=True)
    image.save("dropped.cai", checkpoint=checkpoint)
    given, kept, dropped = (Image.open(f"{n}.cai") for n in ("given", "kept", "dropped"))
    assert given.getexif()[0x010F] == kept.getexif()[0x010F] == "maker"
    assert given.info["icc_profile"] == profile
    assert not dropped.getexif()
    given.save("given.png")
    assert Image.open("given.png").info["icc_profile"] == profile


def test_published_weights_are_chosen_by_quality(folder, monkeypatch):
    asked = []
    net = tiny_net(MODEL)

    def build(quality, metric, pretrained=False):
        asked.append((quality, metric, pretrained))
        return net

    monkeypatch.setitem(compressai.zoo.image_models, MODEL, build)
    monkeypatch.setattr("compressai.model_choice.weights_at_hand", lambda *_: True)
    blurred_noise().save("x.cai", quality=2, model=MODEL)
    blurred_noise().save("x.cai", quality=2, model=MODEL)
    assert asked == [(2, "mse", True)]
    with Image.open("x.cai") as image:
        assert (image.info["quality"], image.info["metric"]) == (2, "mse")
        image.load()
        image.copy()
    Image.open("x.cai").load()
    assert asked == [(2, "mse", True)] * 2


def test_images_are_not_coded_with_random_weights(folder):
    with pytest.raises(OSError, match="no trained weights"):
        blurred_noise().save("x.cai", model="bmshj2018-factorized", quality=1)
    assert not Path("x.cai").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"model": "nonsense"}, ValueError),
        ({"model": MODEL, "quality": 75}, ValueError),
        ({"checkpoint": "missing.safetensors"}, FileNotFoundError),
        ({"checkpoint": "CHECKPOINT", "quality": 3}, ValueError),
        ({"checkpoint": "CHECKPOINT", "tile": 13}, ValueError),
    ],
)
def test_impossible_wishes_are_refused_and_leave_nothing(options, error, checkpoint):
    if options.get("checkpoint") == "CHECKPOINT":
        options = {**options, "checkpoint": checkpoint}
    with pytest.raises(error):
        blurred_noise().save("x.cai", **options)
    assert not Path("x.cai").exists()


def test_files_are_found_weights_for_by_fingerprint(photo, checkpoint, monkeypatch):
    monkeypatch.setattr(plugin_models, "_checkpoints", {})
    image = Image.open("photo.cai")
    with pytest.raises(OSError, match="use_checkpoint"):
        image.load()
    compressai.pillow.use_checkpoint(checkpoint)
    assert np.asarray(Image.open("photo.cai")).shape == (50, 70, 3)
    image.load()  # the one that failed before, too


def test_weights_without_description_need_a_name(folder):
    torch.save(tiny_net(MODEL).state_dict(), "weights.pth")
    blurred_noise().save("x.cai", checkpoint="weights.pth", model=MODEL)
    compressai.pillow.use_checkpoint("weights.pth", MODEL)
    assert Image.open("x.cai").convert("L").size == (70, 50)


# -- damage and malice ----------------------------------------------------------------------------


def test_damaged_files_are_not_identified_and_say_why(photo):
    content = Path("photo.cai").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for damaged in (content[:30], content[:-1], content[:-9] + b"\0" + content[-8:]):
            with pytest.raises(UnidentifiedImageError, match=r"truncated|checksum") as failure:
                Image.open(io.BytesIO(damaged))
            assert isinstance(failure.value.__cause__, BitstreamError)
            with pytest.raises(UnidentifiedImageError):
                Image.open(io.BytesIO(damaged), formats=("CAI",))


def test_other_files_are_left_to_other_plugins(folder):
    blurred_noise().save("x.png")
    Path("x.cai").write_bytes(Path("x.png").read_bytes())
    assert Image.open("x.cai").format == "PNG"
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"nonsense"))


def test_files_that_do_not_decode_are_errors_of_the_system(photo, monkeypatch):
    def decode(*_, **__):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(plugin, "decode_image", decode)
    with pytest.raises(OSError, match="out of memory"):
        Image.open("photo.cai").load()


def test_pillows_switch_for_truncated_files_is_obeyed(checkpoint, monkeypatch):
    blurred_noise((200, 150)).save("x.cai", checkpoint=checkpoint, tile=64)
    content = Path("x.cai").read_bytes()[:-20]
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(content))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = Image.open(io.BytesIO(content))
    image.load()
    assert image.size == (200, 150)


def test_pillows_limits_against_bombs_hold_before_anything_is_decoded(photo, monkeypatch):
    monkeypatch.setattr(plugin, "decode_image", None)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open("photo.cai")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open("photo.cai")


def test_our_limit_holds_where_pillows_is_off(photo, monkeypatch):
    coded = vars(read_coded("photo.cai"))
    huge = type(read_coded("photo.cai"))(**{**coded, "width": 2**20, "height": 2**20})
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    image = Image.open(io.BytesIO(huge.to_bytes()))
    with pytest.raises(OSError, match="limit"):
        image.load()


# -- threads and processes ------------------------------------------------------------------------


def test_threads_may_open_and_save_at_the_same_time(photo, checkpoint):
    expected = np.asarray(Image.open("photo.cai"))
    content = Path("photo.cai").read_bytes()
    plugin_models.configure(precision="fp32")  # models are to be loaded at the same time, too
    failures = []

    def work():
        try:
            for _ in range(3):
                assert np.array_equal(np.asarray(Image.open("photo.cai")), expected)
                stream = io.BytesIO()
                blurred_noise().save(stream, "CAI", checkpoint=checkpoint)
                assert stream.getvalue() == content
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_pillow_knows_the_format_as_its_own():
    Image.init()
    assert Image.registered_extensions()[".cai"] == "CAI"
    assert "CAI" in Image.OPEN
    assert "CAI" in Image.SAVE
    # Registering twice changes nothing.
    known = Image.ID.copy()
    compressai.pillow.register()
    assert known == Image.ID


def test_folders_are_not_searched_for_coded_images_to_encode(checkpoint, folder):
    """The command line asks Pillow for suffixes, which may know ours by then."""
    from compressai._images import image_suffixes

    assert ".cai" not in image_suffixes()
    assert ".png" in image_suffixes()


def hostile_exif():
    """Metadata that Pillow fails at."""
    return {
        "header": b"Exif\0\0nothing of the kind",
        "cut": b"Exif\0\0II*\0\x08\0\0\0\5",
    }


@pytest.mark.parametrize("kind", ["header", "cut", "table"])
def tables_of(path):
    with Image.open(path) as image:
        exif = image.getexif()
        return [exif.get_ifd(tag) for tag in (0x8769, 0x8825, 0xA005)]


@pytest.mark.parametrize("kind", ["header", "cut"])
def test_exif_that_pillow_cannot_read_is_an_error_of_pillows_kind(kind, checkpoint, monkeypatch):
    Image.new("RGB", (64, 64)).save("a.cai", checkpoint=checkpoint)
    coded = replace(read_coded("a.cai"), exif=hostile_exif()[kind])
    Path("bad.cai").write_bytes(coded.to_bytes())
    with pytest.raises(UnidentifiedImageError, match="EXIF metadata are damaged"):
        tables_of("bad.cai")
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    assert tables_of("bad.cai") == [{}, {}, {}]


def test_any_change_of_exif_is_read_or_an_error_of_pillows_kind(checkpoint):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    Image.new("RGB", (64, 64)).save("a.cai", checkpoint=checkpoint)
    coded = read_coded("a.cai")
    whole = exif.tobytes()
    for position in range(len(whole)):
        for value in (0, 255, whole[position] ^ 0x55):
            changed = whole[:position] + bytes([value]) + whole[position + 1 :]
            Path("bad.cai").write_bytes(replace(coded, exif=changed).to_bytes())
            with contextlib.suppress(OSError):
                tables_of("bad.cai")


# -- parts, small versions, and models that need no torch ------------------------------------------


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    """An image of 3 x 2 tiles, coded with the default model."""
    path = tmp_path_factory.mktemp("tiled") / "tiled.cai"
    rng = np.random.Generator(np.random.PCG64(0))
    small = rng.integers(60, 190, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((300, 210)).save(path, tile=128)
    assert parse_coded(path.read_bytes()).tiling.count == 6
    return path


def test_crops_decode_their_tiles_only(tiled, monkeypatch):
    whole = Image.open(tiled)
    whole.load()
    regions = []

    def decode(net, coded, **options):
        regions.append(options.get("region"))
        return decode_image(net, coded, **options)

    monkeypatch.setattr(plugin, "decode_image", decode)
    image = Image.open(tiled)
    box = (20, 30.4, 90, 70)
    part = image.crop(box)
    assert (part.mode, part.size, part.info["model"]) == ("RGB", (70, 40), "lite")
    np.testing.assert_array_equal(part, whole.crop(box))
    assert regions == [(20, 30, 70, 40)]
    # Beyond the image there is nothing to decode, so that Pillow fills it.
    outside = (-5, 0, 20, 20)
    np.testing.assert_array_equal(image.crop(outside), whole.crop(outside))
    assert regions == [(20, 30, 70, 40), None]
    np.testing.assert_array_equal(image.crop(box), part)
    assert len(regions) == 2


@pytest.mark.parametrize("factor", [2, 4])
def test_drafts_are_means_of_squares(tiled, factor):
    whole = Image.open(tiled)
    whole.load()
    image = Image.open(tiled)
    mode, box = image.draft(None, (300 // factor, 210 // factor))
    assert (mode, box) == ("RGB", (0, 0, 300 / factor, 210 / factor))
    assert image.size == (300 // factor, -(-210 // factor))
    apart = np.abs(np.asarray(image, int) - np.asarray(whole.reduce(factor), int))
    assert apart.max() <= 1
    assert image.draft(None, (10, 10)) is None


def test_thumbnails_are_made_of_drafts(tiled):
    image, whole = Image.open(tiled), Image.open(tiled).copy()
    image.thumbnail((40, 40))
    whole.thumbnail((40, 40))
    assert image.size == whole.size == (40, 28)
    apart = np.abs(np.asarray(image, int) - np.asarray(whole, int))
    assert apart.mean() < 2
    assert Image.open(tiled).draft(None, (299, 200)) is None


def test_colours_behind_transparency_get_into_no_draft(tiled, tmp_path):
    image = Image.open(tiled).convert("RGBA")
    image.putalpha(128)
    image.save(tmp_path / "alpha.cai")
    assert Image.open(tmp_path / "alpha.cai").draft(None, (30, 30)) is None


def test_the_default_model_needs_no_torch(tiled):
    program = (
        "import sys, compressai.pillow\n"
        "from PIL import Image\n"
        "image = Image.open(sys.argv[1])\n"
        "image.load()\n"
        "image.save(sys.argv[2])\n"
        "print(image.size, [n for n in ('torch', 'scipy') if n in sys.modules])"
    )
    words = [sys.executable, "-c", program, str(tiled), str(tiled.with_name("again.cai"))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "(300, 210) []\n"
