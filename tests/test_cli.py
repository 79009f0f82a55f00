# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The program ``compressai``: what it prints where, how it ends, and which files it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from program import (
    MODEL,
    blurred_noise,
    files,
    pixels,
    run_elsewhere,
)

import compressai
from compressai.bitstream import CodedImage, decode_image, read_coded

CORPUS = Path(__file__).parent / "corpus"


pytestmark = pytest.mark.usefixtures("folder")


# -- what works -----------------------------------------------------------------------------------


def test_photo_goes_to_a_file_and_back_with_a_checkpoint(run, photo, checkpoint):
    arguments = ["--checkpoint", checkpoint]
    status, out, err = run("encode", "photo.png", *arguments)
    assert (status, err) == (0, "")
    assert "photo.cai" in out
    # What is compared with below is in float32; bfloat16 gives slightly other samples.
    decode = ["decode", "photo.cai", "-o", "back.png", "--precision", "fp32"]
    status, out, err = run(*decode, *arguments)
    assert (status, err) == (0, "")
    assert "back.png" in out
    assert files() == ["back.png", "photo.cai", "photo.png"]
    coded = read_coded("photo.cai")
    assert (coded.model, coded.quality, coded.metric) == (MODEL, None, "mse")
    assert not coded.random_weights
    expected = decode_image(compressai.load(checkpoint), coded).to_image()
    assert np.array_equal(pixels("back.png"), np.asarray(expected))
    assert expected.size == photo.size


def test_weights_without_description_need_the_name_of_the_model(run, photo, checkpoints):
    path = checkpoints / "weights.pth"
    status, _, err = run("encode", "photo.png", "--checkpoint", path)
    assert status == 1
    assert "give --model" in err
    assert run("encode", "photo.png", "--checkpoint", path, "--model", MODEL)[0] == 0
    assert run("decode", "photo.cai", "--checkpoint", path, "-o", "back.png")[0] == 0
    # The same weights from another kind of file.
    path = checkpoints / "0.safetensors"
    assert run("decode", "photo.cai", "--checkpoint", path, "-o", "b.png")[0] == 0
    assert np.array_equal(pixels("back.png"), pixels("b.png"))


def test_json_is_one_object_on_stdout_and_notes_go_to_stderr(run, checkpoint, photo):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    photo.save("photo.jpg", exif=exif.tobytes())
    status, out, err = run("encode", "photo.jpg", "--checkpoint", checkpoint, "--json")
    report = json.loads(out)
    assert (status, out.count("\n")) == (0, 1)
    assert "metadata" in err
    size = Path("photo.cai").stat().st_size
    assert report["bytes"] == size
    assert report["bpp"] == pytest.approx(8 * size / (70 * 50))
    assert (report["width"], report["height"], report["file"]) == (70, 50, "photo.cai")

    status, out, _ = run("info", "photo.cai", "--json")
    coded = read_coded("photo.cai")
    report = json.loads(out)
    assert report["string_bytes"] == [len(string) for string in coded.strings]
    assert report["fingerprint"] == coded.fingerprint.hex()
    assert report["format"] == "cai 2"

    Path("photo.png").unlink()
    status, out, err = run("decode", "photo.cai", "--checkpoint", checkpoint, "--json")
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out)["file"] == "photo.png"


def test_info_names_every_field(run, photo, checkpoint):
    run("encode", "photo.png", "--checkpoint", checkpoint)
    status, out, err = run("info", "photo.cai")
    assert (status, err) == (0, "")
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert lines["model"].strip() == MODEL
    assert lines["width"].strip() == "70"


@pytest.mark.parametrize("command", ["info", "decode"])
def test_files_of_compressai_1_2_are_accepted(run, command):
    checkpoint = CORPUS / f"{MODEL}.safetensors"
    extra = ["-o", "back.png", "--checkpoint", checkpoint] if command == "decode" else []
    status, out, err = run(command, CORPUS / "old-mean.bin", *extra, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert (report["model"], report["width"], report["quality"]) == (MODEL, 63, 1)
    if command == "decode":
        assert Image.open("back.png").size == (63, 31)


def test_files_of_every_precision_decode_in_every_precision(run, photo, checkpoint):
    for coding in ("bf16", "fp32"):
        arguments = ["--checkpoint", checkpoint, "--precision"]
        assert run("encode", "photo.png", "-o", f"{coding}.cai", *arguments, coding)[0] == 0
        decoded = []
        for precision in ("bf16", "fp32", "auto"):
            decode = ["decode", f"{coding}.cai", "-o", f"{coding}{precision}.png"]
            assert run(*decode, *arguments, precision)[0] == 0
            decoded.append(pixels(f"{coding}{precision}.png").astype(int))
        assert np.abs(decoded[0] - decoded[1]).max() <= 3
        assert any(np.array_equal(decoded[2], other) for other in decoded[:2])


def test_tiles_can_be_decoded_alone(run, checkpoint):
    blurred_noise((200, 150)).save("photo.png")
    arguments = ["--checkpoint", checkpoint]
    status, out, _ = run("encode", "photo.png", "--tile", 64, "--json", *arguments)
    assert (status, json.loads(out)["tiles"]) == (0, len(read_coded("photo.cai").tiles))
    assert json.loads(out)["tiles"] > 4
    assert run("decode", "photo.cai", "-o", "all.png", *arguments)[0] == 0
    region = ["--region", "90,20,50,40", "--json"]
    status, out, _ = run("decode", "photo.cai", "-o", "part.png", *region, *arguments)
    assert (status, json.loads(out)["width"], json.loads(out)["height"]) == (0, 50, 40)
    assert np.array_equal(pixels("part.png"), pixels("all.png")[20:60, 90:140])
    assert run("encode", "photo.png", "-o", "one.cai", "--tile", "none", *arguments)[0] == 0
    assert len(read_coded("one.cai").tiles) == 1


def test_what_is_left_of_damaged_files_is_decoded_on_request(run, checkpoint):
    blurred_noise((200, 150)).save("photo.png")
    run("encode", "photo.png", "--tile", 64, "--checkpoint", checkpoint)
    content = bytearray(Path("photo.cai").read_bytes())
    content[-20] ^= 1
    Path("photo.cai").write_bytes(content)
    decode = ["decode", "photo.cai", "-o", "back.png", "--checkpoint", checkpoint, "--json"]
    status, out, err = run(*decode)
    assert (status, out) == (1, "")
    assert "checksum" in err
    status, out, err = run(*decode, "--best-effort")
    assert status == 0
    assert json.loads(out)["complete"] is False
    assert "note: photo.cai: damaged" in err
    assert Image.open("back.png").size == (200, 150)


def test_metadata_are_kept_on_request(run, photo, checkpoint):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    photo.save("photo.jpg", exif=exif.tobytes())
    arguments = ["--checkpoint", checkpoint]
    status, _, err = run("encode", "photo.jpg", "--keep-metadata", *arguments)
    assert (status, err) == (0, "")
    assert run("decode", "photo.cai", "-o", "back.png", *arguments)[0] == 0
    assert Image.open("back.png").getexif()[0x010F] == "maker"


def test_plain_coding_can_be_asked_for(run, photo, checkpoint):
    assert run("encode", "photo.png", "--plain", "--checkpoint", checkpoint)[0] == 0
    assert not read_coded("photo.cai").sync_safe


def test_version_is_printed(run):
    assert run("--version") == (0, f"compressai {compressai.__version__}\n", "")


def test_transparency_survives(run, checkpoint):
    image = Image.new("LA", (20, 10), (90, 30))
    image.save("grey.png")
    run("encode", "grey.png", "--checkpoint", checkpoint)
    run("decode", "grey.cai", "-o", "back.webp", "--checkpoint", checkpoint)
    assert np.all(np.asarray(Image.open("back.webp").convert("RGBA"))[..., 3] == 30)


# -- output files ---------------------------------------------------------------------------------


def test_existing_files_are_replaced_only_when_asked(run, photo, checkpoint):
    Path("photo.cai").write_text("precious")
    status, _, err = run("encode", "photo.png", "--checkpoint", checkpoint)
    assert status == 1
    assert "give --overwrite" in err
    assert Path("photo.cai").read_text() == "precious"
    assert run("encode", "photo.png", "--checkpoint", checkpoint, "--overwrite")[0] == 0
    before = Path("photo.png").read_bytes()
    status, _, err = run("decode", "photo.cai", "--checkpoint", checkpoint)
    assert status == 1
    assert Path("photo.png").read_bytes() == before
    assert run("decode", "photo.cai", "--checkpoint", checkpoint, "--overwrite")[0] == 0
    assert Path("photo.png").read_bytes() != before


def test_existing_file_survives_a_failure_with_overwrite(run, photo, checkpoint, monkeypatch):
    Path("photo.cai").write_text("precious")

    def fail(*_, **__):
        raise ValueError("the disk is full of bees")

    monkeypatch.setattr(CodedImage, "to_bytes", fail)
    status, _, err = run("encode", "photo.png", "--checkpoint", checkpoint, "--overwrite")
    assert (status, err) == (1, "error: the disk is full of bees\n")
    monkeypatch.setattr(Path, "write_bytes", fail)
    monkeypatch.setattr(CodedImage, "to_bytes", lambda _: b"content")
    assert run("encode", "photo.png", "--checkpoint", checkpoint, "--overwrite")[0] == 1
    assert Path("photo.cai").read_text() == "precious"
    assert files() == ["photo.cai", "photo.png"]


def test_interrupted_image_leaves_no_file(run, photo, checkpoint, monkeypatch):
    run("encode", "photo.png", "--checkpoint", checkpoint)

    def fail(self, path, **_):
        Path(path).write_text("half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Image.Image, "save", fail)
    assert run("decode", "photo.cai", "-o", "back.png", "--checkpoint", checkpoint)[0] == 1
    assert files() == ["photo.cai", "photo.png"]


def test_input_is_never_the_output(run, photo):
    before = Path("photo.png").read_bytes()
    Path("link.png").symlink_to("photo.png")
    for output in ("photo.png", "./photo.png", "link.png"):
        status, _, err = run("encode", "photo.png", "-o", output, "--overwrite")
        assert status == 1
        assert "is the input" in err
    assert Path("photo.png").read_bytes() == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing/x.cai", "create it first"),
        ("folder", "is a folder"),
        ("/dev/null", "no regular file"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_the_work(
    run, photo, output, message, monkeypatch
):
    Path("folder/photo.cai").mkdir(parents=True)
    monkeypatch.setattr("compressai.bitstream.read_image", None)
    status, _, err = run("encode", "photo.png", "-o", output, "--overwrite")
    assert status == 1
    assert message in err


def test_symbolic_links_are_written_through(run, photo, checkpoint):
    Path("folder").mkdir()
    Path("photo.cai").symlink_to("folder/real.cai")
    run("encode", "photo.png", "--checkpoint", checkpoint, "--overwrite")
    assert Path("photo.cai").is_symlink()
    assert read_coded("folder/real.cai").width == 70


@pytest.mark.parametrize(
    ("output", "message"),
    [("back.xyz", "suffix must be one of"), ("back.jpg", "cannot keep transparency")],
)
def test_kinds_of_images_that_cannot_be_written_are_refused(run, checkpoint, output, message):
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save("photo.png")
    run("encode", "photo.png", "--checkpoint", checkpoint)
    status, _, err = run("decode", "photo.cai", "-o", output, "--checkpoint", checkpoint)
    assert status == 1
    assert message in err
    assert files() == ["photo.cai", "photo.png"]


def test_lossy_kinds_of_images_get_a_note(run, photo, checkpoint):
    run("encode", "photo.png", "--checkpoint", checkpoint)
    status, _, err = run("decode", "photo.cai", "-o", "b.jpg", "--checkpoint", checkpoint)
    assert status == 0
    assert "lossy" in err


# -- other processes ------------------------------------------------------------------------------


def test_file_made_in_another_process_with_a_checkpoint_decodes_here(run, photo, checkpoint):
    done = run_elsewhere("encode", "photo.png", "--checkpoint", checkpoint, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["bytes"] == Path("photo.cai").stat().st_size
    assert run("encode", "photo.png", "-o", "here.cai", "--checkpoint", checkpoint)[0] == 0
    for name in ("photo", "here"):
        decode = ["decode", f"{name}.cai", "-o", f"{name}.tif", "--checkpoint", checkpoint]
        assert run(*decode)[0] == 0
    assert np.array_equal(pixels("photo.tif"), pixels("here.tif"))


def test_file_made_here_with_random_weights_decodes_in_another_process(run, photo):
    assert run("encode", "photo.png", "--model", "bmshj2018-factorized", "-q", "1")[0] == 0
    decode = ("decode", "photo.cai", "--precision", "fp32", "-o")
    assert run(*decode, "here.png")[0] == 0
    done = run_elsewhere(*decode, "there.png")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(pixels("here.png"), pixels("there.png"))


def test_program_that_is_told_to_stop_leaves_nothing_unfinished(photo, checkpoint, folder):
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "def write_a_part_and_be_killed(self, content):\n"
        "    self.open('wb').write(content[:5])\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "Path.write_bytes = write_a_part_and_be_killed\n"
        "from compressai.cli import main\n"
        f"sys.argv = ['compressai', 'encode', 'photo.png', '--checkpoint', {str(checkpoint)!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert files() == ["photo.png"]


def test_shells_complete_names_of_models():
    words = {"COMP_WORDS": "compressai encode --model mbt2018-m", "COMP_CWORD": "3"}
    environment = {**os.environ, **words, "_COMPRESSAI_COMPLETE": "complete_bash"}
    program = "from compressai.cli.app import app; app(prog_name='compressai')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.stdout.split() == ["mbt2018-mean", "mbt2018-mean-vbr"]
