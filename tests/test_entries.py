# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Every row of the zoo goes through the program, at the small size that it names for tests."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from program import alone_in, pixels, program, save_crops
from torch import nn

import compressai
from compressai import zoo
from compressai.bitstream import CodedImage, decode_image, encode_image, read_image
from compressai.checkpoint import read_metadata, save_checkpoint
from compressai.inference import prepare
from compressai.losses import RateDistortionLoss
from compressai.models import CompressionModel
from compressai.registry import ENTRIES, MODELS, ModelEntry, register_entry, register_model
from compressai.training.regularizers import add_regularizers

Run = Callable[..., tuple[int, str, str]]
IMAGES = {name: entry for name, entry in ENTRIES.items() if entry.in_zoo and not entry.video}
every = pytest.mark.parametrize("name", IMAGES)

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def small(name: str) -> nn.Module:
    """The model of a row at its small size, in evaluation mode."""
    entry = ENTRIES[name]
    torch.manual_seed(0)
    return entry.model(**{**entry.arguments, **entry.small}).eval()


def rate_of(name: str) -> float | None:
    """What files of a checkpoint tell of the quality: of models with a scale the number on it."""
    return IMAGES[name].default_quality if IMAGES[name].scale else None


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Checkpoints of small models: trained for two steps, unless they cannot be trained."""
    folder = tmp_path_factory.mktemp("trained")

    def make(name: str) -> Path:
        entry = ENTRIES[name]
        target = folder / name / "checkpoint_best.safetensors"
        if target.exists():
            return target
        if entry.completes:
            target.parent.mkdir()
            save_checkpoint(target, small(name), architecture=name, arguments={})
            return target
        side = max(64, entry.multiple)
        boxes = {"train/a.png": 40, "train/b.png": 90, "test/c.png": 60}
        save_crops({folder / f: (x, 10, x + side, 10 + side) for f, x in boxes.items()})
        sizes = [f"{key}={json.dumps(value)}" for key, value in entry.small.items()]
        options = ["-e", 1, "-n", 0, "--batch-size", 1, "--patch-size", side, side, "--seed", 1]
        with pytest.raises(SystemExit) as stop, contextlib.redirect_stdout(io.StringIO()):
            compressai_main("train", "-m", name, "-d", folder, "--save-dir", target.parent,
                            *options, "--model-args", *sizes)  # fmt: skip
        assert not stop.value.code
        return target

    return make


def compressai_main(*arguments: object) -> None:
    from compressai.cli import main

    main([str(argument) for argument in arguments])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the program in a folder with a photo of odd size."""
    with alone_in(tmp_path, monkeypatch):
        save_crops({"photo.png": (60, 20, 60 + 71, 20 + 53)})
        yield program(capsys)


@every
def test_program_trains_codes_and_lists_it(trained: Any, run: Run, name: str) -> None:
    checkpoint = trained(name)
    metadata = read_metadata(checkpoint)
    assert metadata["architecture"] == name

    for how in ("--sync-safe", "--plain"):
        options = ["-o", "p.cai", "--overwrite", "--precision", "fp32", "--json"]
        status, out, err = run("encode", "photo.png", how, "--checkpoint", checkpoint, *options)
        assert status == 0, err
        assert json.loads(out)["sync_safe"] == (how == "--sync-safe")
        status, _, err = run("decode", "p.cai", "--checkpoint", checkpoint, "-o", "q.png",
                             "--overwrite")  # fmt: skip
        assert status == 0, err
        assert pixels("q.png").shape == (53, 71, 3)
    facts = json.loads(run("info", "p.cai", "--json")[1])
    assert (facts["model"], facts["quality"]) == (name, rate_of(name))
    assert (facts["width"], facts["height"]) == (71, 53)


@every
def test_net_tells_files_who_it_is(trained: Any, run: Run, name: str) -> None:
    net = compressai.load(trained(name))
    sample = read_image("photo.png")
    coded = CodedImage.from_bytes(encode_image(net, sample).to_bytes())
    assert (coded.model, coded.quality, coded.random_weights) == (name, rate_of(name), False)
    decoded = decode_image(net, coded)
    assert decoded.pixels.shape == sample.pixels.shape
    prepared = prepare(net, "fp32")
    assert prepared.identity == net.identity
    again = decode_image(prepared, coded)
    assert float((again.pixels - decoded.pixels).abs().max()) < 1e-3


@every
def test_row_is_true(name: str) -> None:
    entry = ENTRIES[name]
    net = small(name)
    assert net.downsampling_factor == entry.multiple
    assert MODELS[name] is entry.model
    assert zoo.image_models[name] is getattr(zoo, entry.function)
    assert entry.summary
    assert entry.paper
    low, high = entry.qualities
    with torch.device("meta"):
        built = zoo.image_models[name](max(entry.points, default=high))
    assert isinstance(built, entry.model)
    assert built.identity.model == name
    assert built.identity.quality is None
    for metric, losses in entry.losses.items():
        assert metric in entry.metrics
        assert all(low <= quality <= high for quality in losses)
        assert all(weights["lmbda"] > 0 for weights in losses.values())
    # What the weights are of shows in them.
    rebuilt = entry.model.from_state_dict(net.state_dict())
    assert {key: value.shape for key, value in rebuilt.state_dict().items()} == {
        key: value.shape for key, value in net.state_dict().items()
    }
    if entry.detect is not None:
        found = [other for other, row in ENTRIES.items()
                 if row.detect is not None and row.detect(net.state_dict())]  # fmt: skip
        assert found == [name]


# Parameters that nothing depends on.
IDLE = {
    "mambaic": "cc_mean_transforms.0 cc_scale_transforms.0 scale_support_transforms.0",
}
LATEST = ("dcae", "saaf", "tcm-auxt", "mlic", "mlicplus", "mlicpp", "mlicv2")
LATEST += ("hpcm-base", "hpcm-large", "hpcm-phi", "hpcm-1b", "mambavc", "mambaic")


@pytest.mark.parametrize("name", LATEST)
def test_each_parameter_has_a_finite_gradient_in_two_steps_on_photos(name: str) -> None:
    net = small(name).train()
    photo = read_image(Path(__file__).parents[1] / "examples" / "assets" / "chelsea.png")
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
    criterion, side = RateDistortionLoss(lmbda=0.01), net.downsampling_factor
    for step in range(2):
        x = photo.pixels[None, :, 20 : 20 + side, 50 + 40 * step : 50 + 40 * step + side]
        optimizer.zero_grad()
        out = net(x)
        loss = add_regularizers(criterion(out, x), out, net)["loss"] + net.aux_loss()
        loss.backward()
        idle = IDLE.get(name, "").split()
        assert [
            key
            for key, parameter in net.named_parameters()
            if (parameter.grad is None or not parameter.grad.isfinite().all())
            and not any(part in key for part in idle)
        ] == []
        optimizer.step()
    assert all(bool(parameter.isfinite().all()) for parameter in net.parameters())


EXPORTED = ("tcm-auxt", "dcae", "saaf", "mlicpp", "mlicv2", "hpcm-base", "hpcm-1b")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPORTED)
def test_transforms_are_exported_for_one_size(tmp_path: Path, name: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from compressai.inference import export_onnx

    net = small(name)
    side = net.downsampling_factor
    exported = export_onnx(net, tmp_path, size=(side, side))
    x = torch.rand(1, 3, side, side)
    session = onnxruntime.InferenceSession(exported["g_a"].path)
    with torch.no_grad():
        np.testing.assert_allclose(session.run(["y"], {"x": x.numpy()})[0], net.g_a(x), atol=1e-4)


# -- rows ---------------------------------------------------------------------------------------


@pytest.fixture
def forgotten() -> Any:
    """Whatever a test registers is forgotten."""
    before = dict(ENTRIES), dict(MODELS)
    yield
    for table, old in zip((ENTRIES, MODELS), before):
        table.clear()
        table.update(old)


class _Fixed(CompressionModel):
    def __init__(self, N: int = 3) -> None:
        super().__init__()
        self.N = N


@pytest.mark.usefixtures("forgotten")
def test_later_rows_are_in_every_view() -> None:
    before = list(zoo.models)
    register_model("my-fixed", paper="Nobody 2026, Nothing", sizes={2: {"N": 7}})(_Fixed)
    assert list(zoo.models) == [*before[:-1], "my-fixed", before[-1]]
    assert "my-fixed" in zoo.image_models
    assert "my-fixed" not in zoo.video_models
    assert zoo.image.cfgs["my-fixed"] == {2: {"N": 7}}
    assert zoo.my_fixed(2).N == 7
    assert zoo.my_fixed().N == 3
    assert "Nobody 2026" in zoo.my_fixed.__doc__
    with pytest.raises(ValueError, match="quality must be between 2 and 2, got 1"):
        zoo.my_fixed(1)
    with pytest.raises(RuntimeError, match="no weights were published for my-fixed"):
        zoo.my_fixed(2, pretrained=True)
    register_entry(replace(ENTRIES["my-fixed"], sizes={1: {}}))
    assert zoo.my_fixed(1).N == 3


def test_views_take_other_functions_for_the_time_being(monkeypatch: pytest.MonkeyPatch) -> None:
    known = zoo.image_models["lite"]
    with monkeypatch.context() as patch:
        patch.setitem(zoo.image_models, "lite", print)
        assert zoo.image_models["lite"] is print
    assert zoo.image_models["lite"] is known
    assert zoo.image_models.get("nothing") is None
    assert "ssf2020" not in zoo.image_models
    assert len(zoo.image_models) == len(list(zoo.image_models))


@pytest.mark.usefixtures("forgotten")
def test_row_that_comes_back_has_the_same_function_in_all_views() -> None:
    known, entry = zoo.image_models["lite"], ENTRIES["lite"]
    register_entry(replace(entry, summary="Another"))
    assert zoo.models["lite"] is zoo.image_models["lite"] is not known
    register_entry(replace(entry, summary="A third"))
    assert zoo.models["lite"] is not known  # looked up in one view only
    register_entry(entry)
    assert zoo.models["lite"] is zoo.image_models["lite"] is known


@pytest.mark.usefixtures("forgotten")
def test_what_is_no_row_is_refused() -> None:
    with pytest.raises(TypeError, match="entry must be a ModelEntry, got dict"):
        register_entry({})
    with pytest.raises(ValueError, match="name of an entry must be"):
        register_entry(ModelEntry(name="", model=_Fixed))
    with pytest.raises(ValueError, match="model of x must be a class, got 'text'"):
        register_entry(ModelEntry(name="x", model="text"))
    with pytest.raises(TypeError, match="nonsense"):
        register_model("x", nonsense=1)(_Fixed)


def test_a_net_without_a_name_needs_one() -> None:
    net = ENTRIES["bmshj2018-factorized"].model(4, 6).eval()
    sample = read_image(Path(__file__).parents[1] / "examples" / "assets" / "chelsea.png")
    with pytest.raises(ValueError, match="model must be given for this FactorizedPrior"):
        encode_image(net, sample)
    named = zoo.bmshj2018_factorized(1, N=4, M=6).eval()
    with pytest.raises(ValueError, match="quality of this net is None, got 3"):
        encode_image(named, sample, quality=3)
    assert encode_image(named, sample).model == "bmshj2018-factorized"
