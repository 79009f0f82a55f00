# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai eval`` and ``compressai plot``: figures of real files, in every form asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from program import save_crops
from tiny_nets import SIZES, tiny_net
from typer.main import get_command

from compressai.bitstream import read_image
from compressai.checkpoint import save_checkpoint
from compressai.cli import main
from compressai.cli.app import app
from compressai.cli.eval import CLASSICAL
from compressai.cli.several import _spread
from compressai.evaluation import CODECS, ModelCodec

MODEL = "mbt2018-mean"


@pytest.fixture(autouse=True)
def images(folder):
    save_crops({"images/a.png": (100, 40, 270, 205), "images/b.png": (200, 40, 300, 120)})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed in range(2):
        net = tiny_net(MODEL, seed)
        save_checkpoint(
            folder / f"step{seed}.safetensors",
            net,
            architecture=MODEL,
            arguments=SIZES[MODEL],
            metric="mse",
        )
    return [str(folder / f"step{seed}.safetensors") for seed in range(2)]


@pytest.fixture
def run(capsys):
    """Run the program: ``(exit status, stdout, stderr)``."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return run


def test_classical_codecs_are_those_of_the_library():
    assert list(CLASSICAL) == list(CODECS)


def test_checkpoints_are_measured_by_their_files(run, checkpoints):
    arguments = ("--checkpoint", *checkpoints, "--precision", "fp32", "--json")
    status, out, err = run("eval", "images", *arguments)
    result = json.loads(out)
    assert (status, err) == (0, "")
    assert [(p["image"], p["quality"]) for p in result["points"]] == [
        (image, label) for image in ("a.png", "b.png") for label in ("step0", "step1")
    ]
    image = read_image("images/b.png").to_image()
    codec = ModelCodec(MODEL, {"step1": tiny_net(MODEL, 1)}, metric="mse")
    assert result["points"][3]["bytes"] == len(codec.code(image, "step1").content)
    assert result["tested"] == [MODEL]


def test_every_output_is_written(run, checkpoints):
    pytest.importorskip("matplotlib")
    status, out, err = run(
        *("eval", "images/a.png", "--checkpoint", *checkpoints, "--against", "webp", "jpeg"),
        *("--json", "r.json", "--csv", "r.csv", "--plot", "r.svg", "--html", "r.html"),
    )
    assert (status, err) == (0, "")
    assert "BD-rate" in out
    result = json.loads(Path("r.json").read_text())
    assert result["against"] == ["webp", "jpeg"]
    assert len(Path("r.csv").read_text().splitlines()) == len(result["points"]) + 1
    assert "<svg" in Path("r.svg").read_text()
    assert Path("r.html").read_text().startswith("<!DOCTYPE html>")

    status, out, err = run("plot", "r.json", "-o", "again.png", "--metric", "ms-ssim")
    assert (status, out, err) == (0, "again.png\n", "")
    with Image.open("again.png") as image:
        assert image.format == "PNG"
    status, _, err = run("plot", "r.json", "-o", "again.png")
    assert (status, "--overwrite" in err) == (1, True)
    status, _, err = run("plot", "r.json", "-o", "other.png", "-m", "vmaf")
    assert status == 1
    assert "psnr-rgb" in err


@pytest.mark.parametrize("name", ["json", "csv", "plot", "html"])
def test_nothing_is_coded_when_the_output_cannot_be_written(run, name, monkeypatch):
    monkeypatch.setattr("compressai.evaluation.find_images", pytest.fail)
    suffix = {"plot": "png"}.get(name, name)
    Path(f"r.{suffix}").write_text("kept")
    status, _, err = run("eval", "images", f"--{name}", f"r.{suffix}")
    assert status == 1
    assert "--overwrite" in err
    assert Path(f"r.{suffix}").read_text() == "kept"
    status, _, err = run("eval", "images", f"--{name}", f"nowhere/r.{suffix}")
    assert status == 1
    assert "nowhere" in err


def test_plots_are_refused_before_the_work_without_their_extra(run, monkeypatch):
    monkeypatch.setattr("compressai.evaluation.find_images", pytest.fail)
    status, _, err = run("eval", "images", "--plot", "r.gif")
    assert (status, "suffix" in err) == (1, True)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for arguments in (("--plot", "r.png"), ("--html", "r.html")):
        status, _, err = run("eval", "images", *arguments)
        assert status == 1
        assert "pip install 'compressai-torch[plot]'" in err


def test_qualities_of_the_zoo_say_that_their_weights_are_random(run, monkeypatch):
    asked = []

    def small(quality, metric="mse", pretrained=False):
        asked.append(quality)
        return tiny_net(MODEL, quality)

    monkeypatch.setitem(sys.modules["compressai.model_choice"].image_models, MODEL, small)
    status, out, err = run("eval", "--model", MODEL, "--quality", "2", "1", "images", "--json")
    assert status == 0
    assert err.count("RANDOM") == 2
    result = json.loads(out)
    assert asked == [2, 1]
    assert result["curves"][0]["results"]["quality"] == [2, 1]
    assert "RANDOM" in result["curves"][0]["description"]
    # All qualities if none is named.
    asked.clear()
    run("eval", "images/b.png", "--model", MODEL)
    assert asked == list(range(1, 9))


def test_one_checkpoint_of_variable_rate_gives_a_curve(run, monkeypatch):
    from compressai.models.vbr import MeanScaleHyperpriorVbr

    torch.manual_seed(0)
    net = MeanScaleHyperpriorVbr(N=4, M=6).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(50)
    net.update()
    save_checkpoint(
        "vbr.safetensors", net, architecture="mbt2018-mean-vbr", arguments={"N": 4, "M": 6}
    )
    status, out, err = run(
        *("eval", "images/b.png", "--checkpoint", "vbr.safetensors", "-q", "8", "1", "--json")
    )
    assert (status, err) == (0, "")
    points = json.loads(out)["points"]
    assert [p["quality"] for p in points] == [8, 1]
    assert points[0]["bytes"] > points[1]["bytes"]


def test_precision_prepares_the_transforms_and_changes_little(run, checkpoints):
    plain, fast = (
        json.loads(run(*arguments, "--precision", precision)[1])
        for arguments in [("eval", "images", "--checkpoint", checkpoints[0], "--json")]
        for precision in ("fp32", "bf16")
    )
    before, after = ([p["psnr"] for p in result["points"]] for result in (plain, fast))
    assert after == pytest.approx(before, abs=0.5)
    assert after != before
    sizes = [[p["bytes"] for p in result["points"]] for result in (plain, fast)]
    assert sizes[0] == sizes[1]
    assert "bfloat16" in str(fast["curves"])
    assert "bfloat16" not in str(plain["curves"])


def test_precision_is_chosen_by_the_machine_except_for_figures():
    group = get_command(app)
    context = group.context_class(group)
    precisions = {
        name: parameter.default
        for name in group.commands
        for parameter in group.get_command(context, name).params
        if parameter.name == "precision"
    }
    assert set(precisions) >= {"encode", "decode", "eval", "bench"}
    defaults = {name: getattr(value, "value", value) for name, value in precisions.items()}
    assert defaults.pop("eval") == "fp32"
    assert set(defaults.values()) == {"auto"}


@pytest.mark.parametrize(("native", "used"), [(True, "bf16"), (False, "fp32")])
def test_automatic_precision_is_told(native, used, run, checkpoints, monkeypatch):
    monkeypatch.setattr("compressai.inference.precision.has_native_bfloat16", lambda device: native)
    arguments = ("--checkpoint", checkpoints[0], "--json")
    report = json.loads(run("bench", "images/b.png", *arguments, "--repeats", 1)[1])
    assert report["precision"] == used
    result = json.loads(run("eval", "images/b.png", *arguments, "--precision", "auto")[1])
    assert ("bfloat16" in str(result["curves"])) == native


def test_wrong_command_lines_and_images_end_with_a_line(run, checkpoints):
    for arguments, status, words in (
        ((), 2, "IMAGES"),
        (("nowhere.png",), 1, "nowhere.png does not exist"),
        (("images", "--against", "gif"), 2, "jpeg"),
        (("images", "--quality", "x"), 2, "quality"),
        (("images", "--checkpoint", *checkpoints, "--quality", "1"), 1, "--quality"),
        (("images", "--checkpoint", checkpoints[0], "--metric", "mse"), 2, "--metric"),
        (("images", "--model", "nope"), 1, "model must be one of"),
    ):
        got, out, err = run("eval", *arguments)
        assert (got, out) == (status, ""), arguments
        assert words.lower() in err.lower(), err
        assert "Traceback" not in err


def test_several_values_end_where_they_no_longer_fit():
    def spread_of(text):
        return " ".join(_spread(text.split(), {"--n": str.isdecimal, "--f": bool}, ("--json",)))

    assert spread_of("a --n 1 2 b 3") == "a --n 1 --n 2 b 3"
    assert spread_of("--f x y --n 1") == "--f x --f y --n 1"
    assert spread_of("--n") == "--n"
    # The first value is taken as it is, for the program to complain of.
    assert spread_of("--n x b") == "--n x b"
    assert spread_of("-- --n 1 2") == "-- --n 1 2"
    assert spread_of("--json a.png") == "--json - a.png"
    assert spread_of("--json a.json --json - --json") == "--json a.json --json - --json -"
    assert spread_of("--n=1 2") == "--n=1 2"
