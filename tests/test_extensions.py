# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models outside of the library: named by the user, they go through every command and engine."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from program import alone_in, pixels, program, save_crops
from torch import nn

import compressai
import compressai.ans
import compressai.pillow
from compressai import extensions, zoo
from compressai.checkpoint import read_metadata, save_checkpoint
from compressai.models.channel_slice import ChannelSliceModel, build_slice_hyperprior
from compressai.registry import ENTRIES, MODELS

PACKAGE = Path(compressai.__file__).parent
EXAMPLE = Path(__file__).parents[1] / "examples" / "custom_channel_slice.py"
NAME = "my-slice-model"
SIZES = ("--model-args", "N=8", "M=16")

# As people write them who know CompressAI: a class and a name.
PLAIN = """
from torch import nn
from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs import (
    EntropyBottleneckLatentCodec, GaussianConditionalLatentCodec, HyperLatentCodec,
    HyperpriorLatentCodec,
)
from compressai.models import SimpleVAECompressionModel
from compressai.models.utils import conv, deconv
from compressai.registry import register_model

@register_model("peak")
class Peak(SimpleVAECompressionModel):
    def __init__(self, N=6, M=8):
        super().__init__()
        self.g_a = nn.Sequential(conv(3, N), nn.ReLU(), conv(N, N), nn.ReLU(), conv(N, M))
        self.g_s = nn.Sequential(deconv(M, N), nn.ReLU(), deconv(N, N), nn.ReLU(), deconv(N, 3))
        self.latent_codec = HyperpriorLatentCodec({
            "y": GaussianConditionalLatentCodec(),
            "hyper": HyperLatentCodec(
                EntropyBottleneck(N),
                h_a=nn.Sequential(conv(M, N), nn.ReLU(), conv(N, N)),
                h_s=nn.Sequential(deconv(N, N), nn.ReLU(), deconv(N, 2 * M)),
            ),
        })
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No module is named, and what a test registers is forgotten."""
    before = dict(ENTRIES), dict(MODELS), set(sys.modules)
    monkeypatch.setattr(extensions, "_named", {})
    monkeypatch.setattr(extensions, "_state", {"entry_points": False})
    monkeypatch.delenv(extensions.VARIABLE, raising=False)
    yield
    for table, old in zip((ENTRIES, MODELS), before[:2]):
        table.clear()
        table.update(old)
    for name in ("custom_channel_slice", "peak", "peak_module"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the program in a folder with a photo and images to train on."""
    with alone_in(tmp_path, monkeypatch):
        boxes = {"train/a.png": 40, "train/b.png": 90, "test/c.png": 60}
        save_crops({name: (x, 10, x + 64, 74) for name, x in boxes.items()})
        save_crops({"photo.png": (60, 20, 131, 73)})
        yield program(capsys)


TRAIN = ("-d", ".", "-e", 1, "-n", 0, "--batch-size", 1, "--patch-size", 64, 64)


def succeeds(result: tuple[int, str, str]) -> str:
    status, out, err = result
    assert status == 0, err
    return out


@pytest.mark.usefixtures("one_torch_thread")
def test_every_command_takes_the_model_of_the_example(run: Any) -> None:
    mine = ("--import", EXAMPLE)
    weights = ("--checkpoint", "checkpoint_best.safetensors")
    assert run("encode", "photo.png", "--model", NAME)[0] == 1
    succeeds(run(*mine, "train", "-m", NAME, *TRAIN, *SIZES))
    assert read_metadata(weights[1])["architecture"] == NAME
    succeeds(run(*mine, "encode", "photo.png", "-o", "p.cai", *weights, "--precision", "fp32"))
    assert json.loads(succeeds(run("info", "p.cai", "--json")))["model"] == NAME
    succeeds(run(*mine, "decode", "p.cai", "-o", "q.png", *weights))
    assert pixels("q.png").shape == (53, 71, 3)
    report = json.loads(succeeds(run(*mine, "eval", "test", *weights, "--json")))
    assert NAME in json.dumps(report)
    succeeds(run(*mine, "bench", "test/c.png", *weights, "--repeats", 1))
    told = json.loads(succeeds(run(*mine, "models", NAME, "--json")))["models"][0]
    assert (told["model"], told["qualities"]) == (NAME, [1, 8])
    assert told["paper"].startswith("GDN transforms")
    # Without weights, and by the environment.
    succeeds(run(*mine, "encode", "photo.png", "-o", "r.cai", "--model", NAME))
    succeeds(run(*mine, "decode", "r.cai", "-o", "r.png"))


@pytest.mark.slow
@pytest.mark.usefixtures("one_torch_thread")
def test_export_takes_it(run: Any) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    succeeds(run("--import", EXAMPLE, "export", "onnx", "--model", NAME, "--size", 64, 64))
    assert Path("onnx/g_a.onnx").exists()


@pytest.mark.usefixtures("one_torch_thread")
def test_a_class_with_a_name_is_enough(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("peak_module.py").write_text(PLAIN)
    monkeypatch.setenv(extensions.VARIABLE, f"{EXAMPLE}{os.pathsep}{Path('peak_module.py')}")
    succeeds(run("train", "-m", "peak", *TRAIN, "--save-dir", "out", "--quality", 2))
    weights = ("--checkpoint", "out/checkpoint_best.safetensors")
    # Three halvings and two: not what most models have.
    assert compressai.load(weights[1]).downsampling_factor == 32
    succeeds(run("encode", "photo.png", "-o", "p.cai", *weights))
    succeeds(run("decode", "p.cai", "-o", "q.png", *weights))
    assert pixels("q.png").shape == (53, 71, 3)
    assert {"peak", NAME} <= set(zoo.image_models)
    assert zoo.peak(3).identity.model == "peak"

    with Image.open("photo.png") as image:
        image.save("pillow.cai", checkpoint=weights[1])
    with Image.open("pillow.cai") as image:
        assert image.convert("RGB").size == (71, 53)


def test_only_what_the_user_names_is_imported(run: Any) -> None:
    Path("peak_module.py").write_text(PLAIN)
    extensions.import_models(["peak_module.py"])
    net = zoo.image_models["peak"](1)
    save_checkpoint("mine.safetensors", net, architecture="peak_module.Peak", arguments={"N": 6})
    for table in (ENTRIES, MODELS):
        del table["peak"]
    del sys.modules["peak_module"]
    status, _, err = run("encode", "photo.png", "--checkpoint", "mine.safetensors")
    assert status == 1
    assert "imported already" in err
    assert "peak_module" not in sys.modules


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("nowhere.py", None, "nowhere.py cannot be imported: there is no such file"),
        ("no.such.module", None, "no.such.module cannot be imported"),
        ("wrong.py", "1 / 0", "wrong.py cannot be imported: ZeroDivisionError"),
        ("json.py", "", "another module is called json: rename the file"),
    ],
)
def test_what_cannot_be_imported_is_an_error(
    run: Any, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        Path(name).write_text(text)
    status, _, err = run("--import", name, "models", "lite")
    assert status == 1
    assert message in " ".join(err.split())
    assert "wrong" not in sys.modules


def test_installed_packages_announce_their_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "peak_module.py").write_text(PLAIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    points = [
        importlib.metadata.EntryPoint(name, module, extensions.GROUP)
        for name, module in (("broken", "no_such_module"), ("mine", "peak_module:Peak"))
    ]
    asked = []
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: asked.append(group) or points
    )
    with pytest.warns(UserWarning, match="models of the package broken are not there"):
        extensions.load_extensions()
    extensions.load_extensions()
    assert asked == ["compressai.models"]
    assert "peak" in zoo.image_models
    assert extensions.named_modules() == ["peak_module"]


def test_coding_by_a_bundle_asks_no_installed_package(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    asked: list[str] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: asked.append(group) or [])
    Image.new("RGB", (64, 48), "teal").save("a.png")
    assert run("encode", "a.png", "a.cai")[0] == 0
    assert run("decode", "a.cai", "b.png")[0] == 0
    assert asked == []
    assert run("models", "--names")[0] == 0
    assert asked == [extensions.GROUP]


INSIDE = """
import sys
# The copy, and not what an editable install finds.
sys.meta_path[:] = [f for f in sys.meta_path if "Redirecting" not in type(f).__name__]
sys.path.insert(0, {folder!r})
import compressai
from compressai import zoo
from compressai.zoo.names import image_model_names
assert compressai.__file__.startswith({folder!r})
names = image_model_names()
assert "inside" in names and "inside" in zoo.__all__ and "torch" not in sys.modules
from compressai.models import Inside
from compressai import convert
from compressai.cli.models import markdown_table
from compressai.registry import ENTRIES, MODELS
assert MODELS["inside"] is Inside
assert list(zoo.image_models) == names and "inside" in zoo.models
assert zoo.inside(2).N == 9
assert zoo.image.cfgs["inside"][2] == {{"N": 9, "lmbda": 0.02}}
assert zoo.image.training_recipe("inside", 2) == {{"lmbda": 0.02}}
assert convert.sources()["inside"].model is Inside
assert "| `inside` | `Inside` | 2 |" in markdown_table()
assert zoo.weights.published_weights()["inside"]["mse"] == {{"2": "inside-2-01234567.pth"}}
assert zoo.weights.weights_status("inside", "mse", 2) == "published"
print("all views")
"""

INSIDE_MODEL = """
from compressai.models.base import CompressionModel
from compressai.registry import register_model

@register_model(
    "inside",
    summary="A model",
    sizes={2: {"N": 9}},
    losses={"mse": {2: {"lmbda": 0.02}}},
    weights={"mse": {"2": "inside-2-01234567.pth"}},
    source="inside",
)
class Inside(CompressionModel):
    def __init__(self, N=1):
        super().__init__()
        self.N = N
"""


def test_a_model_inside_needs_one_file_and_one_line(tmp_path: Path) -> None:
    """In a copy of the package, of links to its files."""
    copy = tmp_path / "compressai"
    shutil.copytree(PACKAGE, copy, copy_function=os.symlink)
    for module in Path(compressai.ans.__file__).parent.glob("*.so"):
        if not (copy / module.name).exists():
            os.symlink(module, copy / module.name)
    (copy / "models" / "inside.py").write_text(INSIDE_MODEL)
    imports = copy / "models" / "__init__.py"
    text = imports.read_text()
    imports.unlink()
    line = "from compressai.models.inside import Inside as Inside\n"
    imports.write_text(text.replace("\n__all__ = ", f"{line}\n__all__ = ", 1))
    done = subprocess.run(
        [sys.executable, "-c", INSIDE.format(folder=str(tmp_path))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "all views", done.stderr


# -- public hooks -------------------------------------------------------------------------------


class _Sliced(ChannelSliceModel):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.g_a = nn.Conv2d(3, 8, 4, stride=4)
        self.g_s = nn.ConvTranspose2d(8, 3, 4, stride=4)
        self.latent_codec = build_slice_hyperprior(
            z_channels=4,
            h_a=nn.Conv2d(8, 4, 2, stride=2),
            h_mean_s=nn.ConvTranspose2d(4, 8, 2, stride=2),
            h_scale_s=nn.ConvTranspose2d(4, 8, 2, stride=2),
            groups=[4, 4],
            side_channels=8,
            widths=(8,),
            emit_mean_support="pre",
        )


def test_auxiliary_model_is_not_forgotten_in_silence() -> None:
    net = _Sliced(use_cca=True, cca_hidden_channels=8, cca_num_layers=1)
    x = torch.rand(1, 3, 8, 16)
    with pytest.raises(RuntimeError, match=r"_Sliced must call self\.add_auxiliary\(\)"):
        net(x)
    net.add_auxiliary()
    assert set(net(x)["aux_likelihoods"]) == {"y_aux", "y_cca"}


def test_what_sides_must_be_multiples_of_is_read_off_the_layers() -> None:
    net = _Sliced().eval()
    assert net.downsampling_factor == 8
    with pytest.raises(ValueError, match="multiples of 8, got 12 x 16"):
        net.compress(torch.rand(1, 3, 12, 16))
    out = net.compress(torch.rand(1, 3, 8, 24))
    assert net.decompress(out["strings"], out["shape"])["x_hat"].shape == (1, 3, 8, 24)


def test_files_that_nothing_could_load_are_not_written(tmp_path: Path) -> None:
    MODELS["sliced"] = _Sliced
    target = tmp_path / "sliced.safetensors"
    with pytest.raises(ValueError, match=r"arguments must be those that _Sliced was built with"):
        save_checkpoint(target, _Sliced(), architecture="sliced", arguments={})
    assert not target.exists()
    arguments = {"use_cca": False}
    save_checkpoint(target, _Sliced(), architecture="sliced", arguments=arguments)
    assert isinstance(compressai.load(target), _Sliced)


def test_workers_of_ray_import_what_the_driver_did() -> None:
    engine = pytest.importorskip("compressai.cluster.engine")
    program = (
        "import sys\n"
        "from compressai.cluster.engine import _Actor\n"
        "from compressai import zoo\n"
        f"assert {NAME!r} not in zoo.image_models\n"
        f"actor = _Actor(lambda: zoo.image_models[{NAME!r}](None, N=8, M=16), 0, sys.argv[1:])\n"
        "print(type(actor.worker).__name__)\n"
    )
    extensions.import_models([str(EXAMPLE)])
    assert engine.named_modules() == [str(EXAMPLE)]
    done = subprocess.run(
        [sys.executable, "-c", program, *engine.named_modules()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "MySliceModel", done.stderr
