# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The model zoo: configurations, errors, local weights."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn as nn

import compressai.zoo.weights as weights_module
from compressai import models, zoo
from compressai.bitstream.legacy import MODEL_IDS
from compressai.zoo import image_models, load_state_dict
from compressai.zoo.image import LAMBDAS, _load_model, cfgs, entries
from compressai.zoo.pretrained import rename_key
from compressai.zoo.weights import load_weights, weights_folder

BASE = {
    "bmshj2018-factorized": (models.FactorizedPrior, 8),
    "bmshj2018-factorized-relu": (models.FactorizedPriorReLU, 8),
    "bmshj2018-hyperprior": (models.ScaleHyperprior, 8),
    "mbt2018-mean": (models.MeanScaleHyperprior, 8),
    "mbt2018": (models.JointAutoregressiveHierarchicalPriors, 8),
    "cheng2020-anchor": (models.Cheng2020Anchor, 6),
    "cheng2020-attn": (models.Cheng2020Attention, 6),
    "cheng2020-anchor-checkerboard": (models.Cheng2020AnchorCheckerboard, 6),
    "elic2022-official": (models.Elic2022Official, 8),
    "elic2022-chandelier": (models.Elic2022Chandelier, 8),
}


def test_order_of_the_first_models_is_that_of_the_old_file_format() -> None:
    assert tuple(image_models)[:10] == MODEL_IDS[:10]
    assert list(zoo.models)[: len(image_models)] == list(image_models)


@pytest.mark.parametrize("name", BASE)
def test_entry_builds_the_class_and_sizes_of_each_quality(name: str) -> None:
    cls, highest = BASE[name]
    for quality in (1, highest):
        with torch.device("meta"):
            net = image_models[name](quality)
        assert type(net) is cls
        assert cfgs[name][quality][0] == net.N
        assert getattr(net, "M", net.N) == cfgs[name][quality][-1]
    assert entries()[name].qualities == (1, highest)


@pytest.mark.parametrize("name", BASE)
@pytest.mark.parametrize(
    ("quality", "metric"),
    [(0, "mse"), (-1, "mse"), (10, "mse"), (1.5, "mse"), (1, "ssim"), (1, "m")],
)
def test_entry_refuses_bad_arguments(name: str, quality: float, metric: str) -> None:
    with pytest.raises(ValueError, match=r"quality|metric"):
        image_models[name](quality, metric)


def test_arguments_override_the_configuration() -> None:
    net = zoo.mbt2018_mean(3, N=8)
    assert (net.N, net.M) == (8, 192)
    with pytest.raises(TypeError):
        zoo.mbt2018_mean(3, unknown=1)
    with pytest.raises(TypeError, match="no use"):
        zoo.mbt2018_mean(3, pretrained=True, N=8)


def test_internal_loader_names_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="architecture"):
        _load_model("nothing", "mse", 1)
    with pytest.raises(ValueError, match="quality"):
        _load_model("mbt2018-mean", "mse", 0)


def test_multipliers_exist_for_every_quality() -> None:
    assert {metric: len(values) for metric, values in LAMBDAS.items()} == {"mse": 8, "ms-ssim": 8}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)
    return tmp_path


def test_missing_weights_say_where_to_put_them(home: Path) -> None:
    assert weights_folder() == home
    with pytest.raises(RuntimeError, match="COMPRESSAI_HOME"):
        zoo.mbt2018_mean(1, pretrained=True)
    with pytest.raises(RuntimeError, match="no weights were published"):
        zoo.elic2022_official(1, pretrained=True)


def _publish(home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[nn.Module, Path]:
    """Put the weights of a small model into the folder, as the published ones of quality 1."""
    torch.manual_seed(0)
    net = models.MeanScaleHyperprior(8, 12)
    torch.save({f"module.{k}": v for k, v in net.state_dict().items()}, home / "raw")
    digest = hashlib.sha256((home / "raw").read_bytes()).hexdigest()
    path = (home / "raw").rename(home / f"tiny-1-{digest[:8]}.pth.tar")
    names = {"mbt2018-mean": {"mse": {"1": path.name}}}
    monkeypatch.setattr(weights_module, "published_weights", lambda: names)
    return net, path


def test_weights_in_the_folder_are_loaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = _publish(home, monkeypatch)
    loaded = zoo.mbt2018_mean(1, pretrained=True)
    assert (loaded.N, loaded.M) == (8, 12)  # from the file, not from the configuration
    assert torch.equal(loaded.g_a[0].weight, net.g_a[0].weight)


def test_weights_are_fetched_from_a_mirror(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, path = _publish(home, monkeypatch)
    mirror = tmp_path_factory.mktemp("mirror")
    path.rename(mirror / path.name)
    monkeypatch.setenv("COMPRESSAI_WEIGHTS_URL", mirror.as_uri())
    loaded = zoo.mbt2018_mean(1, pretrained=True, progress=False)
    assert torch.equal(loaded.g_a[0].weight, net.g_a[0].weight)
    assert path.exists()


def test_damaged_weights_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = _publish(home, monkeypatch)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match="damaged"):
        zoo.mbt2018_mean(1, pretrained=True)
    path.rename(home / "tiny.pth")
    with pytest.raises(RuntimeError, match="renamed"):
        load_weights("tiny.pth")


def test_folder_defaults_to_the_cache_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESSAI_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert weights_folder() == Path("/somewhere/compressai")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights_folder() == Path.home() / ".cache" / "compressai"


def test_every_published_name_carries_its_hash() -> None:
    for metrics in weights_module.published_weights().values():
        for qualities in metrics.values():
            assert all(weights_module._HASH.search(name) for name in qualities.values())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("module.g_a.0.weight", "g_a.0.weight"),
        ("module.module.x", "module.x"),
        ("g_a.2.downsample.weight", "g_a.2.skip.weight"),
        ("layers.0.downsample.norm.weight", "layers.0.downsample.norm.weight"),
        ("entropy_bottleneck._biases.0", "entropy_bottleneck._bias0"),
        ("entropy_bottleneck._matrices.12", "entropy_bottleneck._matrix12"),
        ("a.entropy_bottleneck._factors.3", "a.entropy_bottleneck._factor3"),
        ("other._biases.0", "other._biases.0"),
    ],
)
def test_old_names_are_renamed(old: str, new: str) -> None:
    assert rename_key(old) == new


def test_state_dict_conversion_keeps_values() -> None:
    value = torch.rand(2)
    assert load_state_dict({"module.a.downsample.bias": value}) == {"a.skip.bias": value}


def test_zoo_imports_nothing_heavy() -> None:
    code = (
        "import sys, compressai, compressai.zoo;"
        "heavy = {'timm', 'matplotlib', 'typer', 'rich', 'pandas', 'scipy.stats', 'torch._dynamo'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
