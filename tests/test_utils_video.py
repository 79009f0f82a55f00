# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The programs for video: files and JSON that they leave, figures, and wrong command lines."""

from __future__ import annotations

import io
import json
import math
import stat
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_nets import one_thread
from video_clips import clip, video_net

from compressai.bitstream import TruncatedFileError
from compressai.bitstream.legacy_video import LegacyVideoReader
from compressai.checkpoint import save_checkpoint
from compressai.datasets import RawVideoSequence
from compressai.evaluation import frames as frame_errors
from compressai.utils.video.bench import __main__ as bench
from compressai.utils.video.bench import codecs
from compressai.utils.video.eval_model import __main__ as eval_model
from compressai.utils.video.plot import __main__ as plot
from compressai.zoo import video_models

EVAL_KEYS = [
    "psnr-y",
    "psnr-u",
    "psnr-v",
    "psnr-yuv",
    "ms-ssim-rgb",
    "mse-rgb",
    "psnr-rgb",
    "bitrate",
]
BENCH_KEYS = ["ms-ssim-rgb", "bitrate", "psnr-rgb", "psnr-y", "psnr-u", "psnr-v", "psnr-yuv"]


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with one_thread():
        yield


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    (folder / "below").mkdir()
    clip(folder / "below", 2)
    return folder


@pytest.fixture(scope="module")
def net():
    return video_net()


@pytest.fixture(scope="module")
def checkpoint(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "best.pth.tar"
    torch.save({"state_dict": net.state_dict()}, path)
    return str(path)


def printed(capsys):
    return json.loads(capsys.readouterr().out)


def only(folder, pattern):
    (path,) = Path(folder).rglob(pattern)
    return path


# -- figures --------------------------------------------------------------------------------------


def shifted(frame, amount):
    other = frame.copy()
    other["y"] += amount
    return other


def test_errors_of_planes_are_exact(dataset):
    sequence = RawVideoSequence.from_file(only(dataset, "*.yuv"))
    frame = np.zeros((), sequence.dtype)
    frame["y"], frame["u"], frame["v"] = 100, 128, 128
    errors = frame_errors.compare_frames(frame[()], shifted(frame, 3)[()], sequence)
    assert (errors["mse-y"], errors["mse-u"], errors["mse-v"]) == (9, 0, 0)
    assert errors["mse-rgb"] == pytest.approx(9)
    assert errors["ms-ssim-rgb"] is None  # 96 x 80 is too small
    assert bench.compute_metrics_for_frame(frame[()], shifted(frame, 3)[()]) == errors


def test_pooled_figures_are_decibels_of_the_mean_error():
    frames = [
        {"mse-y": y, "mse-u": 1.0, "mse-v": 4.0, "mse-rgb": 2.0, "ms-ssim-rgb": 0.5} for y in (1, 3)
    ]
    got = frame_errors.pooled_metrics(frames, 255)
    assert got["psnr-y"] == pytest.approx(10 * math.log10(255**2 / 2))
    assert got["psnr-yuv"] == pytest.approx((4 * got["psnr-y"] + got["psnr-u"] + got["psnr-v"]) / 6)
    assert got["ms-ssim-rgb"] == 0.5


def test_equal_frames_have_no_error_and_similarity_one(tmp_path):
    sequence = RawVideoSequence.from_file(clip(tmp_path, 1, width=164, height=162))
    errors = frame_errors.compare_frames(sequence[0], sequence[0], sequence)
    assert errors.pop("ms-ssim-rgb") == pytest.approx(1)
    assert set(errors.values()) == {0}
    assert frame_errors.psnr_of(0, 255) == math.inf


def test_rate_needs_a_frame_rate(tmp_path, net):
    path = clip(tmp_path, 1)
    sequence = RawVideoSequence.from_file(path)
    assert frame_errors.kbps(8000, 2, sequence) == 8000 * 30 / 2 / 1000
    unknown = path.rename(tmp_path / "a_96x80_yuv420.yuv")
    with pytest.raises(ValueError, match="frame rate"):
        frame_errors.code_video(net, unknown, tmp_path / "a.bin")


# -- eval_model -----------------------------------------------------------------------------------


def test_coded_and_estimated_figures_agree(net, dataset, tmp_path):
    path = only(dataset, "*.yuv")
    coded = eval_model.eval_model(net, path, tmp_path / "a.bin", keep_binaries=True)
    estimated = eval_model.eval_model_entropy_estimation(net, path)
    assert list(coded) == list(estimated) == EVAL_KEYS
    for key in ("psnr-y", "psnr-rgb", "mse-rgb"):
        assert estimated[key] == pytest.approx(coded[key], rel=1e-4)
    # Values far out of their distribution cost less as escapes than their likelihood says.
    assert estimated["bitrate"] == pytest.approx(coded["bitrate"], rel=0.4)
    assert coded["bitrate"] == 8 * (tmp_path / "a.bin").stat().st_size * 30 / 2 / 1000
    with open(tmp_path / "a.bin", "rb") as file:
        assert LegacyVideoReader(file, names=("mse", 1)).header.frames == 2


def test_estimated_bits_are_those_of_the_likelihoods():
    likelihoods = {"motion": {"y": torch.full((2, 3), 0.5)}, "residual": {"z": torch.tensor(0.25)}}
    assert eval_model.estimate_bits_frame(likelihoods) == 8


@pytest.mark.slow
def test_half_precision_codes_and_decodes(net, dataset, tmp_path):
    with eval_model._precision(net, True):
        metrics = eval_model.eval_model(net, only(dataset, "*.yuv"), tmp_path / "a.bin")
    full = eval_model.eval_model(net, only(dataset, "*.yuv"), tmp_path / "a.bin")
    assert metrics["psnr-rgb"] == pytest.approx(full["psnr-rgb"], abs=1)
    assert not (tmp_path / "a.bin").exists()


def test_checkpoint_is_evaluated_on_a_folder(checkpoint, dataset, tmp_path, capsys):
    command = ["checkpoint", str(dataset), "unused", "-a", "ssf2020", "-p", checkpoint]
    eval_model.main([*command, "-d", str(tmp_path / "out"), "--keep_binaries"])
    out, err = capsys.readouterr()
    assert err.startswith("Using trained model best-ans\n")
    result = json.loads(out)
    assert (result["name"], result["description"]) == ("ssf2020-mse", "Inference (ans)")
    assert list(result["results"]) == ["q", *EVAL_KEYS]
    assert result["results"]["q"] == ["best-ans"]
    assert json.loads((tmp_path / "out" / "ssf2020-ans.json").read_text()) == result
    stem = "chelsea_96x80_30fps_8bit_yuv420-best-ans"
    single = json.loads((tmp_path / "out" / "below" / f"{stem}.json").read_text())
    assert single["source"] == "chelsea_96x80_30fps_8bit_yuv420"
    assert {key: [value] for key, value in single["results"].items()} == {
        key: value for key, value in result["results"].items() if key != "q"
    }
    assert (tmp_path / "out" / "below" / f"{stem}.bin").is_file()
    assert not Path("unused").exists()

    eval_model.main([*command, "-d", str(tmp_path / "out")])
    out, err = capsys.readouterr()
    assert "is taken as it is" in err
    assert json.loads(out) == result


def test_published_weights_are_evaluated_in_order(net, dataset, tmp_path, capsys, monkeypatch):
    asked = []

    def ssf2020(quality, metric, pretrained):
        asked.append((quality, metric, pretrained))
        return net

    monkeypatch.setitem(video_models, "ssf2020", ssf2020)
    command = ["pretrained", str(dataset), str(tmp_path / "out"), "-a", "ssf2020", "-q", "4,1"]
    eval_model.main([*command, "--entropy-estimation", "-m", "ms-ssim", "-o", "all.json"])
    result = printed(capsys)
    assert asked == [(1, "ms-ssim", True), (4, "ms-ssim", True)]
    assert result["name"] == "ssf2020-ms-ssim"
    assert result["description"] == "Inference (entropy-estimation)"
    names = [f"ssf2020-ms-ssim-{q}-entropy-estimation" for q in (1, 4)]
    assert result["results"]["q"] == names
    assert (tmp_path / "out" / "all.json").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["pretrained"],
        ["pretrained", "folder", "-a", "ssf2020"],
        ["pretrained", "folder", "out"],
        ["pretrained", "folder", "out", "-a", "mbt2018"],
        ["pretrained", "folder", "out", "-a", "ssf2020", "-q", "low"],
        ["checkpoint", "folder", "out", "-a", "ssf2020"],
        ["checkpoint", "folder", "out", "-a", "ssf2020", "-p"],
    ],
)
def test_wrong_command_lines_of_eval_model_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        eval_model.main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().out == ""


def test_folder_without_video_ends_with_status_1(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        eval_model.main(["pretrained", str(tmp_path), "out", "-a", "ssf2020"])
    assert stop.value.code == 1
    assert "no raw video" in capsys.readouterr().err


def test_numbers_and_bytes_of_files_are_big_endian():
    file = io.BytesIO()
    assert eval_model.write_uints(file, (1, 2)) == 8
    assert eval_model.write_uchars(file, (3,)) == 1
    assert eval_model.write_bytes(file, b"") == 0
    assert eval_model.write_bytes(file, b"abc") == 3
    assert file.getvalue() == b"\0\0\0\1\0\0\0\2\3abc"
    file.seek(0)
    assert eval_model.read_uints(file, 2) == (1, 2)
    assert eval_model.read_uchars(file, 1) == (3,)
    assert eval_model.read_bytes(file, 3) == b"abc"
    with pytest.raises(TruncatedFileError):
        eval_model.read_uints(file, 1)


@pytest.mark.parametrize("side", [1, 127, 128, 130])
def test_crop_undoes_pad(side):
    x = torch.rand(1, 3, side, 96)
    padded = eval_model.pad(x)
    assert padded.shape[2:] == (-(-side // 128) * 128, 128)
    padding, _ = eval_model.compute_padding(side, 96, min_div=128)
    assert torch.equal(eval_model.crop(padded, padding), x)


# -- bench ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["x264", "x265"])
def test_bench_codes_with_the_library(codec, dataset, tmp_path, capsys):
    pytest.importorskip("av")
    command = [codec, str(dataset), str(tmp_path / "out"), "-q", "35,20", "-p", "fast", "-j", "2"]
    bench.main(command)
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["name"] == f"{codec}-fast-tune-psnr"
    assert result["description"].startswith(f"{codec} fast, psnr, libavcodec ")
    results = result["results"]
    assert list(results) == ["qp", *BENCH_KEYS]
    assert results["qp"] == [20, 35]
    assert results["psnr-y"][0] > 36 > results["psnr-y"][1] > 25
    assert results["bitrate"][0] > results["bitrate"][1] > 0
    assert err.count("--> Running: ") == 4
    stem = f"chelsea_96x80_30fps_8bit_yuv420_{codec}_fast_tune-psnr_qp20"
    folder = tmp_path / "out" / "below"
    assert {p.name for p in folder.glob("*qp20*")} == {
        f"{stem}.mp4",
        f"{stem}.json",
        f"{stem}.log",
    }
    size = (folder / f"{stem}.mp4").stat().st_size
    assert results["bitrate"][0] == pytest.approx(8 * size * 30 / 2 / 1000)
    assert json.loads((tmp_path / "out" / f"{result['name']}.json").read_text()) == result

    bench.main(command)
    out, err = capsys.readouterr()
    assert json.loads(out) == result
    assert err.count("is taken as it is") == 2


def test_bench_codes_ten_bits(tmp_path):
    pytest.importorskip("av")
    source = clip(tmp_path, 2, bitdepth=10)
    codec = codecs.x264()
    codec.encode(source, 10, tmp_path / "a.mp4", tmp_path / "a.log")
    codec.decode(tmp_path / "a.mp4", tmp_path / "a.yuv", source)
    metrics = bench.evaluate(source, tmp_path / "a.yuv", tmp_path / "a.mp4")
    assert metrics["psnr-yuv"] > 42


def test_dry_run_shows_command_lines_only(dataset, tmp_path, capsys):
    bench.main(["x265", str(dataset), str(tmp_path / "out"), "-n"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "ffmpeg -y -s:v 96x80 -i" in err
    assert "-c:v hevc -crf 1 -preset medium -x265-params bframes=0 -tune psnr" in err
    assert not (tmp_path / "out").exists()


PROGRAM = """#!{python}
import shutil, sys
args = sys.argv[1:]
if "--help" in args:
    print("VTM software: Encoder Version [23.1] [Linux]")
    sys.exit(1)
source, target = ("-i", "-b") if "Encoder" in sys.argv[0] else ("-b", "-o")
shutil.copy(args[args.index(source) + 1], args[args.index(target) + 1])
print("coded", *args)
"""


@pytest.fixture
def build(tmp_path):
    """A codec that copies, under the names of the reference softwares."""
    folder = tmp_path / "build"
    folder.mkdir()
    for name in ("EncoderAppStatic", "DecoderAppStatic", "TAppEncoderStatic", "TAppDecoderStatic"):
        path = folder / name
        path.write_text(PROGRAM.format(python=sys.executable))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="names of the programs on Linux")
@pytest.mark.parametrize("name", ["VTM", "HM"])
def test_reference_software_is_run_as_documented(name, build, dataset, tmp_path, capsys):
    config = tmp_path / "encoder_lowdelay_vtm.cfg"
    command = [name, str(dataset), str(tmp_path / "out"), "-b", str(build), "-c", str(config)]
    bench.main([*command, "-q", "30"])
    result = printed(capsys)
    assert result["name"] == f"{name}-v23.1-lowdelay"
    assert result["description"] == f"{name} reference software, version 23.1"
    # A codec that loses nothing: no error, which JSON has no number for.
    assert result["results"]["psnr-y"] == [None]
    log = only(tmp_path / "out", f"*_{name}_lowdelay_qp30.log").read_text().split()
    assert log[:5] == ["coded", "-i", str(only(dataset, "*.yuv")), "-c", str(config)]
    assert log[5:9] == ["-q", "30", "-o", "/dev/null"]
    assert log[11:] == [
        *("-wdt", "96", "-hgt", "80", "-fr", "30", "-f", "2"),
        *("--InputBitDepth=8", "--OutputBitDepth=8"),
    ]


def test_missing_reference_software_says_what_to_do(dataset, tmp_path):
    command = ["VTM", str(dataset), str(tmp_path / "out"), "-b", str(tmp_path), "-c", "a_b.cfg"]
    with pytest.raises(SystemExit, match="build the VTM reference software"):
        bench.main(command)


def test_failing_programs_tell_what_they_said(tmp_path):
    with pytest.raises(RuntimeError, match="cannot run"):
        codecs.run_command([tmp_path / "nothing"])
    fail = [sys.executable, "-c", "print('out of tea'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match=r"status 3:\nout of tea"):
        codecs.run_command(fail)
    assert codecs.run_command(fail, ignore_returncodes=[3]) == "out of tea\n"
    bench.run_cmdline(fail, dry_run=True)
    bench.run_cmdline([sys.executable, "-c", "print(5)"], tmp_path / "log")
    assert (tmp_path / "log").read_text() == "5\n"


def test_unequal_sequences_are_errors(dataset, tmp_path):
    source = only(dataset, "*.yuv")
    half = tmp_path / "half.yuv"
    half.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(RuntimeError, match="has 1 frames"):
        bench.evaluate(source, half, source)
    other = clip(tmp_path, 1, format=frame_errors.VideoFormat.YUV444)
    with pytest.raises(NotImplementedError, match="yuv420"):
        bench.evaluate(other, other, other)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x264"],
        ["x264", "folder"],
        ["vp8", "folder", "out"],
        ["x264", "folder", "out", "-q", "high"],
        ["x264", "folder", "out", "-j", "0"],
        ["x264", "folder", "out", "--tune", "psnr-rgb"],
        ["VTM", "folder", "out"],
    ],
)
def test_wrong_command_lines_of_bench_end_with_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(arguments)
    assert stop.value.code == 2


def test_bench_without_video_says_so(tmp_path):
    for folder, message in ((tmp_path, "no raw video"), (tmp_path / "none", "is no folder")):
        with pytest.raises(SystemExit, match=message):
            bench.main(["x264", str(folder), str(tmp_path / "out")])


def test_odd_sides_are_refused_by_x264(tmp_path):
    pytest.importorskip("av")
    source = clip(tmp_path, 1, width=35, height=27)
    with pytest.raises(ValueError, match="even sides"):
        codecs.x264().encode(source, 20, tmp_path / "a.mp4", tmp_path / "a.log")


# -- plot -----------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "x264-medium.json"
    values = {"qp": [1, 2], "bitrate": [10, 20], "psnr-rgb": [30.0, 35.0], "ms-ssim-rgb": [0.9, 1]}
    path.write_text(json.dumps({"name": "x264-medium", "results": values}))
    return path


def test_curve_of_a_file(results):
    curve = plot.parse_json_file(results, "psnr-rgb")
    assert curve == {"name": "x264-medium", "xs": [10, 20], "ys": [30.0, 35.0]}
    assert plot.parse_json_file(results, "ms-ssim-rgb")["ys"] == [pytest.approx(10)]
    with pytest.raises(ValueError, match=r"psnr-rgb"):
        plot.parse_json_file(results, "psnr")


def test_plot_is_an_image(results, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "plot.png"
    axes = ["--axes", "0", "30", "20", "40"]
    plot.main(["-f", str(results), "-o", str(target), "-t", "clips", *axes])
    with Image.open(target) as sample:
        assert sample.size == (2700, 1800)


def test_plot_needs_somewhere_to_go(results):
    with pytest.raises(ValueError, match="--output"):
        plot.main(["-f", str(results)])
    with pytest.raises(SystemExit) as stop:
        plot.main([])
    assert stop.value.code == 2


def test_page_of_plotly_tells_the_unit(results, tmp_path):
    pytest.importorskip("plotly")
    target = tmp_path / "plot.html"
    plot.main(["-f", str(results), "-o", str(target), "--backend", "plotly"])
    # Plotly writes JSON, with an escaped slash.
    assert "Bit-rate [kbit" in target.read_text(encoding="utf-8")


def test_plotly_says_how_to_install_it(results, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(SystemExit, match=r"compressai-torch\[plotly\]"):
        plot.main(["-f", str(results), "-o", "a.html", "--backend", "plotly"])


def test_checkpoints_of_this_library_are_evaluated_too(net, tmp_path):
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, net, architecture="ssf2020", arguments={}, metric="mse")
    loaded = eval_model.load_checkpoint("ssf2020", False, path)
    assert loaded.has_tables
    assert eval_model.models["ssf2020"] is type(loaded)
