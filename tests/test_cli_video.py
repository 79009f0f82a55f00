# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A real clip through the command lines: ``compressai video`` and ``examples/codec.py``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_nets import SIZES, tiny_net
from video_clips import ARGUMENTS, clip, load_example, video_net

from compressai.bitstream import open_video
from compressai.checkpoint import save_checkpoint
from compressai.cli import main
from compressai.datasets import RawVideoSequence
from compressai.transforms import frame_to_planes, planes_to_rgb

CLIP = "chelsea_96x80_30fps_8bit_yuv420.yuv"
codec = load_example("codec")


@pytest.fixture(autouse=True)
def clip_in_folder(folder, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    clip(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "ssf.safetensors"
    save_checkpoint(path, video_net(), architecture="ssf2020", arguments=ARGUMENTS, metric="mse")
    return str(path)


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main(["video", *map(str, arguments)])
    return stop.value.code


def report(capsys):
    return json.loads(capsys.readouterr().out)


def test_clip_is_a_moving_image(folder):
    frames = RawVideoSequence.from_file(folder / CLIP)
    assert len(frames) == 3
    luma = frames.data["y"].astype(float)
    assert 0.5 < np.abs(luma[1] - luma[0]).mean() < 30
    assert luma[0].std() > 20


def test_clip_becomes_a_file_and_raw_video_again(folder, checkpoint, capsys):
    assert run("encode", CLIP, "--checkpoint", checkpoint, "--gop", 2, "--json") == 0
    coded = report(capsys)
    path = folder / CLIP.replace(".yuv", ".cav")
    size = path.stat().st_size
    assert coded["file"] == path.name
    assert coded["bytes"] == size
    assert coded["bpp"] == pytest.approx(8 * size / (96 * 80 * 3))
    assert coded["kbps"] == pytest.approx(8 * size * 30 / 3 / 1000)
    assert (coded["frames"], coded["gop"], coded["frame_rate"]) == (3, 2, "30")
    assert (coded["random_weights"], coded["quality"]) == (False, None)

    assert run("info", path, "--json") == 0
    assert report(capsys).items() >= {"format": "cav 2", "pixel_format": "yuv420"}.items()

    assert run("decode", path, "-o", "again.yuv", "--checkpoint", checkpoint, "--json") == 0
    assert report(capsys)["lost_frames"] == []
    assert (folder / "again.yuv").stat().st_size == (folder / CLIP).stat().st_size


def test_random_weights_of_the_zoo_decode_what_they_coded(folder, capsys):
    assert run("encode", CLIP, "-o", "a.cav", "--frames", 1, "-q", 9) == 0
    assert "RANDOM" in capsys.readouterr().err
    assert run("decode", "a.cav", "-o", "a.yuv", "--json") == 0
    assert report(capsys).items() >= {"quality": 9, "random_weights": True}.items()
    assert (folder / "a.yuv").stat().st_size == 96 * 80 * 3 // 2


def test_what_a_name_does_not_tell_can_be_said(folder, checkpoint, capsys):
    (folder / CLIP).rename("clip")
    assert run("encode", "clip", "--checkpoint", checkpoint) == 1
    assert "width, height, format" in capsys.readouterr().err
    said = ["--width", 96, "--height", 80, "--pixel-format", "yuv420", "--frame-rate", "30000/1001"]
    assert run("encode", "clip", *said, "--checkpoint", checkpoint, "--frames", 1) == 0
    with open_video("clip.cav") as video:
        assert str(video.header.framerate) == "30000/1001"
    assert run("encode", "clip", "--frame-rate", "fast") == 2


def test_damage_is_one_line_or_concealed(folder, checkpoint, capsys):
    run("encode", CLIP, "-o", "a.cav", "--checkpoint", checkpoint)
    content = bytearray((folder / "a.cav").read_bytes())
    content[-10] ^= 1
    (folder / "a.cav").write_bytes(content)
    capsys.readouterr()
    assert run("decode", "a.cav", "--checkpoint", checkpoint) == 1
    assert "frame 2 was changed" in capsys.readouterr().err
    assert not (folder / "a.yuv").exists()
    assert run("decode", "a.cav", "--checkpoint", checkpoint, "--keep-going", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["lost_frames"] == [2]
    assert "frame 2 is lost" in err
    frames = RawVideoSequence.new_like(RawVideoSequence.from_file(CLIP), "a.yuv")
    assert frames[2] == frames[1]


def test_wrong_command_lines_and_files_leave_nothing(folder, checkpoint, tmp_path, capsys):
    net = tiny_net("mbt2018-mean")
    image_model = tmp_path / "image.safetensors"
    save_checkpoint(image_model, net, architecture="mbt2018-mean", arguments=SIZES["mbt2018-mean"])
    before = sorted(folder.iterdir())
    for arguments, code, message in (
        (["encode", CLIP, "--checkpoint", checkpoint, "-q", "3"], 2, "weights of the zoo"),
        (["encode", CLIP, "--model", "mbt2018-mean"], 1, "model must be one of ssf2020"),
        (["encode", CLIP, "--checkpoint", image_model], 1, "video model"),
        (["encode", CLIP, "-o", CLIP, "--overwrite"], 1, "is the input"),
        (["encode", "none_2x2_yuv420.yuv"], 1, "does not exist"),
        (["decode", CLIP, "-o", "x.yuv"], 1, "this is no coded video"),
        (["info", CLIP], 1, "this is no coded video"),
    ):
        assert run(*arguments) == code, arguments
        assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(folder.iterdir()) == before


def test_programs_of_utils_are_commands_too(folder, capsys):
    for command, part in (("eval", "pretrained"), ("bench", "x264"), ("plot", "--results-file")):
        assert run(command, "--help") == 0
        assert part in capsys.readouterr().out
        assert run(command) == 2
    assert run("bench", "x264", ".", "out", "--dry-run", "-q", 30) == 0
    assert "-crf 30" in capsys.readouterr().err
    Path("curve.json").write_text('{"name": "a", "results": {"bitrate": [1], "psnr-rgb": [30]}}')
    assert run("plot", "-f", "curve.json") == 1
    assert "--output" in capsys.readouterr().err


# -- examples/codec.py ----------------------------------------------------------------------------


def test_codec_example_codes_the_clip(folder, checkpoint, capsys):
    codec.main(["encode", CLIP, "--checkpoint", checkpoint])
    path = folder / CLIP.replace(".yuv", ".bin")
    bpp = 8 * path.stat().st_size / (96 * 80 * 3)
    line = capsys.readouterr().out
    assert re.fullmatch(
        rf"{bpp:.3f} bpp \| Encoded in \d+\.\d\ds \(model loading: \d+\.\d\ds\)\n", line
    )
    codec.main(["decode", str(path), "-o", "again.yuv", "--checkpoint", checkpoint])
    assert capsys.readouterr().out.startswith("Model: ssf2020, metric: mse, quality: None\n")
    run("decode", path, "-o", "same.yuv", "--checkpoint", checkpoint)
    again = (folder / "again.yuv").read_bytes()
    assert again == (folder / "same.yuv").read_bytes()
    assert len(again) == (folder / CLIP).stat().st_size


def test_codec_example_writes_an_image_for_each_frame(folder, checkpoint):
    codec.main(["encode", CLIP, "--checkpoint", checkpoint, "-f", "2", "-o", "a.bin"])
    codec.main(["decode", "a.bin", "-o", "a.png", "--checkpoint", checkpoint])
    assert sorted(path.name for path in folder.glob("*.png")) == ["a_0000.png", "a_0001.png"]
    with Image.open("a_0001.png") as sample:
        assert sample.size == (96, 80)


def test_codec_example_takes_the_first_frame_for_models_of_images(folder, tmp_path):
    weights = str(tmp_path / "image.safetensors")
    net = tiny_net("mbt2018-mean")
    save_checkpoint(weights, net, architecture="mbt2018-mean", arguments=SIZES["mbt2018-mean"])
    codec.main(["encode", CLIP, "--checkpoint", weights, "-o", "a.bin"])
    codec.main(["decode", "a.bin", "-o", "a.yuv", "--checkpoint", weights])
    assert (folder / "a.yuv").stat().st_size == 96 * 80 * 3 // 2


def test_codec_example_says_what_does_not_fit(folder, checkpoint, capsys):
    for arguments, message in (
        (["encode", "x.png", "--model", "ssf2020"], "raw videos"),
        (["encode", CLIP, "-q", "9"], "image models have the qualities 1 to 8"),
    ):
        with pytest.raises(SystemExit) as stop:
            codec.main(arguments)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"frames must be in 1 \.\.\. 3, got 4"):
        codec.main(["encode", CLIP, "-f", "4", "--checkpoint", checkpoint])
    assert not list(folder.glob("*.bin"))


def test_conversions_of_the_example_are_those_of_the_library(folder):
    sequence = RawVideoSequence.from_file(CLIP)
    frame = sequence[0]
    rgb = codec.convert_yuv420_rgb(frame, "cpu", 255)
    assert torch.equal(
        rgb, planes_to_rgb(frame_to_planes(frame, 255), sequence.format, mode="bicubic")
    )
    assert torch.equal(
        codec.convert_yuv420_rgb((frame["y"], frame["u"], frame["v"]), "cpu", 255), rgb
    )
    with open("frame.yuv", "wb") as file:
        codec.write_frame(file, codec.convert_rgb_yuv420(rgb), 8)
    again = RawVideoSequence.new_like(sequence, "frame.yuv")[0]
    assert np.array_equal(again["y"], frame["y"])
    ten = codec.convert_output(torch.ones(1, 1, 2, 2), 10)
    assert (ten.dtype, ten.shape, ten.max()) == (np.uint16, (2, 2), 1023)
    with pytest.raises(ValueError, match="bitdepth"):
        codec.convert_output(torch.ones(1, 1, 2, 2), 9)
