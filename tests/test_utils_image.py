# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The image programs of CompressAI: their command lines, output and files stay what they were."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from program import save_crops
from tiny_nets import tiny_net

from compressai.evaluation.metrics import ms_ssim, psnr
from compressai.ops import compute_padding
from compressai.utils.bench import __main__ as bench
from compressai.utils.bench import codecs as bench_codecs
from compressai.utils.eval_model import __main__ as eval_model
from compressai.utils.find_close import __main__ as find_close
from compressai.utils.plot import __main__ as plot
from compressai.utils.update_model import __main__ as update_model

PROGRAMS = (bench, eval_model, find_close, plot, update_model)


@pytest.fixture(autouse=True)
def images(folder):
    save_crops({"images/a.png": (100, 40, 290, 215), "images/sub/b.PNG": (30, 20, 230, 190)})


def image(name="images/a.png"):
    with Image.open(name) as sample:
        return sample.convert("RGB")


def run(program, capsys, *arguments):
    """What a program prints on stdout and on stderr."""
    program.main([str(argument) for argument in arguments])
    return capsys.readouterr()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__.split(".")[-2])
def test_programs_show_help_and_refuse_to_do_nothing(program, capsys):
    with pytest.raises(SystemExit) as stop:
        program.main(["--help"])
    assert stop.value.code == 0
    assert "usage: python -m compressai.utils." in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        program.main([])
    assert stop.value.code != 0


# -- bench ----------------------------------------------------------------------------------------


def test_bench_prints_averages_as_json(capsys):
    output = json.loads(run(bench, capsys, "jpeg", "images", "-q", "50,20", "-j", "2").out)
    assert list(output) == ["name", "description", "results"]
    assert output["name"] == "JPEG"
    assert output["description"].startswith("JPEG. Pillow version ")
    assert list(output["results"]) == [
        *("bpp", "encoding_time", "decoding_time", "psnr-rgb", "ms-ssim-rgb")
    ]
    expected = []
    for name in ("images/a.png", "images/sub/b.PNG"):
        image(name).save("x.jpg", quality=20)
        expected.append(psnr(image(name), image("x.jpg")))
    # Qualities rise, whatever the order on the command line.
    assert output["results"]["psnr-rgb"][0] == pytest.approx(sum(expected) / 2)
    assert output["results"]["bpp"][0] < output["results"]["bpp"][1]


@pytest.mark.parametrize("codec", ["webp", "jpeg2000", "avif", "jxl"])
def test_bench_has_every_codec_that_python_has(codec, capsys):
    if codec == "jxl":
        pytest.importorskip("pillow_jxl")
    output = json.loads(run(bench, capsys, codec, "images", "-q", "30,40").out)
    low, high = output["results"]["psnr-rgb"]
    assert low < high
    assert output["name"].lower() == codec


def test_bench_refuses_folders_without_images(capsys, folder):
    (folder / "empty").mkdir()
    with pytest.raises(SystemExit) as stop:
        bench.main(["jpeg", "empty"])
    assert stop.value.code == 1
    assert "no images" in capsys.readouterr().out
    with pytest.raises(OSError, match="no folder"):
        bench.main(["jpeg", "images/a.png"])
    for arguments in (["jpeg"], ["gif", "images"], ["jpeg", "images", "-q", "x"]):
        with pytest.raises(SystemExit) as stop:
            bench.main(arguments)
        assert stop.value.code == 2


def test_missing_programs_are_named(capsys):
    for arguments, words in (
        (("bpg", "images", "-q", "30", "--encoder-path", "nowhere/bpgenc"), "'nowhere/bpgenc'"),
        (("vtm", "images", "-b", "nowhere", "-c", "x.cfg"), "EncoderApp"),
        (("hm", "images", "-b", "nowhere", "-c", "x.cfg"), "nowhere/TAppEncoderStatic"),
        (("av1", "images", "-b", "nowhere"), "nowhere/aomenc"),
    ):
        with pytest.raises(SystemExit) as stop:
            bench.main(list(arguments))
        assert stop.value.code == 1
        out, err = capsys.readouterr()
        assert words in err
        assert out == ""


# A program that writes its arguments into a log, and copies what -i or the like names.
FAKE = f"""#!{sys.executable}
import json, pathlib, shutil, sys
arguments = sys.argv[1:]
with open("log", "a") as log:
    print(json.dumps([pathlib.Path(sys.argv[0]).name, *arguments]), file=log)
if arguments == ["-h"]:
    print("BPG Image Encoder version 0.9.8")
    sys.exit(1)
def value(name): return arguments[arguments.index(name) + 1]
name = pathlib.Path(sys.argv[0]).name
if name in ("bpgenc", "aomenc"):
    shutil.copy(arguments[-1], value("-o"))
elif name == "bpgdec":
    shutil.copy(arguments[-1], value("-o"))
elif name == "aomdec":
    shutil.copy(arguments[0], value("-o"))
elif "Encoder" in name:
    shutil.copy(value("-i"), value("-b"))
else:
    shutil.copy(value("-b"), value("-o"))
"""


@pytest.fixture
def programs(folder):
    names = ("bpgenc", "bpgdec", "aomenc", "aomdec", "TAppEncoderStatic", "TAppDecoderStatic")
    vtm = ("EncoderAppStatic", "DecoderAppStatic", "EncoderApp", "DecoderApp")
    (folder / "bin").mkdir()
    for name in (*names, *vtm):
        (folder / "bin" / name).write_text(FAKE)
        (folder / "bin" / name).chmod(0o755)
    (folder / "codec.cfg").touch()
    return folder / "bin"


def commands(image_name):
    """Logged commands with the names of temporary files replaced."""
    lines = [json.loads(line) for line in Path("log").read_text().splitlines()]
    return [[Path(w).name if "compressai-" in w else w for w in line] for line in lines]


# tables/external_commands.md of the specification.
VTM = (
    "-i source.yuv -c codec.cfg -q 32 -o /dev/null -b coded.bin -wdt 190 -hgt 175 -fr 1 -f 1 "
    "--InputChromaFormat=444 --InputBitDepth=8 "
)
RGB = " --InputColourSpaceConvert=RGBtoGBR --SNRInternalColourSpace=1 --OutputInternalColourSpace=0"
COMMANDS = {
    "bpg": (
        "bpgenc -o coded.bin -q 32 -f 444 -e x265 -c ycbcr -b 8 source.png",
        "bpgdec -o decoded.png coded.bin",
    ),
    "vtm": (
        f"EncoderAppStatic {VTM}--ConformanceWindowMode=1",
        "DecoderAppStatic -b coded.bin -o decoded.yuv -d 8",
    ),
    "vtm --rgb": (
        f"EncoderAppStatic {VTM}--ConformanceWindowMode=1{RGB}",
        "DecoderAppStatic -b coded.bin -o decoded.yuv -d 8 --OutputInternalColourSpace=GBRtoRGB",
    ),
    "hm": (
        f"TAppEncoderStatic {VTM}--SEIDecodedImageHash --Level=5.1 --CUNoSplitIntraACT=0 "
        "--ConformanceMode=1",
        "TAppDecoderStatic -b coded.bin -o decoded.yuv -d 8",
    ),
    "av1": (
        "aomenc -w 190 -h 175 --fps=1/1 --limit=1 --input-bit-depth=8 --cpu-used=0 --threads=1 "
        "--passes=2 --end-usage=q --cq-level=32 --i444 --skip=0 --tune=psnr --psnr --bit-depth=8 "
        "-o coded.bin source.yuv",
        "aomdec coded.bin -o decoded.yuv --rawvideo --output-bit-depth=8",
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="VTM's programs have other names")
@pytest.mark.parametrize("codec", COMMANDS)
def test_programs_get_the_documented_command_lines_and_lose_only_by_rounding(
    codec, programs, capsys, folder
):
    (folder / "images" / "sub" / "b.PNG").unlink()
    name, *options = codec.split()
    options += {
        "bpg": ["--encoder-path", "bin/bpgenc", "--decoder-path", "bin/bpgdec"],
        "av1": ["-b", "bin"],
    }.get(name, ["-b", "bin", "-c", "codec.cfg"])
    output = json.loads(run(bench, capsys, name, "images", "-q", "32", *options).out)
    assert commands("a")[:2] == [line.split() for line in COMMANDS[codec]]
    (quality,) = output["results"]["psnr-rgb"]
    # The fakes copy. 8-bit Y'CbCr is no exact image of 8-bit RGB, but rounding costs little.
    assert quality is None if name == "bpg" or "--rgb" in codec else quality > 50
    if name == "bpg":
        assert output["name"] == "BPG 8b 444 x265 ycbcr"
        assert output["description"] == "BPG. BPG version 0.9.8"
    else:
        assert output["name"] == output["description"] == name.upper()


def test_qualities_out_of_range_are_refused(programs, capsys):
    args = bench.setup_args().parse_args(["hm", "x", "-b", "bin", "-c", "codec.cfg"])
    with pytest.raises(ValueError, match="between 0 and 51"):
        bench_codecs.HM(args).run("images/a.png", 52)
    args = bench.setup_args().parse_args(["tfci", "x", "-p", "tfci.py"])
    with pytest.raises(ValueError, match="between 1 and 8"):
        bench_codecs.TFCI(args).run("images/a.png", 9)


def test_programs_that_fail_show_what_they_said(programs, capsys):
    (programs / "bpgenc").write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    options = ["--encoder-path", "bin/bpgenc", "--decoder-path", "bin/bpgdec"]
    with pytest.raises(SystemExit) as stop:
        bench.main(["bpg", "images", "-q", "32", *options])
    assert stop.value.code == 1
    assert "no such luck" in capsys.readouterr().err


def test_helpers_of_bench(folder, capsys):
    assert bench_codecs.filesize("images/a.png") == Path("images/a.png").stat().st_size
    for helper in (bench_codecs.filesize, bench_codecs.read_image):
        with pytest.raises(ValueError, match=r"nowhere\.png"):
            helper("nowhere.png")
    assert bench_codecs.read_image("images/a.png", "L").mode == "L"
    assert bench_codecs.compute_metrics(image(), image()) == {"psnr-rgb": math.inf}
    assert bench_codecs.run_command([sys.executable, "-c", "print(1)"]) == "1\n"
    failing = [sys.executable, "-c", "print(2); raise SystemExit(4)"]
    assert bench_codecs.run_command(failing, ignore_returncodes=[4]) == b"2\n"
    with pytest.raises(SystemExit) as stop:
        bench_codecs.run_command(failing)
    assert stop.value.code == 1
    assert capsys.readouterr().out.strip() == "2"


# -- find_close -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "target"), [("psnr-rgb", 30.0), ("bpp", 0.5), ("ms-ssim-rgb", 0.95)]
)
def test_find_close_finds_the_closest_quality(metric, target, capsys):
    out, err = run(find_close, capsys, "jpeg", "images/a.png", target, "-m", metric, "--save")
    values = {key: float(value) for key, value in (line.split(": ") for line in out.splitlines())}
    codec = bench_codecs.JPEG(None)
    names = ["psnr-rgb", "ms-ssim-rgb"]
    tried = [codec.run("images/a.png", quality, names) for quality in range(101)]
    distances = [abs(result[metric] - target) for result in tried]
    assert abs(values[metric] - target) == pytest.approx(min(distances), abs=1e-4)
    # The name says the quality of the image in it, not of the one that was tried last.
    (saved,) = Path().glob("output_jpeg_q*.png")
    quality = int(saved.stem.partition("_q")[2])
    assert psnr(image(), image(saved)) == tried[quality]["psnr-rgb"]
    assert distances[quality] == min(distances)
    assert "trying quality 50" in err


def test_find_close_searches_downwards_and_reaches_the_ends():
    class Falling(bench_codecs.HM):
        def __init__(self):
            self.tried = []

        def run(self, img, quality, metrics=None, return_rec=False):
            self.tried.append(quality)
            return {"bpp": 51.0 - quality}, img

    for target, quality in ((-5, 51), (99, 0), (20.2, 31)):
        codec = Falling()
        assert find_close.find_closest(codec, None, target, "bpp")[:2] == (
            quality,
            {"bpp": 51.0 - quality},
        )
        assert len(codec.tried) <= 7


# -- update_model ---------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(folder):
    """What a training script keeps: no tables yet, names of DataParallel."""
    net = tiny_net("bmshj2018-factorized")
    state = {f"module.{key}": value for key, value in net.state_dict().items()}
    for name in ("_offset", "_quantized_cdf", "_cdf_length"):
        state[f"module.entropy_bottleneck.{name}"] = torch.IntTensor()
    (folder / "run").mkdir()
    path = folder / "run" / "checkpoint.pth.tar"
    torch.save({"epoch": 3, "state_dict": state}, path)
    return path


ARCHITECTURE = ("-a", "factorized-prior")
TABLE = "entropy_bottleneck._cdf_length"


def test_update_model_takes_the_place_of_its_input(checkpoint, capsys):
    out, err = run(update_model, capsys, checkpoint, "-d", checkpoint.parent, *ARCHITECTURE)
    assert (out, err) == ("", "")
    (result,) = checkpoint.parent.iterdir()
    digest = hashlib.sha256(result.read_bytes()).hexdigest()
    assert result.name == f"checkpoint-{digest[:8]}.pth.tar"
    state = torch.load(result, weights_only=True)
    expected = tiny_net("bmshj2018-factorized").state_dict()
    assert state.keys() == expected.keys()
    assert state[TABLE].numel() == 6
    assert torch.equal(state["g_a.0.weight"], expected["g_a.0.weight"])


def test_update_model_keeps_its_input_under_another_name(checkpoint, capsys):
    run(update_model, capsys, checkpoint, "-n", "mine", "-d", "a/b", *ARCHITECTURE, "--no-update")
    assert checkpoint.exists()
    (result,) = Path("a/b").iterdir()
    assert result.name.startswith("mine-")
    assert torch.load(result, weights_only=True)[TABLE].numel() == 0


@pytest.mark.parametrize("entry", ["network", "model_state_dict"])
def test_update_model_finds_the_weights_in_their_entry(entry, checkpoint, capsys):
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    torch.save({entry: state}, checkpoint)
    run(update_model, capsys, checkpoint, "-n", "mine", "-a", "bmshj2018-factorized")
    assert len(list(Path().glob("mine-*.pth.tar"))) == 1


def test_update_model_refuses_what_is_no_checkpoint(checkpoint, folder):
    with pytest.raises(RuntimeError, match="no file"):
        update_model.main([str(folder)])
    (folder / "empty.pth").touch()
    with pytest.raises(EOFError):
        update_model.main(["empty.pth"])
    with pytest.raises(SystemExit):
        update_model.main([str(checkpoint), "-a", "nope"])
    with pytest.raises(ValueError, match="does not fit 'jarhp'"):
        update_model.main([str(checkpoint), "-a", "jarhp"])
    assert checkpoint.exists()
    names = {"factorized-prior", "jarhp", "mean-scale-hyperprior", "scale-hyperprior", "ssf2020"}
    assert names | {"bmshj2018_factorized_relu", "mbt2018-vbr"} <= set(update_model.models)


# -- eval_model -----------------------------------------------------------------------------------

NET = "bmshj2018-factorized"


@pytest.fixture
def weights(folder):
    (folder / "low.1.pth.tar").touch()
    for seed, name in enumerate(("low.1.pth.tar", "high.pth")):
        torch.save(tiny_net(NET, seed).state_dict(), name)
    return ["low.1.pth.tar", "high.pth"]


def by_hand(net, name):
    """Rate without header, PSNR and MS-SSIM of an image padded with zeros on all sides."""
    x = eval_model.read_image(name)[None]
    pad, unpad = compute_padding(x.size(2), x.size(3), min_div=64)
    coded = net.compress(F.pad(x, pad))
    x_hat = F.pad(net.decompress(coded["strings"], coded["shape"])["x_hat"], unpad)
    size = sum(len(s[0]) for s in coded["strings"])
    decoded = (x_hat[0] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    pair = (image(name), Image.fromarray(decoded))
    return {
        "bpp": 8 * size / x[0, 0].numel(),
        "psnr-rgb": psnr(*pair),
        "ms-ssim-rgb": ms_ssim(*pair),
    }


def test_eval_model_prints_and_writes_averages(weights, capsys):
    out, err = run(
        *(eval_model, capsys, "checkpoint", "images", "-a", NET, "-d", "deep/results"),
        *("--per-image", "-p", *weights),
    )
    output = json.loads(out)
    assert (output["name"], output["description"]) == (f"{NET}-mse", "Inference (ans)")
    assert set(output["results"]) == {
        *("psnr-rgb", "ms-ssim-rgb", "bpp", "encoding_time", "decoding_time")
    }
    assert Path("deep/results", f"{NET}-ans.json").read_text() + "\n" == out
    assert err.splitlines() == [
        "Using trained model low.1-ans",
        "Using trained model high-ans",
    ]
    for run_number, seed in enumerate((0, 1)):
        net = tiny_net(NET, seed)
        net.update(force=True)
        both = [by_hand(net, name) for name in ("images/a.png", "images/sub/b.PNG")]
        for key in both[0]:
            got = output["results"][key][run_number]
            assert got == pytest.approx(sum(b[key] for b in both) / 2), key
    single = json.loads(Path("deep/results/sub/b-high-ans.json").read_text())
    assert list(single) == ["source", "name", "description", "results"]
    assert (single["source"], single["name"]) == ("b", NET)
    assert single["results"]["psnr-rgb"] == pytest.approx(both[1]["psnr-rgb"])


def test_eval_model_estimates_rates_of_any_size(weights, capsys):
    arguments = (eval_model, capsys, "checkpoint", "images", "-a", NET, "-p", weights[0])
    coded = json.loads(run(*arguments).out)
    estimated = json.loads(run(*arguments, "--entropy-estimation", "-d", "out", "-o", "mine.x").out)
    assert estimated["description"] == "Inference (entropy estimation)"
    assert estimated["results"]["psnr-rgb"] == pytest.approx(coded["results"]["psnr-rgb"])
    # Without the few bytes that finish a string.
    assert estimated["results"]["bpp"] == pytest.approx(coded["results"]["bpp"], rel=0.1)
    assert Path("out/mine.json").exists()


def test_eval_model_evaluates_published_weights_in_rising_quality(capsys, monkeypatch):
    asked = []

    def published(quality, metric, pretrained, progress):
        asked.append((quality, metric, pretrained))
        return tiny_net(NET, quality)

    monkeypatch.setitem(eval_model.pretrained_models, NET, published)
    out, err = run(
        *(eval_model, capsys, "pretrained", "images", "-a", NET, "-q", "4,1", "-m", "ms-ssim")
    )
    assert asked == [(1, "ms-ssim", True), (4, "ms-ssim", True)]
    assert json.loads(out)["name"] == f"{NET}-ms-ssim"
    assert f"Using trained model {NET}-ms-ssim-1-ans" in err


@pytest.mark.parametrize("variable_bottleneck", [False, True])
def test_eval_model_sweeps_the_steps_of_variable_rate(variable_bottleneck, capsys):
    from compressai.models.vbr import MeanScaleHyperpriorVbr

    torch.manual_seed(0)
    net = MeanScaleHyperpriorVbr(N=4, M=6, vr_entbttlnck=variable_bottleneck)
    with torch.no_grad():
        net.g_a[-1].weight.mul_(50)
    torch.save(net.state_dict(), "vbr.pth")
    common = ("images", "-a", "mbt2018-mean-vbr", "--vbr_quantstep", "1.0,10.0", "-p")
    out, err = run(eval_model, capsys, "checkpoint", *common, "vbr.pth")
    results = json.loads(out)["results"]
    assert results["bpp"][0] < results["bpp"][1]
    assert len(err.splitlines()) == 2
    with pytest.raises(AssertionError, match="one checkpoint"):
        eval_model.main(["checkpoint", *common, "vbr.pth", "vbr.pth"])


def test_eval_model_refuses_command_lines_without_an_answer(weights, folder, capsys):
    (folder / "empty").mkdir()
    for arguments, status, words in (
        (["checkpoint", "empty", "-a", NET, "-p", *weights], 1, "no images"),
        (["checkpoint", "images", "-p", *weights], 2, "--architecture"),
        (["checkpoint", "-a", NET, "-p", *weights], 2, "dataset"),
        (["checkpoint", "images", "-a", "nope", "-p", *weights], 2, "nope"),
        (["checkpoint", "images", "-a", NET, "--per-image", "-p", *weights], 2, "--per-image"),
    ):
        with pytest.raises(SystemExit) as stop:
            eval_model.main(arguments)
        assert stop.value.code == status
        assert words in capsys.readouterr().err


def test_eval_model_leaves_torch_as_it_was(weights, capsys):
    torch.set_num_threads(2)
    run(eval_model, capsys, "checkpoint", "images", "-a", NET, "-p", weights[1])
    assert torch.get_num_threads() == 2


def test_training_update_and_evaluation_go_together(checkpoint, capsys):
    run(update_model, capsys, checkpoint, "-n", "factorized", *ARCHITECTURE)
    (result,) = Path().glob("factorized-*.pth.tar")
    out, _ = run(eval_model, capsys, "checkpoint", "images", "-a", NET, "-p", result)
    assert json.loads(out)["results"]["bpp"][0] > 0
