# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The wheel compressai-runtime, built and used where there is no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from PIL import Image

from compressai import decode, encode
from compressai.bitstream import parse_coded

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "packages" / "runtime"
PHOTO = ROOT / "examples" / "assets" / "chelsea.png"
# What pip would install with it, by the names of its folders and files.
NEEDED = (
    *("numpy", "numpy.libs", "PIL", "pillow.libs", "onnxruntime", "google", "google_crc32c"),
    *(
        "google_crc32c.libs",
        "platformdirs",
        "typer",
        "click",
        "pydantic",
        "pydantic_core",
        "annotated_types",
    ),
    *("annotated_doc", "typing_inspection", "typing_extensions.py", "rich", "markdown_it", "mdurl"),
    *("pygments", "shellingham", "flatbuffers", "packaging"),
)


def _project(path: Path) -> dict[str, object]:
    return tomllib.loads((path / "pyproject.toml").read_text())["project"]


def test_dependencies_are_those_of_the_library_without_torch() -> None:
    # Upper bounds are the runtime's own, for its size.
    ours, theirs = (
        {
            (line.name, str(part))
            for line in map(Requirement, _project(path)["dependencies"])
            for part in line.specifier
            if part.operator == ">="
        }
        for path in (PROJECT, ROOT)
    )
    assert ours <= theirs
    names = {name for name, _ in theirs - ours}
    assert names == {"torch", "torchvision", "scipy", "pytorch-msssim", "safetensors"}


def test_what_takes_much_space_is_bounded() -> None:
    bounds = {
        line.name: line.specifier
        for line in map(Requirement, _project(PROJECT)["dependencies"])
        if line.marker is None or line.marker.evaluate({"python_version": "3.12"})
    }
    assert "1.28.0" in bounds["onnxruntime"]
    assert "1.29.0" not in bounds["onnxruntime"]
    assert "0.28.0" in bounds["typer"]
    assert "0.29.0" not in bounds["typer"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("scikit_build_core")
    folder = tmp_path_factory.mktemp("runtime")
    # Without fetching anything: what builds is installed here.
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    options = [f"--config-settings=build-dir={folder / 'build'}", "--wheel-dir", folder, PROJECT]
    subprocess.run([*build, *options], check=True, capture_output=True, text=True)
    (built,) = folder.glob("compressai_runtime-*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, and without torch.

    Nothing is fetched: what the wheel needs is installed here.
    """
    pytest.importorskip("onnxruntime")
    environment = tmp_path_factory.mktemp("runtime") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    places = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", vars=places))
    with zipfile.ZipFile(wheel) as file:
        assert not any(name.endswith((".hpp", ".cpp")) for name in file.namelist())
        assert any(name.endswith("licenses/LICENSE") for name in file.namelist())
        file.extractall(packages)
    for name in NEEDED:
        source = Path(np.__file__).parents[1] / name
        if source.exists():
            (packages / name).symlink_to(source)
    return Path(sysconfig.get_path("scripts", "venv", vars=places)) / Path(sys.executable).name


def _run(python: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [python, *words], capture_output=True, text=True, cwd=python.parent, env=environment
    )


@pytest.mark.slow
def test_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 12e6


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing but what pip installs of the wheel, fetched."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    # Of the same places, and needed anyway; what can be fetched must do.
    probe = [*pip, "download", "--no-deps", "--dest", folder / "probe", "mdurl"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no index of packages can be reached")
    target = folder / "packages"
    done = subprocess.run(
        [*pip, "install", "--target", target, wheel], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.mark.slow
def test_installation_alone_is_small_and_codes(installed: Path, tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in installed.rglob("*") if path.is_file())
    assert 100e6 < size < 200e6
    # Without packages of the interpreter.
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\nfrom compressai.cli import main; main()"
    )
    alone = ("-S", "-c", program, installed)
    assert _run(Path(sys.executable), "-S", "-c", "import torch").returncode != 0
    coded, decoded = tmp_path / "photo.cai", tmp_path / "photo.png"
    for words in (("encode", PHOTO, coded), ("decode", coded, decoded)):
        done = _run(Path(sys.executable), *alone, *words)
        assert (done.returncode, "runtime" in done.stdout) == (0, True), (words, done.stderr)
    with Image.open(decoded) as image:
        assert image.size == (451, 300)


@pytest.mark.slow
def test_wheel_codes_without_torch(python: Path, tmp_path: Path) -> None:
    assert _run(python, "-c", "import torch").returncode != 0
    coded, decoded = tmp_path / "photo.cai", tmp_path / "photo.png"
    for words, said in (
        (("--version",), "compressai "),
        (("--help",), "Learned image compression"),
        (("models", "--names"), "mbt2018-mean"),
        (("encode", PHOTO, coded), "runtime"),
        (("info", coded), "lite"),
        (("decode", coded, decoded), "runtime"),
    ):
        done = _run(python, "-m", "compressai", *words)
        assert (done.returncode, said in done.stdout) == (0, True), (words, done.stderr)
    ours = np.asarray(Image.open(decoded), int)
    theirs = np.asarray(decode(coded.read_bytes()), int)
    assert (np.abs(ours - theirs) <= 1).mean() >= 0.9999
    program = (
        "import sys, compressai\n"
        "data = compressai.encode(sys.argv[1], quality=30)\n"
        "print(compressai.decode(data).size, 'torch' in sys.modules)"
    )
    done = _run(python, "-c", program, PHOTO)
    assert done.stdout == "(451, 300) False\n", done.stderr


@pytest.mark.slow
def test_files_of_other_weights_and_models_are_told_by_name(python: Path, tmp_path: Path) -> None:
    coded = parse_coded(encode(PHOTO))
    for changed, kind, said in (
        (replace(coded, fingerprint=bytes(8)), "WrongWeightsError", "with other weights of lite"),
        (replace(coded, model="mbt2018"), "WrongWeightsError", "no bundle of mbt2018 is at "),
        (replace(coded, model="other"), "WrongWeightsError", "no bundle of other is at "),
        (replace(coded, sync_safe=False), "UnsupportedFileError", "install torch"),
    ):
        (tmp_path / "a.cai").write_bytes(changed.to_bytes())
        done = _run(python, "-m", "compressai", "decode", tmp_path / "a.cai", tmp_path / "a.png")
        assert (done.returncode, said in done.stderr) == (1, True), done.stderr
        program = "import sys, compressai; compressai.decode(sys.argv[1])"
        error = _run(python, "-c", program, tmp_path / "a.cai").stderr.splitlines()[-1]
        assert kind in error
        assert said in error


@pytest.mark.slow
def test_what_needs_torch_says_so(python: Path) -> None:
    for words in (("encode", "--engine", "torch", PHOTO, "a.cai"), ("eval", PHOTO)):
        done = _run(python, "-m", "compressai", *words)
        assert (done.returncode, "this needs PyTorch" in done.stderr) == (1, True), done.stderr
