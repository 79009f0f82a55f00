# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The command line of ``examples/train.py``, what it says, and which images it takes."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from training_runs import (
    TEST_LINE,
    TRAIN_LINE,
    run,
    train,
)

from compressai.losses import RateDistortionLoss
from compressai.models import MeanScaleHyperprior
from compressai.training import Reporter, report
from compressai.training.images import find_small

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def test_every_tenth_batch_is_reported(tmp_path, capsys):
    net = MeanScaleHyperprior(4, 4)
    loader = DataLoader(torch.rand(21, 3, 64, 64), batch_size=1)
    args = train.parse_args(["-d", "x"])
    train.train_one_epoch(
        net, RateDistortionLoss(), loader, *train.configure_optimizers(net, args), 5, 1.0
    )
    found = [m.group(1, 2, 3, 4) for m in TRAIN_LINE.finditer(capsys.readouterr().out)]
    assert found == [("5", "0", "21", "0"), ("5", "10", "21", "48"), ("5", "20", "21", "95")]


def test_terminal_gets_a_bar_instead_of_train_lines(capsys):
    reporter = Reporter(terminal=True)
    with reporter.bar("epoch 0", 2):
        reporter.line("Train epoch 0: ...", bar_instead=True)
        reporter.advance({"loss": 1.0, "bpp_loss": 0.5})
        reporter.advance()
    reporter.line("Test epoch 0: ...")
    out = capsys.readouterr().out
    assert "Train epoch" not in out
    assert "Test epoch 0" in out
    assert "epoch 0" in out.split("Test")[0]


def test_bar_tells_decibels_and_when_the_run_ends(capsys, monkeypatch):
    clock = iter([0.0, 3600.0, 7260.0])
    monkeypatch.setattr(report.time, "monotonic", lambda: next(clock))
    monkeypatch.setenv("COLUMNS", "200")
    reporter = Reporter(terminal=True)
    values = {"loss": 1.0, "mse_loss": 1e-3, "bpp_loss": 0.5}
    reporter.plan(3)
    for epoch in range(2):
        task = SimpleNamespace(completed=2, total=4)
        monkeypatch.setattr(reporter, "_progress", SimpleNamespace(tasks=[task]))
        assert reporter._numbers(values) == (
            f"Loss: 1.000 | Bpp 0.50 | 30.00 dB | run ends in {('5 h 0 min', '2 h 1 min')[epoch]}"
        )
        reporter._finished += 1
    reporter._epochs = None
    assert reporter._numbers({"loss": 1.0, "mse_loss": 0.0}) == "Loss: 1.000"
    assert [report._duration(s) for s in (-1, 61, 90000)] == ["0 min", "2 min", "1 d 1 h"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-d", "x", "-m", "no-such-model"],
        ["-d", "x", "--metric", "psnr"],
        ["-d", "x", "--precision", "fp16"],
        ["-d", "x", "--model-args", "N"],
        ["-d", "x", "--lambda", "inf"],
        ["-d", "x", "--metric", "ms-ssim", "--patch-size", "128", "256"],
    ],
)
def test_bad_command_line_exits_with_usage(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.parse_args(arguments)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_folder_without_images_stops_with_a_reason(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    with pytest.raises(SystemExit, match="no images"):
        run(tmp_path, tmp_path)


def small_folder(root, sizes):
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for name, size in sizes.items():
            Image.effect_noise(size, 50).convert("RGB").save(root / split / name)
    return root


def test_images_smaller_than_the_crop_are_named_before_the_first_epoch(tmp_path, capsys):
    sizes = {f"{i}.png": (63, 200) for i in range(5)} | {"right.png": (64, 64)}
    root = small_folder(tmp_path / "p", sizes)
    with pytest.raises(SystemExit, match=r"train/0\.png has 63 x 200 pixels.* and 2 more.*64 x 64"):
        run(root, tmp_path / "run", "-e", "1")
    assert "Train epoch" not in capsys.readouterr().out


def test_smaller_images_of_the_test_are_told_and_headers_must_be_readable(tmp_path, capsys):
    root = small_folder(tmp_path / "p", {"a.png": (64, 64), "b.png": (80, 64)})
    Image.new("RGB", (40, 90)).save(root / "test" / "small.png")
    for split in ("train", "test"):
        (root / split / ".DS_Store").write_bytes(b"Bud1")
    run(root, tmp_path / "run", "-e", "1", "--test-batch-size", "1")
    assert re.search(r"black.*64 x 64: .*small\.png has 40 x 90", capsys.readouterr().out)
    for split in ("train", "test"):
        damaged = root / split / "bad.png"
        damaged.write_bytes((root / "train" / "a.png").read_bytes()[:20])
        with pytest.raises(SystemExit, match=r"bad\.png is damaged"):
            run(root, tmp_path / "run", "-e", "1")
        damaged.unlink()


def test_crops_of_images_that_lie_on_their_side_are_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg", exif=exif)
    assert find_small([tmp_path / "a.jpg"], (90, 50)) == ([], [])
    assert len(find_small([tmp_path / "a.jpg"], (50, 90))[0]) == 1


def test_seeded_run_draws_the_random_numbers_of_the_reference(tmp_path, capsys):
    """Rate and auxiliary loss of the reference log, which hardly depend on the image.

    The image of the reference run is not ours to ship. The auxiliary loss is fixed by the
    initial densities: over seeds it varies by several units, against the 0.05 allowed here.
    """
    y, x = np.mgrid[:50, :215]
    rows = np.stack([x * 1.2, y * 5, (x + y) * 3, np.full(x.shape, 255)], -1) % 256
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        Image.fromarray(rows.astype(np.uint8)).save(tmp_path / split / "a.png")
    train.main(
        [
            *("-d", str(tmp_path), "--save-dir", str(tmp_path), "-e", "3", "--batch-size", "1"),
            *("--patch-size", "48", "128", "--seed", "42", "-n", "2"),
        ]
    )
    out = capsys.readouterr().out
    lines = list(zip(TRAIN_LINE.finditer(out), TEST_LINE.finditer(out), strict=True))
    reference = [(7920.82, 7920.77), (7920.41, 7920.35), (7919.99, 7919.94)]
    for (line, test_line), (aux, test_aux) in zip(lines, reference, strict=True):
        assert (line[7], test_line[4]) == ("4.06", "4.06")
        assert float(line[8]) == pytest.approx(aux, abs=0.05)
        assert float(test_line[5]) == pytest.approx(test_aux, abs=0.05)


@pytest.mark.parametrize(
    ("options", "status"), [(["--help"], 0), ([], 2), (["-d", "x", "--nonsense", "1"], 2)]
)
def test_program_has_the_options_of_the_example(options, status, capsys):
    from compressai.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["train", *options])
    assert stopped.value.code == status
    said = capsys.readouterr()
    assert "usage: compressai train" in said.out + said.err
    assert "--accumulate" in said.out + said.err
