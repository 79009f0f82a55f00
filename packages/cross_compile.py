# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Compile the native code for systems that are not here: Windows, macOS, Linux on ARM.

It shows that all sources of the coder, the C library and the Python modules compile for a system,
ours with warnings as errors. Nothing is linked, so it shows neither that anything works there, nor
what MSVC or Apple's compiler say::

    python packages/cross_compile.py x86_64-windows-gnu aarch64-macos aarch64-linux-gnu.2.28

The compiler is that of packages/build_wheels.py. The Python modules are compiled for the stable
ABI with the headers of the Python that runs this (3.12 or later); ``pyconfig.h`` of Windows is
written here. Needs uv.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from build_wheels import ROOT, _compilers, _environment

__all__ = ["compile_sources", "main", "python_headers"]

SOURCES = ROOT / "compressai" / "cpp_exts"
_SYSTEMS = ("windows", "macos", "linux")
# What headers of the stable ABI ask for, as on every Windows of 64 bits.
_WINDOWS = """\
#define MS_WINDOWS
#define MS_WIN64
#define NT_THREADS
#define HAVE_DECLSPEC_DLL 1
#define HAVE_PY_SSIZE_T 1
typedef long long Py_ssize_t;
#define PY_SSIZE_T_MAX 0x7fffffffffffffff
#define PYLONG_BITS_IN_DIGIT 30
#define SIZEOF_SHORT 2
#define SIZEOF_INT 4
#define SIZEOF_LONG 4
#define SIZEOF_LONG_LONG 8
#define SIZEOF_SIZE_T 8
#define SIZEOF_VOID_P 8
#define SIZEOF_WCHAR_T 2
#define ALIGNOF_SIZE_T 8
"""
# As the rules for CMake set them. nanobind uses cstdio, which other C++ libraries declare by the
# way.
_MODULES = (
    "-std=c++17",
    "-O1",
    "-includecstdio",
    "-DNDEBUG",
    "-DPy_LIMITED_API=0x030C0000",
    "-fvisibility=hidden",
)
_OURS = ("-Wall", "-Wextra", "-Werror")


def python_headers(folder: Path, system: str) -> Path:
    """A folder with Python's headers, as they are on a system.

    Args:
        folder: where to put it; links, since ``Python.h`` takes the headers beside itself.
        system: ``windows``, ``macos`` or ``linux``.
    """
    if system != "windows":
        return Path(sysconfig.get_path("include"))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for header in Path(sysconfig.get_path("include")).iterdir():
        if header.name != "pyconfig.h":
            (folder / header.name).symlink_to(header)
    (folder / "pyconfig.h").write_text(_WINDOWS)
    return folder


def _units(nanobind: Path, system: str, machine: str) -> Iterator[tuple[Path, list[str]]]:
    """Files and their flags, as in compressai/cpp_exts/CMakeLists.txt."""
    yield nanobind / "src" / "nb_combined.cpp", ["-fno-strict-aliasing"]
    kernels = sorted((SOURCES / "kernels").glob("*.cpp"))
    versions = {
        "avx2": ["8", "6", "-mavx2", "-mfma"],
        "avx512": ["16", "12", "-mavx512f", "-mfma"],
    }
    # MSVC gets none of the kernels; other compilers do, also on Windows.
    has_kernels = machine == "x86_64"
    more = ["-DCOMPRESSAI_KERNELS"] if has_kernels else []
    for source in sorted(SOURCES.glob("*.cpp")) + sorted((SOURCES / "cai").glob("*.cpp")):
        yield source, [*_OURS, *more]
    for kernel in kernels:
        yield kernel, [*_OURS, *more]
        for version, (lanes, rows, *flags) in versions.items() if has_kernels else ():
            sizes = [f"-DKERNEL_LANES={lanes}", f"-DKERNEL_ROWS={rows}"]
            tiles = kernel.stem == "tiles" and system == "linux" and version == "avx512"
            flags += ["-DKERNEL_TILES", "-mamx-tile", "-mamx-bf16"] if tiles else []
            yield kernel, [*_OURS, f"-DKERNEL_INSTRUCTIONS={version}", *sizes, *flags]


def compile_sources(compiler: Path, target: str, nanobind: Path, work: Path) -> int:
    """Compile every source, kernels once for each set of instructions.

    Args:
        compiler: program that compiles for the target.
        target: of the compiler, such as ``x86_64-windows-gnu``.
        nanobind: folder of that package.
        work: folder for what is made.

    Returns:
        How many files were compiled.

    Raises:
        subprocess.CalledProcessError: one does not compile; the compiler has said why.
    """
    machine, system = target.split("-")[:2]
    folders = [
        python_headers(work / "python", system),
        nanobind / "include",
        nanobind / "ext" / "robin_map" / "include",
        SOURCES,
    ]
    includes = [word for folder in folders for word in ("-isystem", folder)]
    units = list(_units(nanobind, system, machine))
    for source, flags in units:
        command = [compiler, *_MODULES, *flags, *includes, "-c", source, "-o", work / "object"]
        subprocess.run(command, check=True)
    return len(units)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compile for the targets of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", nargs="+", help="such as x86_64-windows-gnu, aarch64-macos")
    parser.add_argument("--uv", default=shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv"))
    args = parser.parse_args(arguments)
    if sys.version_info < (3, 12):
        parser.error("nanobind needs Python 3.12 or later for the stable ABI")
    for target in args.target:
        if target.partition("-")[2].partition("-")[0] not in _SYSTEMS:
            parser.error(
                f"{target} is none of MACHINE-windows-gnu, MACHINE-macos, MACHINE-linux-gnu"
            )
    version = "{}.{}".format(*sys.version_info)
    python = _environment(sys.executable, ROOT / "build" / "wheels" / version, args.uv)
    tell = "import nanobind; print(nanobind.__path__[0])"
    nanobind = Path(subprocess.check_output([python, "-c", tell], text=True).strip())
    for target in args.target:
        work = ROOT / "build" / "cross" / target
        tools = _compilers(python, work / "tools", target)
        files = compile_sources(tools["c++"], target, nanobind, work)
        print(f"{target}: {files} files compile")


if __name__ == "__main__":
    main()
