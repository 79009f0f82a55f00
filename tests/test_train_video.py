# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Training of video: the loss to the reference's numbers, log lines, checkpoints, resumption."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_nets import one_thread
from video_clips import PHOTO, load_example

import compressai
from compressai._weight_files import read_weights
from compressai.bitstream import decode_video, encode_video, open_video
from compressai.datasets import RawVideoSequence
from compressai.losses import VideoRateDistortionLoss

GOLDEN = json.loads((Path(__file__).parent / "golden" / "training_vectors.json").read_text())
train = load_example("train_video")


def ramp(shape, a, b, amp, off):
    n = torch.arange(math.prod(shape), dtype=torch.float64)
    return (off + amp * torch.sin(a * n + b)).float().reshape(shape)


def example():
    """The groups of frames that the reference numbers are of."""
    target = [ramp((2, 3, 8, 8), 0.37, 0.1 * i, 0.5, 0.5) for i in range(3)]
    x_hat = [ramp((2, 3, 8, 8), 0.37, 0.1 * i + 0.05, 0.5, 0.5) for i in range(3)]

    def fields(b):
        y = ramp((2, 2, 2, 2), 0.37, b, 0.4, 0.5)
        return {"y": y, "z": ramp((2, 1, 1, 1), 0.37, b, 0.4, 0.5)}

    likelihoods = [{"keyframe": fields(0)}]
    likelihoods += [{"motion": fields(i), "residual": fields(i + 1)} for i in (1, 2)]
    return {"x_hat": x_hat, "likelihoods": likelihoods}, target


# -- loss -----------------------------------------------------------------------------------------


def test_loss_equals_the_reference():
    expected = GOLDEN["video RateDistortionLoss (train_video)"]["out"]
    output, target = example()
    losses = VideoRateDistortionLoss(lmbda=0.02, return_details=True)(output, target)
    assert set(losses) == set(expected)
    for key, value in expected.items():
        assert losses[key].tolist() == pytest.approx(value, rel=1e-4, abs=1e-7), key
    assert set(output) == {"x_hat", "likelihoods"}


def test_details_are_left_out_unless_asked_for():
    output, target = example()
    losses = train.RateDistortionLoss(lmbda=0.02)(output, target)
    assert set(losses) == {"loss", "bpp_loss", "mse_loss", "distortion"}
    assert losses["loss"].item() == pytest.approx(
        (0.02 * losses["distortion"] + losses["bpp_loss"]).item()
    )
    ten = VideoRateDistortionLoss(lmbda=0.02, bitdepth=10)(output, target)
    assert ten["distortion"].item() == pytest.approx(ten["mse_loss"].item() * 1023**2)


def test_planes_of_different_size_count_alike():
    planes = (torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    wrong = (torch.ones(1, 1, 4, 4), *planes[1:])
    likelihoods = [{"keyframe": {"y": torch.full((1, 1, 1, 1), 0.5)}}]
    losses = VideoRateDistortionLoss(1.0)({"x_hat": [wrong], "likelihoods": likelihoods}, [planes])
    assert losses["mse_loss"].item() == pytest.approx(1 / 3)
    assert losses["bpp_loss"].item() == pytest.approx(1 / 16)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda out, target: (out, tuple(target)), AssertionError),
        (lambda out, target: (out, target[:2]), AssertionError),
        (lambda out, target: ({**out, "x_hat": []}, []), ValueError),
        (lambda out, target: (out, [t[0] for t in target]), ValueError),
        (lambda out, target: (out, [1, 2, 3]), ValueError),
        (lambda out, target: (out, [t[:, :2] for t in target]), RuntimeError),
        (lambda out, target: (out, [(t, t) for t in target]), RuntimeError),
        (
            lambda out, target: ({**out, "likelihoods": out["likelihoods"][:2]}, target),
            RuntimeError,
        ),
        (lambda out, target: ({**out, "likelihoods": [{}] * 3}, target), RuntimeError),
    ],
)
def test_frames_that_do_not_fit_are_errors(change, error):
    with pytest.raises(error):
        VideoRateDistortionLoss()(*change(*example()))


# -- program --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    photo = np.asarray(Image.open(PHOTO).convert("RGB"))
    for split, count in (("train", 2), ("test", 1)):
        names = [f"{split}/{i:04}" for i in range(count)]
        (root / f"{split}.list").write_text("\n".join(names))
        for i, name in enumerate(names):
            folder = root / "sequences" / name
            folder.mkdir(parents=True)
            for frame in range(3):
                left = 40 * i + 2 * frame
                crop = photo[10 : 10 + 130, left : left + 130]
                Image.fromarray(crop).save(folder / f"im{frame + 1}.png")
    return root


@pytest.fixture(autouse=True)
def _quick(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    state = torch.get_rng_state()
    with one_thread():
        yield
    torch.set_rng_state(state)


def run(clips, folder, *options):
    size = ["--patch-size", "128", "128", "--batch-size", "1", "-n", "0", "--seed", "1"]
    train.main(["-d", str(clips), "--save-dir", str(folder), *size, *options])


def test_run_prints_the_lines_that_scripts_expect(clips, tmp_path, capsys):
    run(clips, tmp_path, "-e", "1", "--no-save", "--log-file", "log.jsonl")
    number, bpp = r"\d+\.\d{3}", r"\d+\.\d\d"
    losses = rf"Loss: {number} \|\tMSE loss: {number} \|\tBpp loss: {bpp} \|\tAux loss: {bpp}"
    lines = (
        r"Learning rate: 0\.0001\n"
        rf"Train epoch 0: \[0/2 \(0%\)\]\t{losses}\n"
        rf"Test epoch 0: Average losses:\t{losses}\n\n"
    )
    assert re.fullmatch(lines, capsys.readouterr().out)
    events = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["train", "test"]
    assert "bpp_loss.motion.1.y" in events[0]
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.slow
def test_resumed_run_equals_one_that_never_stopped(clips, tmp_path, capsys):
    run(clips, tmp_path / "one", "-e", "2")
    checkpoint = tmp_path / "one" / "checkpoint.pth.tar"
    whole = read_weights(checkpoint).content
    keys = {"epoch", "state_dict", "loss", "optimizer", "aux_optimizer", "lr_scheduler"}
    assert keys <= set(whole)
    assert whole["epoch"] == 1

    run(clips, tmp_path / "two", "-e", "1")
    first = str(tmp_path / "two" / "checkpoint.pth.tar")
    capsys.readouterr()
    run(clips, tmp_path / "two", "-e", "2", "--checkpoint", first)
    assert f"Loading {first}" in capsys.readouterr().out
    again = read_weights(first).content
    assert float(again["loss"]) == float(whole["loss"])
    for name, value in whole["state_dict"].items():
        assert torch.equal(again["state_dict"][name], value), name


@pytest.mark.slow
def test_trained_model_codes_video(clips, tmp_path):
    run(clips, tmp_path, "-e", "1")
    net = compressai.load(tmp_path / "checkpoint_best.safetensors")
    noise = np.random.default_rng(0).integers(0, 256, 2 * 32 * 32 * 3 // 2, dtype=np.uint8)
    sequence = RawVideoSequence(noise, 32, 32, 8, "yuv420", 30)
    with open("a.cav", "wb") as file:
        encode_video(net, sequence, file, model="ssf2020")
    with open_video("a.cav") as video:
        assert len(list(decode_video(net, video))) == 2


def test_aux_losses_are_summed_and_go_back():
    parts = [torch.tensor(float(i), requires_grad=True) for i in (1, 2, 3)]
    losses = [part * 2 for part in parts]
    assert train.compute_aux_loss(losses).item() == 12
    assert parts[0].grad is None
    assert train.compute_aux_loss(losses, backward=True).item() == 12
    assert [part.grad.item() for part in parts] == [2, 2, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "-d/--dataset"),
        (["-d", "x", "-m", "mbt2018"], "invalid choice"),
        (["-d", "x", "--patch-size", "200", "128"], "multiples of 128"),
        (["-d", "x", "--lambda", "0"], "--lambda"),
    ],
)
def test_wrong_command_lines_end_with_status_2(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(options)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_what_is_missing_is_told(clips, tmp_path):
    with pytest.raises(SystemExit, match=r"train_video.py: .*train\.list"):
        run(tmp_path, tmp_path)
    (tmp_path / "train.list").touch()
    (tmp_path / "sequences").mkdir()
    with pytest.raises(SystemExit, match="no clips"):
        run(tmp_path, tmp_path)
    torch.save({"epoch": 1}, "bad.pth.tar")
    with pytest.raises(SystemExit, match="no training checkpoint"):
        run(clips, tmp_path, "--checkpoint", "bad.pth.tar")


def test_run_stops_before_weights_become_nan(clips, tmp_path):
    with pytest.raises(SystemExit, match=r"stopped, .* epoch 0.*last good checkpoint: none"):
        run(clips, tmp_path, "-e", "1", "-lr", "1e30")
    assert not list(tmp_path.glob("*.tar"))
