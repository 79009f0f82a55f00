# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``examples/train.py``: it learns, stops, resumes exactly, and says so in the expected words."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
import torch
from PIL import Image
from program import save_crops
from torchvision import transforms
from training_runs import (
    FAST,
    ROOT,
    TEST_LINE,
    TRAIN_LINE,
    assert_same,
    records,
    run,
    state_of,
    train,
)

import compressai
from compressai.checkpoint import read_metadata

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def photo():
    with Image.open(ROOT / "examples" / "assets" / "chelsea.png") as file:
        return file.convert("RGB")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A handful of crops of one photo."""
    root = tmp_path_factory.mktemp("images")
    for split, count in (("train", 5), ("test", 2)):
        save_crops(
            {
                root / split / f"{i}.png": (60 * i, 40 * i, 60 * i + 80, 40 * i + 72)
                for i in range(count)
            }
        )
    return root


def decoded_photo(net, photo):
    """The photo after compress and decompress, and what forward says it is."""
    x = torch.from_numpy(np.array(photo.crop((32, 32, 224, 160)))).permute(2, 0, 1)[None] / 255
    coded = net.compress(x)
    assert all(isinstance(string, bytes) for strings in coded["strings"] for string in strings)
    x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    with torch.no_grad():
        return x, x_hat, net(x)["x_hat"].clamp(0, 1)


@pytest.mark.parametrize("model", ["bmshj2018-factorized", "mbt2018-mean"])
def test_loss_falls_and_the_checkpoint_codes_a_photo(images, photo, tmp_path, model):
    log = tmp_path / "log.jsonl"
    run(
        *(images, tmp_path / "run", "-m", model, "-e", "14", "--seed", "1"),
        *("-lr", "2e-3", "--aux-learning-rate", "0.5", "--log-file", str(log)),
    )
    losses = [record["loss"] for record in records(log, "test")]
    assert min(losses) < 0.3 * losses[0]

    net = compressai.load(tmp_path / "run" / "checkpoint_best.safetensors")
    x, x_hat, forward = decoded_photo(net, photo)
    assert x_hat.shape == x.shape
    assert torch.allclose(x_hat, forward, atol=1e-5)
    torch.manual_seed(1)
    untrained = type(net)(8, 12).eval()
    assert (x_hat - x).square().mean() < 0.5 * (untrained(x)["x_hat"] - x).square().mean()


TINY_SLICES = {
    "stf": {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "num_slices": 4},
    "stf-wacnn": {"N": 16, "M": 32, "num_slices": 4},
    "tcm": {
        "N": 16,
        "M": 32,
        "config": [1, 1, 1, 1, 1, 1],
        "head_dim": [8, 8, 8, 8, 8, 8],
        "hyper_head_dim": 8,
        "hyper_channels": 8,
        "num_slices": 2,
    },
    "cca": {
        "latent_channels": 16,
        "hyper_channels": 8,
        "slice_proportions": [1, 3],
        "encoder_dims": [8, 8, 8],
        "encoder_layers": [1, 1, 1],
        "em_hidden_channels": 8,
        "em_num_layers": 1,
    },
}


@pytest.mark.parametrize("model", TINY_SLICES)
def test_models_with_slices_train_and_code(images, photo, tmp_path, model):
    sizes = [f"{name}={json.dumps(value)}" for name, value in TINY_SLICES[model].items()]
    options = ["-e", "1", *FAST, "--save-dir", str(tmp_path), "--model-args", *sizes]
    train.main(["-d", str(images), "-m", model, *options])
    net = compressai.load(tmp_path / "checkpoint_best.safetensors")
    assert (net.aux_entropy_model is not None) == (model == "cca")
    x = transforms.functional.to_tensor(photo)[None, :, :128, :128]
    coded = net.compress(x)
    with torch.no_grad():
        want = net(x)["x_hat"].clamp(0, 1)
    assert torch.equal(net.decompress(coded["strings"], coded["shape"])["x_hat"], want)


@pytest.mark.parametrize("options", [[], ["-m", "mbt2018-mean", "--channels-last"]])
def test_resumed_run_equals_one_that_never_stopped(images, tmp_path, capsys, options):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    run(images, straight, "-e", "4", "--seed", "3", *options)
    lines = capsys.readouterr().out.splitlines()

    run(images, resumed, "-e", "2", "--seed", "3", *options)
    first = capsys.readouterr().out.splitlines()
    torch.manual_seed(77)
    random.seed(77)
    checkpoint = str(resumed / "checkpoint.pth.tar")
    run(images, resumed, "-e", "4", "--checkpoint", checkpoint, *options)
    second = capsys.readouterr().out.splitlines()

    assert second[0] == f"Loading {checkpoint}"
    assert first + second[1:] == lines
    assert_same(state_of(straight), state_of(resumed))
    assert_same(
        safetensors_of(straight / "checkpoint_best.safetensors"),
        safetensors_of(resumed / "checkpoint_best.safetensors"),
    )


def safetensors_of(path):
    import safetensors.torch

    return safetensors.torch.load_file(path)


def test_checkpoints_have_the_documented_content(images, tmp_path):
    run(images, tmp_path, "-e", "1", "--lambda", "0.02", "--seed", "1")
    state = state_of(tmp_path)
    classic = {"epoch", "state_dict", "loss", "optimizer", "aux_optimizer", "lr_scheduler"}
    assert classic <= set(state)
    assert state["epoch"] == 0
    assert torch.is_tensor(state["loss"])
    assert state["loss"].dim() == 0
    assert_same(state, state_of(tmp_path, "checkpoint_best_loss.pth.tar"))

    metadata = read_metadata(tmp_path / "checkpoint_best.safetensors")
    assert metadata["architecture"] == "bmshj2018-factorized"
    assert metadata["arguments"] == {"N": 8, "M": 12}
    assert (metadata["lmbda"], metadata["metric"]) == (0.02, "mse")
    assert metadata["extra"]["epoch"] == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.pth.tar",
        "checkpoint_best_loss.pth.tar",
        "checkpoint_best.safetensors",
    }
    # The whole training checkpoint is a model file, too.
    for name in ("checkpoint.pth.tar", "checkpoint_best.safetensors"):
        loaded = compressai.load(tmp_path / name)
        assert torch.equal(loaded.g_a[0].weight, state["state_dict"]["g_a.0.weight"])


def test_best_loss_survives_a_resume(images, tmp_path):
    run(images, tmp_path, "-e", "1", "--seed", "1")
    state = state_of(tmp_path)
    state["best_loss"] = -1.0
    torch.save(state, tmp_path / "checkpoint.pth.tar")
    best = (tmp_path / "checkpoint_best_loss.pth.tar").read_bytes()
    run(images, tmp_path, "-e", "2", "--checkpoint", str(tmp_path / "checkpoint.pth.tar"))
    assert state_of(tmp_path)["epoch"] == 1
    assert state_of(tmp_path)["best_loss"] == -1.0
    assert (tmp_path / "checkpoint_best_loss.pth.tar").read_bytes() == best


def test_classic_checkpoint_with_six_keys_can_be_resumed(images, tmp_path):
    run(images, tmp_path, "-e", "1", "--seed", "1")
    state = state_of(tmp_path)
    for key in ("best_loss", "random_states", "compressai"):
        del state[key]
    state["state_dict"] = {f"module.{key}": v for key, v in state["state_dict"].items()}
    torch.save(state, tmp_path / "classic.pth.tar")
    run(images, tmp_path, "-e", "2", "--checkpoint", str(tmp_path / "classic.pth.tar"))
    assert state_of(tmp_path)["epoch"] == 1


def test_resuming_from_something_else_stops_with_a_reason(images, tmp_path):
    run(images, tmp_path, "-e", "1", "--seed", "1")
    with pytest.raises(SystemExit, match="architecture 'bmshj2018-factorized'"):
        run(
            *(images, tmp_path, "-m", "mbt2018-mean"),
            *("--checkpoint", str(tmp_path / "checkpoint.pth.tar")),
        )
    with pytest.raises(SystemExit, match="no training checkpoint"):
        run(images, tmp_path, "--checkpoint", str(tmp_path / "checkpoint_best.safetensors"))
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    with pytest.raises(SystemExit, match="lacks"):
        run(images, tmp_path, "--checkpoint", str(tmp_path / "weights.pth"))


def test_non_finite_loss_stops_names_the_batch_and_keeps_the_checkpoint(images, tmp_path):
    run(images, tmp_path, "-e", "1", "--seed", "1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    log = tmp_path.with_name("log.jsonl")
    checkpoint = str(tmp_path / "checkpoint.pth.tar")
    with pytest.raises(SystemExit) as stopped:
        run(
            *(images, tmp_path, "-e", "3", "--checkpoint", checkpoint),
            *("--lambda", "1e38", "--log-file", str(log)),
        )
    message = str(stopped.value)
    assert stopped.value.code not in (0, None)
    assert "loss is inf in epoch 1, step 3, batch 0" in message
    assert len(re.findall(rf"{re.escape(str(images))}/train/\d\.png", message)) == 2
    assert checkpoint in message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "epoch 1" in records(log, "stopped")[0]["reason"]


def test_no_save_writes_nothing(images, tmp_path):
    run(images, tmp_path / "run", "-e", "1", "--no-save")
    assert list(tmp_path.iterdir()) == []


def test_log_lines_have_the_binding_form(images, tmp_path, capsys):
    run(images, tmp_path, "-e", "2", "--seed", "1", "--batch-size", "3")
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Learning rate: 0.0001"
    assert [m.group(1, 2, 3, 4) for m in TRAIN_LINE.finditer(out)] == [
        ("0", "0", "5", "0"),
        ("1", "0", "5", "0"),
    ]
    assert [m[1] for m in TEST_LINE.finditer(out)] == ["0", "1"]
    rest = TEST_LINE.sub("", TRAIN_LINE.sub("", out)).replace("Learning rate: 0.0001", "")
    assert rest.strip() == ""


def test_json_lines_agree_with_the_log_lines(images, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    run(images, tmp_path, "-e", "2", "--seed", "1", "--log-file", str(log), "--batch-size", "1")
    out = capsys.readouterr().out
    for line, record in zip(TRAIN_LINE.finditer(out), records(log, "train"), strict=True):
        assert float(line[5]) == pytest.approx(record["loss"], abs=6e-4)
        assert record["step"] == 5 * record["epoch"] + record["batch"]
        assert record["learning_rate"] == 1e-4
    for line, record in zip(TEST_LINE.finditer(out), records(log, "test"), strict=True):
        assert float(line[2]) == pytest.approx(record["loss"], abs=6e-4)


def test_ms_ssim_can_be_trained_for(photo, tmp_path, capsys):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        photo.crop((0, 0, 192, 192)).save(tmp_path / split / "a.png")
    run(
        *(tmp_path, tmp_path, "-e", "1", "--seed", "1", "--metric", "ms-ssim"),
        *("--patch-size", "176", "176", "--lambda", "8.73"),
    )
    assert "MS-SSIM: 0." in capsys.readouterr().out
    assert read_metadata(tmp_path / "checkpoint_best.safetensors")["metric"] == "ms-ssim"


def test_bf16_trains_the_network_and_spares_the_entropy_models(images, tmp_path):
    log = tmp_path / "log.jsonl"
    run(
        *(images, tmp_path, "-m", "mbt2018-mean", "-e", "4", "--seed", "1", "-lr", "2e-3"),
        *("--precision", "bf16", "--log-file", str(log)),
    )
    losses = [record["loss"] for record in records(log, "test")]
    assert losses[-1] < losses[0]
