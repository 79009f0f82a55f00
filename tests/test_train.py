# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``examples/train.py``: it learns, stops, resumes exactly, and says so in the expected words."""

from __future__ import annotations

import copy
import importlib.util
import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from program import save_crops
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision import transforms

import compressai
from compressai.checkpoint import read_metadata
from compressai.losses import CCARateDistortionLoss, RateDistortionLoss
from compressai.models import MeanScaleHyperprior
from compressai.training import (
    AverageMeter,
    NonFiniteLoss,
    RecordingBatchSampler,
    Reporter,
    check_finite,
    format_losses,
    keep_entropy_models_in_fp32,
    random_states,
    set_random_states,
)
from compressai.training.pictures import find_small

ROOT = Path(__file__).parent.parent
TINY = ["--model-args", "N=8", "M=12"]
FAST = ["-n", "0", "--batch-size", "2", "--patch-size", "64", "64"]
TRAIN_LINE = re.compile(
    r"Train epoch (\d+): \[(\d+)/(\d+) \((\d+)%\)\]\tLoss: (\d+\.\d{3}) \|\t"
    r"MSE loss: (\d+\.\d{3}) \|\tBpp loss: (\d+\.\d{2}) \|\tAux loss: (\d+\.\d{2})"
)
TEST_LINE = re.compile(
    r"Test epoch (\d+): Average losses:\tLoss: (\d+\.\d{3}) \|\t"
    r"MSE loss: (\d+\.\d{3}) \|\tBpp loss: (\d+\.\d{2}) \|\tAux loss: (\d+\.\d{2})\n\n"
)


def load_example():
    spec = importlib.util.spec_from_file_location("train", ROOT / "examples" / "train.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train = load_example()

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def photo():
    with Image.open(ROOT / "examples" / "assets" / "chelsea.png") as file:
        return file.convert("RGB")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A handful of crops of one photo."""
    root = tmp_path_factory.mktemp("pictures")
    for split, count in (("train", 5), ("test", 2)):
        save_crops(
            {
                root / split / f"{i}.png": (60 * i, 40 * i, 60 * i + 80, 40 * i + 72)
                for i in range(count)
            }
        )
    return root


def run(pictures, save_dir, *arguments):
    train.main(["-d", str(pictures), "--save-dir", str(save_dir), *TINY, *FAST, *arguments])


def records(path, event):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def state_of(save_dir, name="checkpoint.pth.tar"):
    return torch.load(save_dir / name, weights_only=True)


def assert_same(one, other, path="state"):
    """Bitwise equality of nested containers of tensors."""
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other)):
            assert_same(a, b, f"{path}[{i}]")
    elif torch.is_tensor(one):
        assert torch.equal(one, other), path
    else:
        assert one == other, path


def decoded_photo(net, photo):
    """The photo after compress and decompress, and what forward says it is."""
    x = torch.from_numpy(np.array(photo.crop((32, 32, 224, 160)))).permute(2, 0, 1)[None] / 255
    coded = net.compress(x)
    assert all(isinstance(string, bytes) for strings in coded["strings"] for string in strings)
    x_hat = net.decompress(coded["strings"], coded["shape"])["x_hat"]
    with torch.no_grad():
        return x, x_hat, net(x)["x_hat"].clamp(0, 1)


@pytest.mark.parametrize("model", ["bmshj2018-factorized", "mbt2018-mean"])
def test_loss_falls_and_the_checkpoint_codes_a_photo(pictures, photo, tmp_path, model):
    log = tmp_path / "log.jsonl"
    run(
        *(pictures, tmp_path / "run", "-m", model, "-e", "14", "--seed", "1"),
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
def test_models_with_slices_train_and_code(pictures, photo, tmp_path, model):
    sizes = [f"{name}={json.dumps(value)}" for name, value in TINY_SLICES[model].items()]
    options = ["-e", "1", *FAST, "--save-dir", str(tmp_path), "--model-args", *sizes]
    train.main(["-d", str(pictures), "-m", model, *options])
    net = compressai.load(tmp_path / "checkpoint_best.safetensors")
    assert (net.aux_entropy_model is not None) == (model == "cca")
    x = transforms.functional.to_tensor(photo)[None, :, :128, :128]
    coded = net.compress(x)
    with torch.no_grad():
        want = net(x)["x_hat"].clamp(0, 1)
    assert torch.equal(net.decompress(coded["strings"], coded["shape"])["x_hat"], want)


@pytest.mark.parametrize(
    ("options", "lmbda", "beta"),
    [
        ([], 0.01, 1.0),
        (["--quality", "1"], 0.0018, 1.0),
        (["-m", "tcm", "--quality", "2"], 0.0035, 1.0),
        (["-m", "cca", "--quality", "3"], 0.05, 0.85),
        (["-m", "cca", "--quality", "3", "--lambda", "0.1"], 0.1, 0.85),
    ],
)
def test_a_quality_brings_the_weights_of_its_loss(options, lmbda, beta):
    args = train.parse_args(["-d", "pictures", *options])
    assert (args.lmbda, args.beta) == (lmbda, beta)


def test_auxiliary_entropy_model_is_trained_by_its_own_loss():
    args = train.parse_args(["-d", "pictures", "-m", "cca", "--quality", "1"])
    plain, with_auxiliary = torch.nn.Module(), torch.nn.Module()
    with_auxiliary.aux_entropy_model = torch.nn.Identity()
    assert type(train.build_criterion(plain, args)) is RateDistortionLoss
    criterion = train.build_criterion(with_auxiliary, args)
    assert type(criterion) is CCARateDistortionLoss
    assert (criterion.lmbda, criterion.beta) == (0.05, 3.5)


@pytest.mark.parametrize("options", [[], ["-m", "mbt2018-mean", "--channels-last"]])
def test_resumed_run_equals_one_that_never_stopped(pictures, tmp_path, capsys, options):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    run(pictures, straight, "-e", "4", "--seed", "3", *options)
    lines = capsys.readouterr().out.splitlines()

    run(pictures, resumed, "-e", "2", "--seed", "3", *options)
    first = capsys.readouterr().out.splitlines()
    torch.manual_seed(77)
    random.seed(77)
    checkpoint = str(resumed / "checkpoint.pth.tar")
    run(pictures, resumed, "-e", "4", "--checkpoint", checkpoint, *options)
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


def test_checkpoints_have_the_documented_content(pictures, tmp_path):
    run(pictures, tmp_path, "-e", "1", "--lambda", "0.02", "--seed", "1")
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


def test_best_loss_survives_a_resume(pictures, tmp_path):
    run(pictures, tmp_path, "-e", "1", "--seed", "1")
    state = state_of(tmp_path)
    state["best_loss"] = -1.0
    torch.save(state, tmp_path / "checkpoint.pth.tar")
    best = (tmp_path / "checkpoint_best_loss.pth.tar").read_bytes()
    run(pictures, tmp_path, "-e", "2", "--checkpoint", str(tmp_path / "checkpoint.pth.tar"))
    assert state_of(tmp_path)["epoch"] == 1
    assert state_of(tmp_path)["best_loss"] == -1.0
    assert (tmp_path / "checkpoint_best_loss.pth.tar").read_bytes() == best


def test_classic_checkpoint_with_six_keys_can_be_resumed(pictures, tmp_path):
    run(pictures, tmp_path, "-e", "1", "--seed", "1")
    state = state_of(tmp_path)
    for key in ("best_loss", "random_states", "compressai"):
        del state[key]
    state["state_dict"] = {f"module.{key}": v for key, v in state["state_dict"].items()}
    torch.save(state, tmp_path / "classic.pth.tar")
    run(pictures, tmp_path, "-e", "2", "--checkpoint", str(tmp_path / "classic.pth.tar"))
    assert state_of(tmp_path)["epoch"] == 1


def test_resuming_from_something_else_stops_with_a_reason(pictures, tmp_path):
    run(pictures, tmp_path, "-e", "1", "--seed", "1")
    with pytest.raises(SystemExit, match="architecture 'bmshj2018-factorized'"):
        run(
            *(pictures, tmp_path, "-m", "mbt2018-mean"),
            *("--checkpoint", str(tmp_path / "checkpoint.pth.tar")),
        )
    with pytest.raises(SystemExit, match="no training checkpoint"):
        run(pictures, tmp_path, "--checkpoint", str(tmp_path / "checkpoint_best.safetensors"))
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    with pytest.raises(SystemExit, match="lacks"):
        run(pictures, tmp_path, "--checkpoint", str(tmp_path / "weights.pth"))


def test_non_finite_loss_stops_names_the_batch_and_keeps_the_checkpoint(pictures, tmp_path):
    run(pictures, tmp_path, "-e", "1", "--seed", "1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    log = tmp_path.with_name("log.jsonl")
    checkpoint = str(tmp_path / "checkpoint.pth.tar")
    with pytest.raises(SystemExit) as stopped:
        run(
            *(pictures, tmp_path, "-e", "3", "--checkpoint", checkpoint),
            *("--lambda", "1e38", "--log-file", str(log)),
        )
    message = str(stopped.value)
    assert stopped.value.code not in (0, None)
    assert "loss is inf in epoch 1, step 3, batch 0" in message
    assert len(re.findall(rf"{re.escape(str(pictures))}/train/\d\.png", message)) == 2
    assert checkpoint in message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert "epoch 1" in records(log, "stopped")[0]["reason"]


def test_no_save_writes_nothing(pictures, tmp_path):
    run(pictures, tmp_path / "run", "-e", "1", "--no-save")
    assert list(tmp_path.iterdir()) == []


def test_log_lines_have_the_binding_form(pictures, tmp_path, capsys):
    run(pictures, tmp_path, "-e", "2", "--seed", "1", "--batch-size", "3")
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "Learning rate: 0.0001"
    assert [m.group(1, 2, 3, 4) for m in TRAIN_LINE.finditer(out)] == [
        ("0", "0", "5", "0"),
        ("1", "0", "5", "0"),
    ]
    assert [m[1] for m in TEST_LINE.finditer(out)] == ["0", "1"]
    rest = TEST_LINE.sub("", TRAIN_LINE.sub("", out)).replace("Learning rate: 0.0001", "")
    assert rest.strip() == ""


def test_json_lines_agree_with_the_log_lines(pictures, tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    run(pictures, tmp_path, "-e", "2", "--seed", "1", "--log-file", str(log), "--batch-size", "1")
    out = capsys.readouterr().out
    for line, record in zip(TRAIN_LINE.finditer(out), records(log, "train"), strict=True):
        assert float(line[5]) == pytest.approx(record["loss"], abs=6e-4)
        assert record["step"] == 5 * record["epoch"] + record["batch"]
        assert record["learning_rate"] == 1e-4
    for line, record in zip(TEST_LINE.finditer(out), records(log, "test"), strict=True):
        assert float(line[2]) == pytest.approx(record["loss"], abs=6e-4)


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


def test_losses_are_listed_in_a_fixed_order():
    values = {"bpp_loss": 0.5, "aux_loss": 2.0, "ms_ssim_loss": 0.9876, "loss": 1.0}
    expected = "Loss: 1.000 |\tMS-SSIM: 0.9876 |\tBpp loss: 0.50 |\tAux loss: 2.00"
    assert format_losses(values) == expected


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


def test_bf16_trains_the_network_and_spares_the_entropy_models(pictures, tmp_path):
    log = tmp_path / "log.jsonl"
    run(
        *(pictures, tmp_path, "-m", "mbt2018-mean", "-e", "4", "--seed", "1", "-lr", "2e-3"),
        *("--precision", "bf16", "--log-file", str(log)),
    )
    losses = [record["loss"] for record in records(log, "test")]
    assert losses[-1] < losses[0]


def test_entropy_models_leave_the_autocast_region():
    net = MeanScaleHyperprior(4, 4)
    keep_entropy_models_in_fp32(net, "cpu")
    seen = []
    net.gaussian_conditional.register_forward_pre_hook(
        lambda module, args: seen.append((torch.is_autocast_enabled("cpu"), args[0].dtype))
    )
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.rand(1, 3, 64, 64))
        assert torch.is_autocast_enabled("cpu")
    assert seen == [(False, torch.float32)]
    assert out["x_hat"].dtype == torch.bfloat16
    assert {p.dtype for p in out["likelihoods"].values()} == {torch.float32}
    assert copy.deepcopy(net)(torch.rand(1, 3, 64, 64))["x_hat"].dtype == torch.float32


def test_clipping_bounds_the_step_of_the_network():
    def weight_change(clip_max_norm):
        torch.manual_seed(0)
        net = MeanScaleHyperprior(4, 4)
        before = [p.detach().clone() for p in net.parameters()]
        parameters = [p for name, p in net.named_parameters() if not name.endswith(".quantiles")]
        optimizer = torch.optim.SGD(parameters, lr=1.0)
        aux_optimizer = torch.optim.SGD(
            [p for name, p in net.named_parameters() if name.endswith(".quantiles")], lr=0
        )
        loader = DataLoader(torch.rand(1, 3, 64, 64))
        train.train_one_epoch(
            net, RateDistortionLoss(), loader, optimizer, aux_optimizer, 0, clip_max_norm
        )
        changes = [(a - b).square().sum() for a, b in zip(net.parameters(), before)]
        return float(sum(changes).sqrt().detach())

    assert weight_change(1e-3) == pytest.approx(1e-3, rel=1e-2)
    assert weight_change(0) > 1e-2


def test_batches_are_drawn_as_by_the_default_loader():
    data = list(range(7))

    def epochs(loader):
        torch.manual_seed(5)
        return [batch.tolist() for _ in range(2) for batch in loader]

    sampler = RecordingBatchSampler(RandomSampler(data), 2, drop_last=False)
    loader = DataLoader(data, batch_sampler=sampler)
    assert epochs(loader) == epochs(DataLoader(data, batch_size=2, shuffle=True))
    assert list(sampler.history) == epochs(loader)[4:]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_check_finite_names_items_of_datasets_without_files(value):
    data = list(range(5))
    sampler = RecordingBatchSampler(SequentialSampler(data), 2, drop_last=False)
    loader = DataLoader(data, batch_sampler=sampler)
    list(loader)
    with pytest.raises(NonFiniteLoss, match=r"epoch 2, step 7, batch 1 \(item 2, item 3\)"):
        check_finite(torch.tensor(value), "loss", 2, 1, loader)
    check_finite(torch.tensor(1.0), "loss", 2, 1, loader)


def test_random_states_continue_every_generator():
    def draw():
        return random.random(), float(np.random.rand()), torch.rand(3)  # noqa: NPY002

    states = random_states()
    first = draw()
    draw()
    set_random_states(states)
    assert_same(draw(), first)


def test_average_meter_is_a_running_mean():
    meter = AverageMeter()
    assert (meter.val, meter.avg, meter.sum, meter.count) == (0, 0, 0, 0)
    meter.update(1.0)
    meter.update(4.0, n=2)
    assert (meter.val, meter.avg, meter.sum, meter.count) == (4.0, 3.0, 9.0, 3)


def test_data_parallel_shows_the_methods_of_the_model():
    net = MeanScaleHyperprior(4, 4)
    wrapped = train.CustomDataParallel(net)
    assert torch.equal(wrapped.aux_loss(), net.aux_loss())
    assert wrapped.module is net
    with pytest.raises(AttributeError):
        _ = wrapped.no_such_thing


def test_optimizers_get_their_learning_rates():
    args = train.parse_args(["-d", "x", "-lr", "0.5", "--aux-learning-rate", "0.25"])
    optimizer, aux_optimizer = train.configure_optimizers(MeanScaleHyperprior(4, 4), args)
    assert optimizer.param_groups[0]["lr"] == 0.5
    assert aux_optimizer.param_groups[0]["lr"] == 0.25
    assert isinstance(aux_optimizer, torch.optim.Adam)


def test_defaults_are_those_of_the_interface():
    args = vars(train.parse_args(["-d", "pictures"]))
    assert args["dataset"] == "pictures"
    expected = {
        "model": "bmshj2018-factorized",
        "epochs": 100,
        "learning_rate": 1e-4,
        "num_workers": 4,
        "lmbda": 1e-2,
        "batch_size": 16,
        "test_batch_size": 64,
        "aux_learning_rate": 1e-3,
        "patch_size": (256, 256),
        "cuda": False,
        "save": True,
        "seed": None,
        "clip_max_norm": 1.0,
        "checkpoint": None,
        "quality": 3,
        "metric": "mse",
        "precision": "fp32",
        "channels_last": False,
    }
    assert {key: args[key] for key in expected} == expected


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


def test_folder_without_pictures_stops_with_a_reason(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
    with pytest.raises(SystemExit, match="no pictures"):
        run(tmp_path, tmp_path)


@pytest.mark.slow
def small_folder(root, sizes):
    for split in ("train", "test"):
        (root / split).mkdir(parents=True)
        for name, size in sizes.items():
            Image.effect_noise(size, 50).convert("RGB").save(root / split / name)
    return root


def test_pictures_smaller_than_the_crop_are_named_before_the_first_epoch(tmp_path, capsys):
    sizes = {f"{i}.png": (63, 200) for i in range(5)} | {"right.png": (64, 64)}
    root = small_folder(tmp_path / "p", sizes)
    with pytest.raises(SystemExit, match=r"train/0\.png has 63 x 200 pixels.* and 2 more.*64 x 64"):
        run(root, tmp_path / "run", "-e", "1")
    assert "Train epoch" not in capsys.readouterr().out


def test_smaller_pictures_of_the_test_are_told_and_headers_must_be_readable(tmp_path, capsys):
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


def test_crops_of_pictures_that_lie_on_their_side_are_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 60)).save(tmp_path / "a.jpg", exif=exif)
    assert find_small([tmp_path / "a.jpg"], (90, 50)) == ([], [])
    assert len(find_small([tmp_path / "a.jpg"], (50, 90))[0]) == 1


def test_seeded_run_draws_the_random_numbers_of_the_reference(tmp_path, capsys):
    """Rate and auxiliary loss of the reference log, which hardly depend on the picture.

    The picture of the reference run is not ours to ship. The auxiliary loss is fixed by the
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


def test_wrapper_of_a_plain_module_can_be_saved_as_training_state(tmp_path):
    train.save_checkpoint(
        {"state_dict": nn.Linear(1, 1).state_dict()}, True, tmp_path / "checkpoint.pth.tar"
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.pth.tar",
        "checkpoint_best_loss.pth.tar",
    }


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
