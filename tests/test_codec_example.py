# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``examples/codec.py`` keeps the flags, lines and functions that users of CompressAI 1.2 know."""

from __future__ import annotations

import importlib.util
import io
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_nets import SIZES, tiny_net

import compressai
from compressai.bitstream import CodedImage, DamagedFileError, decode_image, read_coded
from compressai.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests" / "corpus"
MODEL = "mbt2018-mean"


def _load_example():
    spec = importlib.util.spec_from_file_location("codec_example", ROOT / "examples" / "codec.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


codec = _load_example()


@pytest.fixture(autouse=True)
def settings_of_cudnn(folder, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    net = tiny_net(MODEL)
    save_checkpoint(path, net, architecture=MODEL, arguments=SIZES[MODEL], metric="mse")
    return str(path)


@pytest.fixture
def photo(folder):
    rng = np.random.Generator(np.random.PCG64(3))
    image = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((70, 50))
    (folder / "photos").mkdir()
    image.save(folder / "photos" / "photo.png")
    return image


def test_photo_goes_through_with_the_printed_lines_and_default_names(photo, checkpoint, capsys):
    codec.main(["encode", "photos/photo.png", "--checkpoint", checkpoint])
    size = Path("photo.bin").stat().st_size  # in the current folder
    out = capsys.readouterr().out
    line = re.fullmatch(
        r"(\d+\.\d{3}) bpp \| Encoded in \d+\.\d\ds \(model loading: \d+\.\d\ds\)\n", out
    )
    assert float(line[1]) == pytest.approx(8 * size / (70 * 50), abs=5e-4)

    codec.main(["decode", "photo.bin", "-o", "back.png", "--checkpoint", checkpoint])
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "Model: mbt2018-mean, metric: mse, quality: None"
    assert re.fullmatch(r"Decoded in \d+\.\d\ds \(model loading: \d+\.\d\ds\)", out[1])
    coded = read_coded("photo.bin")
    assert isinstance(coded, CodedImage)
    expected = decode_image(compressai.load(checkpoint), coded).to_image()
    assert np.array_equal(np.asarray(Image.open("back.png")), np.asarray(expected))


def test_decoding_without_output_writes_nothing(photo, checkpoint):
    codec.main(["encode", "photos/photo.png", "-o", "x.bin", "--checkpoint", checkpoint])
    codec.main(["decode", "x.bin", "--checkpoint", checkpoint])
    assert sorted(path.name for path in Path().iterdir()) == ["photos", "x.bin"]


def test_show_opens_the_decoded_image(photo, checkpoint, monkeypatch):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    codec.main(["encode", "photos/photo.png", "--checkpoint", checkpoint])
    codec.main(["decode", "photo.bin", "--show", "--checkpoint", checkpoint])
    assert [image.size for image in shown] == [(70, 50)]


def test_zoo_models_are_coded_with_random_weights_loudly(photo, capsys):
    codec.main(["encode", "photos/photo.png", "-q", "1"])
    out, err = capsys.readouterr()
    assert "bpp" in out
    assert "RANDOM" in err
    codec.main(["decode", "photo.bin"])
    out = capsys.readouterr().out
    assert out.startswith("Model: bmshj2018-factorized, metric: mse, quality: 1\n")


def test_old_files_are_decoded(checkpoint, capsys):
    weights = str(CORPUS / f"{MODEL}.safetensors")
    old = str(CORPUS / "old-mean.bin")
    codec.main(["decode", old, "-o", "back.png", "--checkpoint", weights])
    assert capsys.readouterr().out.startswith(f"Model: {MODEL}, metric: mse, quality: 1\n")
    with Image.open("back.png") as back, Image.open(CORPUS / "old-mean.png") as expected:
        difference = np.asarray(back).astype(int) - np.asarray(expected)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: command"),
        (["transcode", "x"], "invalid choice"),
        (["encode", "x.png", "--model", "ssf2020"], "is not for images"),
        (["encode", "x.png", "--model", "sfu2023-pcc-rec-pointnet"], "is not for images"),
        (["encode", "x.png", "--model", "nonsense"], "is unknown"),
        (["encode", "x.png", "-q", "9"], "invalid choice"),
        (["encode", "x.png", "-m", "psnr"], "invalid choice"),
        (["encode", "x.png", "-c", "zip"], "invalid choice"),
        (["encode", "x.png", "-f", "3"], "for raw videos"),
        (["encode", "x.yuv", "-f", "3"], "codes one frame only"),
        (["encode", "x.png", "-q", "3", "--checkpoint", "y"], "weights of the zoo"),
    ],
)
def test_wrong_command_lines_end_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        codec.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_missing_cuda_is_told(capsys):
    with pytest.raises(SystemExit):
        codec.main(["encode", "x.png", "--cuda"])
    assert "no CUDA device" in capsys.readouterr().err


def test_errors_are_one_line(photo, checkpoint):
    for arguments, message in (
        (["encode", "none.png"], "none.png does not exist"),
        (["decode", "none.bin"], "none.bin does not exist"),
        (["decode", "photos/photo.png"], "no coded image"),
    ):
        with pytest.raises(SystemExit, match=message):
            codec.main([*arguments, "--checkpoint", checkpoint])


# -- functions ------------------------------------------------------------------------------------


def test_numbers_of_a_header_are_those_of_the_old_format():
    header = codec.get_header("bmshj2018-hyperprior", "ms-ssim", 4, 1, codec.CodecType.IMAGE_CODEC)
    assert header == (0x02, 0x13)
    assert codec.parse_header(header) == ("bmshj2018-hyperprior", "ms-ssim", 4)
    video = codec.get_header("ssf2020", "mse", 9, 30, codec.CodecType.VIDEO_CODEC)
    assert video == (13, 8, 30)
    assert codec.parse_header(video) == ("ssf2020", "mse", 9)


@pytest.mark.parametrize("arguments", [("x", "mse", 1), ("mbt2018", "x", 1), ("mbt2018", "mse", 0)])
def test_headers_that_the_old_format_lacks_are_refused(arguments):
    with pytest.raises(ValueError, match="must be in"):
        codec.get_header(*arguments, 1, codec.CodecType.IMAGE_CODEC)


@pytest.mark.parametrize("header", [(14, 0), (0, 0x20), (-1, 0)])
def test_unknown_numbers_in_a_header_are_refused(header):
    with pytest.raises(ValueError, match="numbers of a model"):
        codec.parse_header(header)


def test_tables_of_numbers_can_be_inverted():
    assert codec.inverse_dict(codec.model_ids)[3] == "mbt2018-mean"
    assert codec.inverse_dict(codec.metric_ids) == {0: "mse", 1: "ms-ssim"}
    with pytest.raises(ValueError, match="twice"):
        codec.inverse_dict({"a": 1, "b": 1})


def test_body_is_written_and_read_as_documented():
    file = io.BytesIO()
    assert codec.write_body(file, (4, 5), [[b"\1\2\3"], [b""]]) == 23
    assert file.getvalue().hex() == "00000004000000050000000200000003" + "010203" + "00000000"
    file.seek(0)
    assert codec.read_body(file) == ([[b"\1\2\3"], [b""]], (4, 5))
    with pytest.raises(DamagedFileError, match="truncated"):
        codec.read_body(io.BytesIO(file.getvalue()[:-1]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (63, 65), (64, 128)])
def test_crop_undoes_pad(height, width):
    x = torch.rand(2, 3, height, width)
    padded = codec.pad(x)
    assert padded.shape[2:] == (-(-height // 64) * 64, -(-width // 64) * 64)
    assert padded.sum() == pytest.approx(float(x.sum()), rel=1e-5)
    assert torch.equal(codec.crop(padded, (height, width)), x)
    assert codec.pad(x, 16).size(2) == -(-height // 16) * 16


def test_images_and_tensors_convert_both_ways(photo):
    image = codec.load_image("photos/photo.png")
    assert image.mode == "RGB"
    x = codec.img2torch(image)
    assert (x.shape, x.dtype) == ((1, 3, 50, 70), torch.float32)
    assert np.array_equal(np.asarray(codec.torch2img(x)), np.asarray(photo))


def test_length_of_a_file():
    Path("x").write_bytes(b"123")
    assert codec.filesize("x") == 3
    with pytest.raises(ValueError, match="no file"):
        codec.filesize("y")
