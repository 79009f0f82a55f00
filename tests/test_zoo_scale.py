# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Zoo models whose quality is a number on a scale: one file of weights, any rate, everywhere."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image
from program import alone_in, program, save_photo

from compressai import zoo
from compressai.bitstream import decode_image, encode_image, read_coded, read_image
from compressai.losses import RateDistortionLoss
from compressai.model_choice import Chooser, ModelCache, choose_model, default_quality, model_of
from compressai.models import Lite
from compressai.registry import ENTRIES, register_entry
from compressai.training import build_levels, parse_args
from compressai.zoo import weights

Run = Callable[..., tuple[int, str, str]]
NAME = "scaled"
SMALL = ENTRIES["lite"].small


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder, and a row as that of lite whose weights do not ship."""
    register_entry(replace(ENTRIES["lite"], name=NAME, shipped=False))
    with alone_in(tmp_path, monkeypatch):
        save_photo()
        yield tmp_path
    del ENTRIES[NAME]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Run:
    return program(capsys)


@pytest.fixture
def installed() -> Path:
    """Weights in the folder, of a small model whose rates differ."""
    torch.manual_seed(0)
    net = Lite(**SMALL).eval()
    with torch.no_grad():
        net.g_a[-1].weight.mul_(50)
    net.update()
    content = safetensors.torch.save({k: v.contiguous() for k, v in net.state_dict().items()})
    return weights.install_weights(content, NAME, "mse", None)


def test_one_file_is_for_every_quality(installed: Path) -> None:
    assert installed.name.startswith("scaled-mse-all-")
    for quality in (None, 0, 3, 47.5, 100):
        assert weights.installed_weights(NAME, "mse", quality) == installed
        assert weights.weights_status(NAME, "mse", quality) == "installed"
    assert not weights.weights_at_hand(NAME, "ms-ssim", 3)
    with pytest.raises(FileExistsError, match="other weights of scaled, metric mse, quality all"):
        weights.install_weights(b"else", NAME, "mse", 7)


def test_old_qualities_are_points_of_the_scale(installed: Path) -> None:
    points = ENTRIES[NAME].points
    nets = [zoo.scaled(quality, pretrained=True) for quality in points]
    assert [net.default_quality for net in nets] == list(points.values()) == [19, 32, 44, 56]
    assert Lite.default_quality == zoo.scaled().default_quality == 50
    # To the next whole number.
    lambdas = [net.lagrangian_multiplier() for net in nets]
    assert lambdas == pytest.approx([0.0035, 0.009, 0.0225, 0.056], rel=0.04)
    sample = read_image("photo.png")
    sizes = []
    for net in nets:
        coded = encode_image(net.eval(), sample)
        assert coded.quality == net.default_quality
        sizes.append(len(coded.to_bytes()))
    assert sizes == sorted(set(sizes))
    for wrong in (0, 5, 47.5):
        with pytest.raises(ValueError, match=rf"1 \(19\), .* 4 \(56\), .*, got {wrong}"):
            zoo.scaled(wrong)


def test_program_takes_any_number_and_files_name_their_weights(installed: Path, run: Run) -> None:
    sizes = []
    for quality in ("0", "47.5", "48", "100"):
        path = f"q{quality}.cai"
        status, _, err = run("encode", "photo.png", path, "--model", NAME, "-q", quality)
        assert status == 0, err
        facts = json.loads(run("info", path, "--json")[1])
        assert (facts["model"], facts["quality"], facts["metric"]) == (NAME, float(quality), "mse")
        status, _, err = run("decode", path, "--overwrite", "-o", "out.png")
        assert status == 0, err
        sizes.append(Path(path).stat().st_size)
    assert sizes == sorted(set(sizes))
    for quality in ("-1", "100.5"):
        status, _, err = run(
            "encode", "photo.png", "x.cai", "--model", NAME, f"--quality={quality}"
        )
        assert status == 1
        assert "quality of this model must be in 0 ... 100, got" in err
        assert not Path("x.cai").exists()
    assert run("encode", "photo.png", "d.cai", "--model", NAME)[0] == 0
    assert read_coded("d.cai").quality == default_quality(NAME) == 50


def test_targets_find_weights_of_the_zoo(installed: Path, run: Run) -> None:
    assert run("encode", "photo.png", "a.cai", "--model", NAME, "-q", "30")[0] == 0
    limit = Path("a.cai").stat().st_size + 20
    options = ["--model", NAME, "--target-bytes", limit]
    status, _, err = run("encode", "photo.png", "b.cai", *options)
    assert status == 0, err
    assert limit - 32 <= Path("b.cai").stat().st_size <= limit
    ladder = Chooser(model=NAME).ladder()
    assert ladder.is_scale
    assert (ladder.qualities[0], ladder.qualities[-1]) == (0, 100)


def test_evaluation_loads_the_weights_once(installed: Path, run: Run, monkeypatch: Any) -> None:
    loads = []
    read = weights.read_weights
    monkeypatch.setattr(weights, "read_weights", lambda path: loads.append(path) or read(path))
    command = ["eval", "photo.png", "--model", NAME, "--json", "r.json"]
    assert run(*command, "-q", "10", "47.5")[0] == 0
    assert len(loads) == 1
    told = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert [point["quality"] for point in told["points"]] == [10, 47.5]
    assert run(*command, "--overwrite")[0] == 0
    told = json.loads(Path("r.json").read_text(encoding="utf-8"))
    assert [point["quality"] for point in told["points"]] == [0, 20, 40, 60, 80, 100]


def test_pillow_takes_0_to_100(installed: Path) -> None:
    import compressai.pillow  # noqa: F401  (the plugin)

    buffers = {}
    with Image.open("photo.png") as image:
        for quality in (0, 75, 100):
            buffers[quality] = io.BytesIO()
            image.save(buffers[quality], format="CAI", model=NAME, quality=quality)
        with pytest.raises(ValueError, match=r"0 \.\.\. 100, got 101"):
            image.save(io.BytesIO(), format="CAI", model=NAME, quality=101)
    sizes = [len(buffer.getvalue()) for buffer in buffers.values()]
    assert sizes == sorted(set(sizes))
    with Image.open(buffers[75]) as image:
        assert image.info["quality"] == 75
        assert image.convert("RGB").getpixel((3, 3))


def test_cache_keeps_one_model_for_all_rates(installed: Path) -> None:
    cache = ModelCache()
    chosen = [cache.choose_model(NAME, quality, "mse", None) for quality in (None, 3, 47.5)]
    assert [one.quality for one in chosen] == [50, 3, 47.5]
    assert len({id(one.net) for one in chosen}) == 1
    with pytest.raises(ValueError, match="got 101"):
        cache.choose_model(NAME, 101, "mse", None)
    sample = read_image("photo.png")
    coded = [encode_image(chosen[0].net, sample, quality=quality) for quality in (3, 47.5)]
    assert [one.quality for one in coded] == [3, 47.5]
    assert len({id(cache.model_of(one, None)) for one in coded}) == 1


def test_random_weights_are_made_again() -> None:
    chosen = choose_model(NAME, 20, "mse", None)
    assert chosen.random_weights
    sample = read_image("photo.png")
    coded = encode_image(image=sample, **vars(chosen))
    assert (coded.quality, coded.random_weights) == (20, True)
    decode_image(model_of(coded, None), coded)  # compares hashes


def test_training_refuses_what_the_scale_settles(capsys: Any) -> None:
    for options, problem in (
        (
            ["--lambda", "0.01"],
            "--lambda is not for lite, whose scale of qualities has its own",
        ),
        (["--stage", "1"], "--stage is not for lite"),
        (["--metric", "ms-ssim"], "--metric of lite must be mse, got ms-ssim"),
        (["--quality", "3"], "--quality is for models of one rate, and lite has all of them"),
    ):
        with pytest.raises(SystemExit) as stop:
            parse_args(["-m", "lite", "-d", "images", *options])
        assert stop.value.code == 2
        assert problem in capsys.readouterr().err


def test_steps_of_training_draw_from_the_whole_scale() -> None:
    net = Lite(**SMALL)
    args = parse_args(["-m", "lite", "-d", "images"])
    levels = build_levels(net, args, seed=1)
    qualities = [level.arguments["quality"] for level in levels.levels]
    assert qualities == list(range(0, 101, 5))
    drawn = {levels.draw(0, step).arguments["quality"] for step in range(300)}
    assert drawn == set(qualities)
    x = torch.rand(1, 3, 64, 64)
    for level in levels.levels:
        out = net(x, **level.arguments)
        lmbda = net.lagrangian_multiplier(**level.arguments)
        plain = RateDistortionLoss(lmbda)(out, x)["loss"]
        # In the middle of the scale losses stay as they are.
        weight = (net.lagrangian_multiplier(quality=50) / lmbda) ** 0.5
        assert float(level.losses(out, x)["loss"].detach()) == pytest.approx(
            weight * float(plain.detach()), rel=1e-5
        )
