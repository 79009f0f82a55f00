# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Evaluation: figures are those of the files, codecs are real, and what is missing says so."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from program import PHOTO
from tiny_nets import tiny_net

from compressai.bitstream import decode_image, parse_coded
from compressai.evaluation import (
    CODECS,
    LPIPS,
    MS_SSIM,
    PSNR,
    ModelCodec,
    PillowCodec,
    Point,
    compute_metrics,
    evaluate,
    find_codec,
    find_images,
    lpips,
    ms_ssim,
    psnr,
)
from compressai.evaluation import metrics as metrics_module
from compressai.evaluation.plot import curves_of, read_curves

MODEL = "mbt2018-mean"

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def photo():
    with Image.open(PHOTO) as image:
        return image.convert("RGB").crop((100, 40, 300, 220))


@pytest.fixture
def files(tmp_path, photo):
    photo.save(tmp_path / "a.png")
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((90, 70)).save(tmp_path / "b.png")
    return [tmp_path / "a.png", tmp_path / "b.png"]


@pytest.fixture(scope="module")
def model():
    return ModelCodec(MODEL, {q: tiny_net(MODEL, q) for q in (1, 2)}, metric="mse")


# -- metrics --------------------------------------------------------------------------------------


def test_psnr_is_the_logarithm_of_the_mean_square_error():
    a = np.zeros((2, 3, 3), np.uint8)
    b = a.copy()
    b[0, 0, 0] = 30
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / (30**2 / 18)))
    assert psnr(a, a) == math.inf
    assert psnr(a / 255, b / 255, max_val=1) == pytest.approx(psnr(a, b))


def test_metrics_take_images_arrays_and_tensors_alike(photo):
    other = photo.rotate(1)
    arrays = [np.asarray(image) for image in (photo, other)]
    tensors = [torch.from_numpy(a.copy()).permute(2, 0, 1) for a in arrays]
    names = [PSNR, MS_SSIM]
    expected = compute_metrics(photo, other, names)
    assert list(expected) == names
    assert compute_metrics(*arrays, names) == expected
    assert compute_metrics(*tensors, names) == expected
    assert compute_metrics(*(t[None] for t in tensors), names) == expected
    assert ms_ssim(photo, photo) == pytest.approx(1)


def test_metrics_refuse_what_they_cannot_compare(photo):
    with pytest.raises(ValueError, match="same size"):
        psnr(photo, photo.resize((20, 20)))
    with pytest.raises(ValueError, match="161"):
        ms_ssim(photo.resize((160, 200)), photo.resize((160, 200)))
    with pytest.raises(ValueError, match="three channels"):
        psnr(torch.zeros(4, 5, 5), torch.zeros(4, 5, 5))
    with pytest.raises(ValueError, match=r"metrics must be among .*'vmaf'"):
        compute_metrics(photo, photo, ["vmaf"])


@pytest.fixture
def no_lpips_net():
    metrics_module._lpips_net.cache_clear()
    yield
    metrics_module._lpips_net.cache_clear()


def test_lpips_uses_the_packages_weights_on_torchvisions_alexnet(
    photo, tmp_path, monkeypatch, no_lpips_net
):
    pytest.importorskip("lpips")
    from torchvision.models import alexnet

    torch.manual_seed(0)
    # The real weights of AlexNet cannot be in a test; the way to them can.
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(alexnet().state_dict(), tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth")
    assert lpips(photo, photo) == 0
    near, far = photo.rotate(1), photo.rotate(90)
    assert 0 < lpips(photo, near) < lpips(photo, far)


def test_lpips_says_what_is_missing(photo, tmp_path, monkeypatch, no_lpips_net):
    def no_network(*args, **kwargs):
        raise OSError("no route")

    pytest.importorskip("lpips")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(RuntimeError, match=r"alexnet-owt-7be5be79.pth"):
        lpips(photo, photo)
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ImportError, match=r"pip install 'compressai-torch\[lpips\]'"):
        lpips(photo, photo)


# -- codecs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODECS)
def test_codecs_give_files_that_decode_to_what_was_measured(name, photo):
    if name == "jxl":
        pytest.importorskip("pillow_jxl")
    codec = find_codec(name)
    low, high = (codec.code(photo, codec.qualities[i]) for i in (1, -2))
    assert len(low.content) < len(high.content)
    assert psnr(photo, low.decoded) < psnr(photo, high.decoded)
    with Image.open(io.BytesIO(high.content)) as image:
        assert image.size == photo.size
        assert np.array_equal(np.asarray(image.convert("RGB")), np.asarray(high.decoded))
    assert min(high.encode_seconds, high.decode_seconds) > 0
    with pytest.raises(ValueError, match="between"):
        codec.code(photo, 101)


def test_profiles_and_texts_of_the_source_are_not_counted(photo, model):
    noted = photo.copy()
    noted.info.update(icc_profile=bytes(5000), xmp=bytes(5000), comment=b"x" * 500)
    noted.info["exif"] = b"Exif\0\0" + bytes(500)
    assert model.code(noted, 1).content == model.code(photo, 1).content
    for name in ("jpeg", "webp", "avif", "jpeg2000"):
        codec = find_codec(name)
        assert codec.code(noted, 50).content == codec.code(photo, 50).content


def test_missing_codecs_name_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(ImportError, match=r"pip install 'compressai-torch\[jxl\]'"):
        find_codec("jxl")
    monkeypatch.setattr("compressai.evaluation.codecs.features.check", lambda name: False)
    with pytest.raises(ImportError, match="upgrade pillow"):
        find_codec("avif")
    with pytest.raises(ValueError, match="jpeg, webp, avif, jxl, jpeg2000"):
        find_codec("bpg")
    with pytest.raises(ValueError, match="format must be one of"):
        PillowCodec("GIF")


def test_models_are_counted_by_their_files(model, photo):
    coded = model.code(photo, 2)
    file = parse_coded(coded.content)
    assert (file.model, file.quality, file.metric) == (MODEL, 2, "mse")
    decoded = decode_image(tiny_net(MODEL, 2), file).to_image()
    assert np.array_equal(np.asarray(decoded), np.asarray(coded.decoded))
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        model.code(photo, 3)
    with pytest.raises(ValueError, match="nets must have"):
        ModelCodec(MODEL, {})


def test_checkpoints_are_qualities_that_the_file_does_not_hold(photo):
    model = ModelCodec(MODEL, {"best": tiny_net(MODEL)}, name="mine")
    assert model.name == "mine"
    assert parse_coded(model.code(photo, "best").content).quality is None


# -- evaluation -----------------------------------------------------------------------------------


@pytest.fixture
def result(files, model):
    return evaluate(files, [model], [find_codec("jpeg")], keep_images=True)


def test_every_image_codec_and_quality_is_a_point(files, model, result):
    jpeg = find_codec("jpeg")
    wanted = [
        (file.name, codec.name, quality)
        for file in files
        for codec in (model, jpeg)
        for quality in codec.qualities
    ]
    assert [(p.image, p.codec, p.quality) for p in result.points] == wanted
    assert result.images == ["a.png", "b.png"]
    first = result.points[0]
    with Image.open(files[0]) as image:
        coded = model.code(image, 1)
        assert first.bytes == len(coded.content)
        assert first.bpp == 8 * len(coded.content) / (image.width * image.height)
        assert first.psnr == psnr(image, coded.decoded)
        assert first.ms_ssim == ms_ssim(image, coded.decoded)
    assert first.lpips is None
    assert all(p.ms_ssim is None for p in result.points if p.image == "b.png")


def test_transparency_is_left_out_for_all_alike(tmp_path, photo, model):
    see_through = photo.copy()
    see_through.putalpha(100)
    see_through.save(tmp_path / "a.png")
    photo.save(tmp_path / "b.png")
    a, b = (evaluate([tmp_path / name], [model]).points for name in ("a.png", "b.png"))
    assert [p.bytes for p in a] == [p.bytes for p in b]
    assert [p.psnr for p in a] == [p.psnr for p in b]


def test_points_are_told_as_they_come(files, model):
    seen = []
    result = evaluate(files[:1], [model], on_point=seen.append)
    assert seen == result.points


def test_averages_are_over_images_of_the_same_quality(result):
    curve = {c["name"]: c for c in result.curves()}[MODEL]
    points = [p for p in result.points if p.codec == MODEL and p.quality == 2]
    assert curve["results"]["quality"] == [1, 2]
    assert curve["results"]["bpp"][1] == pytest.approx(sum(p.bpp for p in points) / 2)
    assert curve["results"][PSNR][1] == pytest.approx(sum(p.psnr for p in points) / 2)
    # One of the images is too small for it.
    assert MS_SSIM not in curve["results"]


def made_up(rates, qualities, codec, image="a.png"):
    return [
        Point(image, codec, i, 100, 100, 1250 * rate, quality, 0.9, None, 0.1, 0.2)
        for i, (rate, quality) in enumerate(zip(rates, qualities))
    ]


@pytest.fixture
def halves():
    """Half of the bits of the anchor for image a, the same bits for b, no overlap for c."""
    from compressai.evaluation import Evaluation

    anchor, better = (2, 4, 8, 16), (1, 2, 4, 8)
    quality = (30, 33, 36, 39)
    points = []
    for image, rates, qualities in (
        ("a", better, quality),
        ("b", anchor, quality),
        ("c", anchor, [q + 50 for q in quality]),
    ):
        points += made_up(rates, qualities, "new", image)
        points += made_up(anchor, quality, "old", image)
    return Evaluation(["new"], ["old"], {"new": "the new", "old": "the old"}, points)


def test_bd_rates_are_of_each_image_and_of_the_averages(halves):
    rates = {rate.image: rate for rate in halves.bd_rates()}
    assert rates["a"].percent == pytest.approx(-50)
    assert rates["b"].percent == pytest.approx(0)
    assert rates["c"].percent is None
    assert "overlap" in rates["c"].problem
    assert "average curve" in rates
    assert halves.mean_bd_rate("new", "old") == pytest.approx(-25)
    text = str(halves)
    assert "-50.0 %" in text
    assert "c, new against old: the curves do not overlap" in text


def test_one_point_has_no_bd_rate_which_is_told_once(halves):
    one_point = [p for p in halves.points if p.codec == "old" or p.quality == 2]
    alone = dataclasses.replace(halves, points=one_point)
    text = str(alone)
    sentence = "No BD-rate where a curve is one point, as that of new. Give several qualities"
    assert text.count("BD-rate") == 1
    assert sentence in text
    assert all(rate.problem for rate in alone.bd_rates())
    # A codec with a whole curve beside it keeps its figures and notes.
    both = dataclasses.replace(
        alone,
        tested=["new", "whole"],
        descriptions={**halves.descriptions, "whole": "all points"},
        points=one_point
        + [dataclasses.replace(p, codec="whole") for p in halves.points if p.codec == "new"],
    )
    text = str(both)
    assert text.count(sentence) == 1
    assert "new against old" not in text
    assert "c, whole against old: the curves do not overlap" in text
    assert "-50.0 %" in text


def test_result_is_text_json_and_csv(result, tmp_path):
    text = str(result)
    assert "averages of 2 images" in text
    assert "LPIPS" not in text
    content = result.to_json(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_text() == content
    data = json.loads(content)
    assert data["tested"] == [MODEL]
    assert [p["bytes"] for p in data["points"]] == [p.bytes for p in result.points]
    assert [c["name"] for c in data["curves"]] == [MODEL, "jpeg"]
    rows = list(csv.DictReader(io.StringIO(result.to_csv(tmp_path / "r.csv"))))
    assert len(rows) == len(result.points)
    assert float(rows[0]["psnr"]) == result.points[0].psnr
    assert rows[-1]["ms_ssim"] == ""


def test_infinity_is_null_in_json(halves):
    halves.points += made_up([20], [math.inf], "old", "a")
    data = json.loads(halves.to_json(), parse_constant=pytest.fail)
    assert data["points"][-1]["psnr"] is None
    # Such a point belongs to no curve.
    assert halves.bd_rates()[0].percent == pytest.approx(-50)


def test_evaluation_refuses_what_has_no_answer(files, model, tmp_path):
    with pytest.raises(ValueError, match="at least one image"):
        evaluate([], [model])
    with pytest.raises(ValueError, match="at least one image"):
        evaluate(files, [])
    with pytest.raises(ValueError, match=f"different names, got several {MODEL}"):
        evaluate(files, [model, model])
    (tmp_path / "no.png").write_text("hello")
    with pytest.raises(ValueError, match="no image"):
        evaluate([tmp_path / "no.png"], [model])


def test_images_of_the_same_name_keep_apart(files, model, tmp_path):
    (tmp_path / "sub").mkdir()
    twin = tmp_path / "sub" / "a.png"
    twin.write_bytes(files[1].read_bytes())
    assert evaluate([files[0], twin], [model]).images == [str(files[0]), str(twin)]


def test_images_are_found_in_folders_whatever_the_case_of_their_suffix(tmp_path):
    for name in ("b.PNG", "a.jpg", "deep/c.Tif", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_images([tmp_path, tmp_path / "a.jpg"])
    assert [str(p.relative_to(tmp_path)) for p in found] == ["a.jpg", "b.PNG", "deep/c.Tif"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_images([tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no images"):
        find_images([tmp_path / "empty"])


# -- plots ----------------------------------------------------------------------------------------


def test_plots_are_of_the_kind_that_the_suffix_says(result, tmp_path):
    pytest.importorskip("matplotlib")
    result.plot(tmp_path / "rd.png")
    with Image.open(tmp_path / "rd.png") as image:
        assert image.format == "PNG"
        assert np.unique(np.asarray(image)).size > 10
    result.plot(tmp_path / "rd.svg")
    svg = (tmp_path / "rd.svg").read_text()
    assert svg.count("<svg") == 1
    with pytest.raises(ValueError, match=r"suffix must be one of .*'\.gif'"):
        result.plot(tmp_path / "rd.gif")
    with pytest.raises(ValueError, match=r"no values of 'lpips', only of .*psnr-rgb"):
        result.plot(tmp_path / "rd.png", LPIPS)


def test_plots_without_matplotlib_name_the_extra(result, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'compressai-torch\[plot\]'"):
        result.plot(tmp_path / "rd.png")
    assert not (tmp_path / "rd.png").exists()


def test_results_are_read_back_from_every_kind_of_file(result, tmp_path, monkeypatch):
    path = tmp_path / "r.json"
    result.to_json(path)
    drawn = curves_of(read_curves(path), PSNR)
    assert [curve.name for curve in drawn] == [MODEL, "jpeg"]
    assert drawn[0].rates == result.curves()[0]["results"]["bpp"]
    assert [curve.is_classical for curve in drawn] == [False, True]
    (tmp_path / "old.1.json").write_text('{"bpp": [0.5, 1], "ms-ssim-rgb": [0.9, 1.0]}')
    (curve,) = curves_of(read_curves(tmp_path / "old.1.json"), MS_SSIM)
    assert curve.name == "old"
    # A similarity of 1 has no decibels.
    assert (curve.rates, curve.values) == ([0.5], [pytest.approx(10)])
    (tmp_path / "bad.json").write_text("nope")
    with pytest.raises(ValueError, match="is no JSON"):
        read_curves(tmp_path / "bad.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        read_curves(tmp_path / "deep.json")
    with open(tmp_path / "sparse.json", "wb") as file:
        file.truncate(2**40)
    monkeypatch.setattr("compressai.evaluation.plot._MOST_BYTES", 2**20)
    with pytest.raises(ValueError, match="too many for results"):
        read_curves(tmp_path / "sparse.json")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.json")
        with pytest.raises(ValueError, match="a named pipe"):
            read_curves(tmp_path / "pipe.json")
