# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Builds the page into a folder: ``make web``.

Nothing that is fetched or built is committed. onnxruntime-web comes from npm in the version and
with the hash that ``pinned.json`` names; the decoder is compiled by emscripten, which Debian
packages; models are bundles that are at hand, see ``docs/bundle.md``, or files that are named.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from compressai.bitstream import encode_image, read_image, write_coded
from compressai.runtime import Bundle, RuntimeModel, installed_bundle

ROOT = Path(__file__).resolve().parents[1]
WEB, BUILD = ROOT / "web", ROOT / "build"
STATIC = ("index.html", "demo.html", "style.css", "licences.txt")
DEFAULT_MODELS = ("lite",)


def tool(name: str, package: str) -> str:
    """A program of this environment or the system."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is missing: apt-get install {package}")
    return found


def fetch_package(name: str, wanted: dict[str, object], into: Path) -> None:
    """Files of a package of npm, if it is the one that is pinned."""
    folder = BUILD / "npm"
    archive = folder / f"{name}-{wanted['version']}.tgz"
    if not archive.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [tool("npm", "npm"), "pack", f"{name}@{wanted['version']}", "--silent"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
    content = archive.read_bytes()
    digest = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if digest != wanted["integrity"]:
        archive.unlink()
        raise SystemExit(f"{name} {wanted['version']} is not the package that is pinned: {digest}")
    into.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as package:
        for member in wanted["files"]:
            source = package.extractfile(f"package/{member}")
            (into / Path(member).name).write_bytes(source.read())


def compile_decoder() -> Path:
    """The C library as WebAssembly."""
    folder = BUILD / "wasm"
    # The optimiser of Debian's emscripten finds its modules only there. Launchers of compilers are
    # for those of this machine.
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_COMPILER_LAUNCHER")}
    environment["NODE_PATH"] = "/usr/share/nodejs"
    cmake = tool("cmake", "cmake")
    configure = [tool("emcmake", "emscripten"), cmake, "-G", "Ninja"]
    configure += ["-S", str(ROOT / "compressai/cpp_exts"), "-B", str(folder)]
    configure += [f"-DCMAKE_MAKE_PROGRAM={tool('ninja', 'ninja-build')}"]
    configure += ["-DCOMPRESSAI_CAI=ON", "-DCOMPRESSAI_PYTHON=OFF"]
    for command in (configure, [cmake, "--build", str(folder)]):
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
    return folder / "cai/cai.wasm"


def bundle_of(name: str) -> Bundle:
    """The bundle that a name stands for.

    Args:
        name: a file; or a model, and a quality if there is a bundle for each: ``mbt2018-mean:2``.
    """
    if name.endswith(".caibundle"):
        return Bundle.read(name)
    model, _, quality = name.partition(":")
    found = installed_bundle(model, int(quality) if quality else None, "mse")
    if found is None:
        raise SystemExit(
            f"there is no bundle of {name}: write one with compressai export --bundle FILE, and "
            "name the file"
        )
    return found.bundle


def write_models(bundles: list[Bundle], into: Path) -> None:
    """Bundles, and a list of them."""
    into.mkdir(parents=True, exist_ok=True)
    entries = []
    for bundle in bundles:
        manifest = bundle.manifest
        model, fingerprint = manifest["model"], manifest["fingerprints"]["2"]
        rate = manifest.get("rate")
        file = f"{model}-{fingerprint}.caibundle"
        bundle.write(into / file)
        entries.append(
            {
                "file": file,
                "model": model,
                "quality": manifest["quality"],
                "rate": rate
                and {
                    **{key: rate[key] for key in ("low", "high", "default")},
                    "whole": "whole" in rate,
                },
                "fingerprint": fingerprint,
                # One family is enough to code with.
                "encodes": model == bundles[0].manifest["model"],
            }
        )
    (into / "models.json").write_text(json.dumps(entries, indent=1) + "\n")


def encode_demo(bundle: Bundle, path: Path) -> None:
    """The demo photo as a coded image."""
    image = read_image(ROOT / "examples/assets/chelsea.png", as_array=True)
    write_coded(encode_image(RuntimeModel(bundle), image), path)


def write_service_worker(out: Path) -> None:
    """The service worker, which knows all files and a hash of them."""
    files = sorted(path for path in out.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(out).as_posix().encode() + b"\0" + path.read_bytes())
    names = ["./", *(path.relative_to(out).as_posix() for path in files)]
    text = (WEB / "src/service-worker.js").read_text()
    text = text.replace("@VERSION@", digest.hexdigest()[:16])
    (out / "service-worker.js").write_text(text.replace('["@FILES@"]', json.dumps(names)))


def build(out: Path, models: list[str]) -> None:
    """Build the page.

    Args:
        out: folder; replaced when all else is done.
        models: see :func:`bundle_of`; the first family codes, too.
    """
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "web.lock").open("w") as lock:  # such as tests in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build(out, models)


def _build(out: Path, models: list[str]) -> None:
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in STATIC:
        shutil.copy(WEB / name, unfinished)
    for path in (WEB / "src").glob("*.js"):
        if path.name != "service-worker.js":
            shutil.copy(path, unfinished)
    for name, wanted in json.loads((WEB / "pinned.json").read_text()).items():
        fetch_package(name, wanted, unfinished / "ort")
    shutil.copy(compile_decoder(), unfinished / "cai.wasm")
    bundles = [bundle_of(name) for name in models]
    write_models(bundles, unfinished / "models")
    encode_demo(bundles[-1], unfinished / "demo.cai")
    write_service_worker(unfinished)
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=WEB / "dist")
    parser.add_argument(
        "--models",
        nargs="+",
        default=DEFAULT_MODELS,
        metavar="MODEL",
        help="bundles: files, or names such as lite, or mbt2018-mean:2 for one quality; the first "
        f"family codes, too (default: {' '.join(DEFAULT_MODELS)})",
    )
    arguments = parser.parse_args()
    build(arguments.out, arguments.models)
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{arguments.out}: {size / 1e6:.1f} MB", "for example:", sep="\n")
    print(f"python -m http.server --directory {arguments.out}")


if __name__ == "__main__":
    main()
