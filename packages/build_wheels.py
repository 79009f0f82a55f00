# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Build wheels for Linux that run on old systems, on any Linux, with a compiler from the index.

``ziglang`` is a C++ compiler in a Python package, which links for the glibc of one's choice and
puts the C++ library into what it makes: no container is needed. ``auditwheel`` then says from which
system on a wheel runs. From Python 3.12 on, one wheel serves all versions (stable ABI); 3.10 and
3.11 have one each. No wheel brings an OpenMP library: kernels use the one of torch::

    python packages/build_wheels.py --python python3.11 --python python3.12 --output dist

Needs uv. The release workflow (.github/workflows/release.yml) builds for other systems, too.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["build", "main", "problems"]

ROOT = Path(__file__).parents[1]
PROJECTS = {"library": ROOT, "runtime": ROOT / "packages" / "runtime"}
# That of torch and onnxruntime, without which there is little to do.
GLIBC = "2.28"
# Of the system, and there on every Linux that has such a glibc.
_OURS = frozenset({"libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1"})
_LOADER = "ld-linux"
# A program of its own is needed, since build systems want one path for a compiler.
_WRAPPER = '#!/bin/sh\nexec {python} -m ziglang {words} "$@"\n'


def _environment(python: str, folder: Path, uv: str) -> Path:
    """The interpreter of an environment with what builds, known by hashes."""
    environment = folder / "environment"
    if not (environment / "bin" / "python").exists():
        subprocess.run([python, "-m", "venv", "--without-pip", environment], check=True)
    lock = ROOT / "packages" / "wheels.lock"
    command = [uv, "pip", "sync", "--quiet", "--require-hashes", lock]
    subprocess.run(command, check=True, env={**os.environ, "VIRTUAL_ENV": str(environment)})
    return environment / "bin" / "python"


def _compilers(python: Path, folder: Path, target: str) -> dict[str, Path]:
    """Programs that compile, link and archive for a target, such as ``x86_64-linux-gnu.2.28``."""
    folder.mkdir(parents=True, exist_ok=True)
    programs = {}
    for name, words in {
        "cc": f"cc -target {target} -fno-sanitize=all",
        "c++": f"c++ -target {target} -fno-sanitize=all",
        "ar": "ar",
        "ranlib": "ranlib",
    }.items():
        path = folder / f"zig-{name}"
        path.write_text(_WRAPPER.format(python=shlex.quote(str(python)), words=words))
        path.chmod(0o755)
        programs[name] = path
    return programs


def build(project: Path, python: str, output: Path, work: Path, uv: str) -> Path:
    """Build and repair the wheel of one project for one Python.

    Args:
        project: folder with a pyproject.toml.
        python: name or path of the interpreter to build for.
        output: folder for the wheel.
        work: folder for what is made on the way; kept, so that the next build is quick.
        uv: path of uv.

    Returns:
        The wheel.

    Raises:
        subprocess.CalledProcessError: a tool failed; its output has been shown.
    """
    machine = os.uname().machine
    interpreter = _environment(python, work, uv)
    tools = _compilers(interpreter, work / "tools", f"{machine}-linux-gnu.{GLIBC}")
    raw = work / "raw" / project.name
    shutil.rmtree(raw, ignore_errors=True)
    environment = {
        **{key: value for key, value in os.environ.items() if not key.endswith("_LAUNCHER")},
        "VIRTUAL_ENV": str(interpreter.parents[1]),
        "PATH": os.pathsep.join([str(interpreter.parent), os.environ["PATH"]]),
        "CC": str(tools["cc"]),
        "CXX": str(tools["c++"]),
        # nanobind uses what other C++ libraries declare by the way: cstdio.
        "CMAKE_ARGS": f"-DCMAKE_CXX_FLAGS=-includecstdio -DCMAKE_AR={tools['ar']} "
        f"-DCMAKE_RANLIB={tools['ranlib']}",
    }
    options = ["--wheel", "--no-build-isolation", "--python", interpreter, "--out-dir", raw]
    folder = f"--config-setting=build-dir={work / 'build' / project.name}"
    subprocess.run([uv, "build", *options, folder, project], check=True, env=environment)
    (made,) = raw.glob("*.whl")
    # Nothing is to be put into it, so that it only gets the name of the systems on which it runs.
    platform = f"manylinux_{GLIBC.replace('.', '_')}_{machine}"
    repair = ["-m", "auditwheel", "repair", "--plat", platform, "--only-plat", "--wheel-dir"]
    before = set(output.glob("*.whl"))
    for old in before:
        if old.name.startswith(made.name.rpartition("-")[0]):
            old.unlink()
    subprocess.run([interpreter, *repair, output, made], check=True, env=environment)
    (wheel,) = output.glob(f"{made.name.rpartition('-')[0]}-manylinux*.whl")
    # There, since what reads native modules comes with auditwheel.
    subprocess.run([interpreter, __file__, "--check", wheel], check=True)
    return wheel


def problems(wheel: Path) -> list[str]:
    """What a wheel has that it should not have: libraries beside it, other ABIs than its name says.

    Args:
        wheel: a file for Linux.

    Returns:
        A sentence for each; empty if it is as it should be.
    """
    found = []
    stable = "-abi3-" in wheel.name
    with zipfile.ZipFile(wheel) as file:
        modules = [name for name in file.namelist() if ".so" in Path(name).name]
        if not modules:
            found.append("it has no native module")
        for name in modules:
            if ".libs/" in name:
                found.append(f"{name} is a copy of a library")
            elif stable != name.endswith(".abi3.so"):
                found.append(f"{name} is not of the ABI in the wheel's name")
            for needed in _needed(file.read(name)):
                if needed not in _OURS and not needed.startswith(_LOADER):
                    found.append(f"{name} needs {needed}")
    return found


def _needed(content: bytes) -> list[str]:
    """Libraries that a native module is linked with, as the loader reads them."""
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    sections = ELFFile(io.BytesIO(content)).iter_sections()
    return [
        tag.needed
        for section in sections
        if isinstance(section, DynamicSection)
        for tag in section.iter_tags()
        if tag.entry.d_tag == "DT_NEEDED"
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Build what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--python", action="append", help="to build for; several times for several (default: this)"
    )
    parser.add_argument("--check", type=Path, metavar="WHEEL", help="only tell what is wrong in it")
    parser.add_argument("--only", choices=sorted(PROJECTS), help="one of the two projects")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="default: dist")
    parser.add_argument("--uv", default=shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv"))
    args = parser.parse_args(arguments)
    if args.check:
        sys.exit("\n".join(f"{args.check.name}: {found}" for found in problems(args.check)) or 0)
    args.output.mkdir(parents=True, exist_ok=True)
    for python in args.python or [sys.executable]:
        tell = "import sys; print('%d.%d' % sys.version_info[:2])"
        version = subprocess.check_output([python, "-c", tell], text=True).strip()
        for name, project in PROJECTS.items():
            if args.only in (None, name):
                work = ROOT / "build" / "wheels" / version
                wheel = build(project, python, args.output.resolve(), work, args.uv)
                print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
