# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Authors' checkpoints: files, command lines, and the zoo that finds them."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from authors_layouts import ATTENTION_OF_TCM, authors_state_dict, net_of, original
from slice_nets import small_net
from torch import nn

import compressai
from compressai import zoo
from compressai.cli import main
from compressai.cli.convert import run_script
from compressai.convert import (
    Conversion,
    check_by_coding,
    convert_checkpoint,
    detect_source,
    install,
    other_lambda,
    save,
    smoke_image,
    sources,
)
from compressai.models import _state_dict, cca, tcm
from compressai.registry import ENTRIES
from compressai.zoo.image import LAMBDAS, cfgs, entries, model_architectures, training_recipe
from compressai.zoo.weights import weights_folder

# Of the others no program of the authors is known.
SOURCES = {
    name: entry.name
    for name, entry in sources().items()
    if name not in ("mlic", "mlicplus", "mlicv2")
}
EXAMPLES = Path(__file__).parents[1] / "examples"
T = torch.zeros(2)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "home"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _equal(a: nn.Module, b: nn.Module) -> bool:
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[k], other[k]) for k in mine)


# -- files --------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[nn.Module, Path]]:
    # What can be installed has the size of its quality; those of the tests are small.
    for name in SOURCES.values():
        entry = ENTRIES[name]
        small = {q: entry.small if sizes else {} for q, sizes in entry.sizes.items()}
        monkeypatch.setitem(ENTRIES, name, replace(entry, sizes=small))

    def make(source: str) -> tuple[nn.Module, Path]:
        net, weights = original(source)
        path = tmp_path / f"{source}.pth.tar"
        torch.save({"epoch": 7, "state_dict": weights, "optimizer": {"state": {}}}, path)
        return net, path

    return make


@pytest.mark.parametrize("source", SOURCES)
def test_checkpoint_files_are_recognised_and_checked(checkpoint, source: str) -> None:
    net, path = checkpoint(source)
    conversion = convert_checkpoint(path)
    assert (conversion.source, conversion.architecture) == (source, SOURCES[source])
    assert _equal(conversion.net, net)
    assert not conversion.net.training
    assert all(names for names in conversion.names.values())
    assert bool(conversion.added) == (source in ATTENTION_OF_TCM)
    summary = conversion.summary()
    assert sum(summary.values()) == conversion.entries_written
    if source in ("stf", "wacnn", "tcm", "cca", "dcae", "saaf"):
        assert ("lrp_transforms.*", "latent_codec.y.latent_codec.y*.lrp_transform") in summary
    check = check_by_coding(conversion.net)
    assert check.psnr > 0
    assert check.coded_bpp > 0
    assert min(check.y_bpp, check.z_bpp) > 0


def test_sources_are_recognised_by_native_names_too() -> None:
    for source in sources():
        expected = "mlicpp" if source == "mlicplus" else source
        assert detect_source(net_of(source).state_dict()) == expected
    with pytest.raises(ValueError, match="none of"):
        detect_source({"some.weight": T})


def test_weights_are_cleaned_once_on_their_way(checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = checkpoint("tcm")
    calls = {"unwrapped": 0, "converted": 0}
    unwrap, convert = _state_dict.unwrap_checkpoint, tcm.TCM.convert

    def count_unwrapped(content: Any) -> Any:
        calls["unwrapped"] += 1
        return unwrap(content)

    def count_converted(content: Any) -> Any:
        calls["converted"] += 1
        return convert(content)

    monkeypatch.setattr(_state_dict, "unwrap_checkpoint", count_unwrapped)
    monkeypatch.setattr(tcm.TCM, "convert", staticmethod(count_converted))
    convert_checkpoint(path)
    # Converted once more to tell what became of each name.
    assert calls == {"unwrapped": 1, "converted": 2}


def test_unknown_and_missing_entries_are_listed(tmp_path: Path) -> None:
    _, weights = original("wacnn")
    gone = "cc_mean_transforms.2.4.weight"
    del weights[gone]
    weights["something.else"] = T
    torch.save(weights, tmp_path / "broken.pth")
    with pytest.raises(ValueError, match=r"channel_context\.y2\.mean_cc\.4\.weight") as raised:
        convert_checkpoint(tmp_path / "broken.pth")
    assert "something.else" in str(raised.value)
    assert "broken.pth" in str(raised.value)


def test_wrong_sources_and_files_are_refused(checkpoint, tmp_path: Path) -> None:
    _, path = checkpoint("wacnn")
    with pytest.raises(ValueError, match="TCM"):
        convert_checkpoint(path, "tcm")
    with pytest.raises(ValueError, match="source must be one of"):
        convert_checkpoint(path, "elic")
    with pytest.raises(FileNotFoundError):
        convert_checkpoint(tmp_path / "nothing.pth")
    (tmp_path / "damaged.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(ValueError, match="damaged"):
        convert_checkpoint(tmp_path / "damaged.safetensors")


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('code was run')",))


def test_no_code_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    buffer = io.BytesIO()
    pickle.dump({"state_dict": {"g_a.0.weight": _Payload()}}, buffer, protocol=2)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="safely"):
        convert_checkpoint(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_converted_files_load_without_conversion(checkpoint, tmp_path: Path, suffix: str) -> None:
    net, path = checkpoint("cca")
    target = tmp_path / "deep" / f"ours{suffix}"
    save(convert_checkpoint(path), target, quality=2)
    architecture = {} if suffix == ".safetensors" else {"architecture": "cca"}
    loaded = compressai.load(target, **architecture)
    assert type(loaded) is cca.CCAModel
    x = smoke_image(64)
    assert torch.equal(loaded(x)["x_hat"], net(x)["x_hat"])
    if suffix == ".safetensors":
        metadata = compressai.checkpoint.read_metadata(target)
        assert metadata["lmbda"] == 0.05
        assert metadata["extra"] == {"converted_from": "cca", "quality": 2}


def test_self_check_notices_a_decoder_that_disagrees() -> None:
    net = small_net("cca")
    decompress = net.decompress
    net.decompress = lambda *args: {"x_hat": decompress(*args)["x_hat"] * 0.9}
    with pytest.raises(RuntimeError, match="differs"):
        check_by_coding(net)


# -- the zoo ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_installed_weights_are_pretrained_ones(checkpoint, source: str) -> None:
    net, path = checkpoint(source)
    entry = sources()[source]
    build = zoo.image_models[entry.name]
    other, quality = min(entry.sizes), max(entry.sizes)
    with pytest.raises(RuntimeError, match=f"compressai convert --from {source} --install") as told:
        build(quality=quality, pretrained=True)
    assert str(weights_folder()) in str(told.value)
    installed = install(convert_checkpoint(path), quality)
    assert installed.name.startswith(f"{entry.name}-mse-{quality}-")
    loaded = build(quality=quality, pretrained=True)
    assert loaded.identity.weights in installed.name
    assert (loaded.identity.model, loaded.identity.quality) == (entry.name, quality)
    assert _equal(loaded.eval(), compressai.load(installed))
    x = smoke_image(net.downsampling_factor)
    assert torch.equal(loaded(x)["x_hat"], net(x)["x_hat"])
    if other != quality:
        with pytest.raises(RuntimeError, match="not yet available"):
            build(quality=other, pretrained=True)
    if not entry.needs_quality:
        with pytest.raises(RuntimeError, match="without a quality"):
            build(pretrained=True)


def test_installed_weights_are_checked_and_replaced_only_on_demand(checkpoint) -> None:
    _, path = checkpoint("cca")
    conversion = convert_checkpoint(path)
    first = install(conversion, 1)
    assert install(conversion, 1) == first  # the same again
    with torch.no_grad():
        conversion.net.g_s.up[3].bias.add_(1)
    with pytest.raises(FileExistsError, match="overwrite"):
        install(conversion, 1)
    second = install(conversion, 1, overwrite=True)
    assert second != first
    note = second.with_name(f"{second.name}.sha256")
    assert sorted(second.parent.iterdir()) == [second, note]
    content = bytearray(second.read_bytes())
    content[-1] ^= 1
    second.write_bytes(content)
    with pytest.raises(RuntimeError, match="damaged"):
        zoo.cca(1, pretrained=True)
    second.with_name("cca-mse-1-00000000.safetensors").write_bytes(b"")
    with pytest.raises(RuntimeError, match="several"):
        zoo.cca(1, pretrained=True)
    with pytest.raises(ValueError, match="quality"):
        install(conversion, 9)


def test_weights_of_another_size_than_the_quality_has_are_not_installed(tmp_path: Path) -> None:
    conversion = Conversion("tcm", "tcm", small_net("tcm"), {}, ())
    with pytest.raises(ValueError, match=r"N=16 are not of quality 7 of tcm, which has N=128"):
        install(conversion, 7)
    assert not (tmp_path / "home").exists()


QUALITIES = {"stf": 6, "stf-wacnn": 4, "tcm": 7, "cca": 4}


@pytest.mark.parametrize("name", QUALITIES)
def test_zoo_entries_build_every_published_size(name: str) -> None:
    assert zoo.models[name] is zoo.image_models[name]
    entry = entries()[name]
    assert entry.qualities == (1, QUALITIES[name])
    with torch.device("meta"):
        default = zoo.models[name]()
        for quality in cfgs[name]:
            net = zoo.models[name](quality)
            assert type(net) is model_architectures[name] is type(default)
            recipe = training_recipe(name, quality)
            assert recipe == {
                key: cfgs[name][quality][key]
                for key in ("lmbda", "beta")
                if key in cfgs[name][quality]
            }
    assert (384 if name == "stf" else 320) == default.M
    for arguments in ({"quality": 0}, {"quality": 8}, {"quality": 1, "metric": "psnr"}):
        with pytest.raises(ValueError, match=r"quality|metric"):
            zoo.models[name](**arguments)
    with pytest.raises(TypeError, match="no use"):
        zoo.models[name](quality=1, pretrained=True, N=64)


def test_rate_points_are_the_published_ones() -> None:
    def values(name: str, key: str) -> list[float]:
        return [point[key] for point in cfgs[name].values()]

    assert values("stf", "lmbda") == [0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483]
    assert values("stf-wacnn", "lmbda") == [0.0018, 0.0035, 0.0067, 0.025]
    assert values("tcm", "lmbda") == [0.0025, 0.0035, 0.0067, 0.013, 0.025, 0.05, 0.05]
    assert values("tcm", "N") == [64] * 6 + [128]
    assert values("cca", "beta") == [3.5, 1.8, 0.85, 0.3]
    assert training_recipe("cca", 4) == {"lmbda": 0.05, "beta": 0.3}
    assert training_recipe("mbt2018", 2, "ms-ssim") == {"lmbda": LAMBDAS["ms-ssim"][1]}
    assert training_recipe("tcm", 2, "ms-ssim") == {}
    with pytest.raises(ValueError, match="metric"):
        training_recipe("tcm", 2, "psnr")


def test_arguments_override_the_rate_point() -> None:
    with torch.device("meta"):
        assert zoo.tcm(quality=3).N == 64
        assert zoo.tcm(quality=3, N=32).N == 32
        assert zoo.tcm().N == 128
        assert zoo.cca(1, cca_training=True).cca_training


# -- command lines ------------------------------------------------------------------------------


def _run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code or 0


@pytest.mark.parametrize(
    ("name", "quality", "said"),
    [
        ("tcm_0.0067_best.pth.tar", 3, ""),
        ("tcm_0.0067_best.pth.tar", 2, "quality 3"),
        ("lambda0.05.pth", 6, ""),
        ("lambda0.05.pth", 7, ""),
        ("lambda0.05.pth", 1, "quality 6 or 7"),
        ("lambda0.03.pth", 1, "lmbda 0.0025"),
        ("tcm_v1.2.pth", 1, ""),
        ("checkpoint_best.pth.tar", 1, ""),
    ],
)
def test_other_lambda_in_the_name_is_noted(name: str, quality: int, said: str) -> None:
    note = other_lambda(name, "tcm", quality)
    assert bool(note) == bool(said)
    assert said in note


def test_command_tells_the_lambda(checkpoint, tmp_path: Path, capsys) -> None:
    path = checkpoint("tcm")[1]
    named = path.with_name("tcm_0.0067.pth.tar")
    named.write_bytes(path.read_bytes())
    assert _run("convert", named, tmp_path / "a.safetensors", "-q", 3, "--json") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["lmbda"] == 0.0067
    assert "note" not in printed.err
    assert _run("convert", named, tmp_path / "b.safetensors", "-q", 2) == 0
    assert "that is quality 3" in capsys.readouterr().err


def test_command_writes_installs_and_reports(checkpoint, tmp_path: Path, capsys) -> None:
    net, path = checkpoint("tcm")
    target = tmp_path / "tcm.safetensors"
    assert _run("convert", path, target, "--install", "-q", 2) == 0
    printed = capsys.readouterr().out
    assert "msa.embedding_layer  ->" in printed
    assert "(added)" in printed
    assert f"parameters          {sum(p.numel() for p in net.parameters())}" in printed
    x = smoke_image(64)
    for loaded in (compressai.load(target), zoo.tcm(2, pretrained=True).eval()):
        assert torch.equal(loaded(x)["x_hat"], net(x)["x_hat"])

    assert _run("convert", path, target) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert _run("convert", "--from", "tcm", "--json", "--overwrite", path, target) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["from"] == report["model"] == "tcm"
    assert report["files"] == [str(target)]
    assert report["entries_read"] < report["entries_written"]


def test_command_refuses_what_makes_no_sense(checkpoint, tmp_path: Path, capsys) -> None:
    _, path = checkpoint("wacnn")
    assert _run("convert", path) == 2
    assert _run("convert", path, "--install") == 2
    assert _run("convert", "--from", "elic", path, tmp_path / "x.pth") == 1
    assert _run("convert", "--from", "cca", path, tmp_path / "x.pth") == 1
    assert "error" in capsys.readouterr().err
    assert not (tmp_path / "x.pth").exists()


@pytest.mark.parametrize("source", SOURCES)
def test_images_of_any_size_are_coded_with_converted_weights(
    checkpoint, tmp_path: Path, capsys, source: str
) -> None:
    _, path = checkpoint(source)
    weights = tmp_path / "ours.safetensors"
    assert _run("convert", path, weights) == 0
    sample, coded, decoded = (tmp_path / name for name in ("p.png", "p.cai", "q.png"))
    from torchvision.utils import save_image

    save_image(smoke_image(70)[..., :53], sample)
    capsys.readouterr()
    assert _run("encode", sample, "-o", coded, "--checkpoint", weights) == 0
    assert _run("decode", coded, "-o", decoded, "--checkpoint", weights) == 0
    out = capsys.readouterr().out
    assert f"{decoded}: 53 x 70" in out


@pytest.mark.parametrize("source", SOURCES)
def test_scripts_convert(checkpoint, tmp_path: Path, capsys, source: str) -> None:
    net, path = checkpoint(source)
    sources = ("stf", "wacnn") if source in ("stf", "wacnn") else (source,)
    target = tmp_path / "new" / "ours.pth"
    run_script("Convert.", sources, ["--src", str(path), "--dst", str(target), "--smoke"])
    printed = capsys.readouterr().out
    assert f"original keys: {len(authors_state_dict(source, net))}" in printed
    assert "PSNR" in printed
    weights = torch.load(target, weights_only=True)
    assert _equal(type(net).from_state_dict(weights), net)


def test_scripts_end_with_a_message(checkpoint, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="checkpoint not found"):
        run_script("Convert.", ("tcm",), ["--src", str(tmp_path / "nothing")])
    _, path = checkpoint("cca")
    with pytest.raises(SystemExit, match="is of cca"):
        run_script("Convert.", ("stf", "wacnn"), ["--src", str(path)])
    with pytest.raises(SystemExit, match="not of SymmetricalTransFormer"):
        run_script("Convert.", ("stf", "wacnn"), ["--src", str(path), "--arch", "stf"])
