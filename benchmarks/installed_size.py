# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How large ``compressai-runtime`` is: its wheel, and an environment with all that it needs.

``python benchmarks/installed_size.py`` builds the wheel and installs it, with dependencies from
the package index, into an empty environment (without pip) as ``pip install`` does, which compiles
all modules of all packages, and tries that a photo is coded and decoded there. It prints what that
takes on the disk, in blocks of 4096 bytes, the largest parts, and what of it is byte code, which
``--no-compile`` leaves out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from _report import PHOTO

__all__ = ["main", "sizes"]

PROJECT = Path(__file__).parents[1] / "packages" / "runtime"
_BLOCK = 4096
# So many of the largest parts are named.
_NAMED = 10


def sizes(folder: Path, pattern: str = "*") -> Counter[str]:
    """Bytes on the disk of each file and folder in a folder, by name.

    Args:
        folder: the folder.
        pattern: of names of files that count.
    """
    found: Counter[str] = Counter()
    for path in folder.rglob(pattern):
        if path.is_file() and not path.is_symlink():
            name = path.relative_to(folder).parts[0]
            found[name] += -(-path.stat().st_size // _BLOCK) * _BLOCK
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.parse_args(argv)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = folder / "environment"
        places = {"base": str(environment), "platbase": str(environment)}
        packages = Path(sysconfig.get_path("purelib", "venv", vars=places))
        python = Path(sysconfig.get_path("scripts", "venv", vars=places)) / "python"
        subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, PROJECT], check=True)
        (wheel,) = folder.glob("*.whl")
        print(f"wheel: {wheel.stat().st_size / 1e6:.1f} MB")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        subprocess.run([*pip, "--python", python, "install", wheel], check=True)
        found = sizes(packages)
        compiled = sizes(packages, "*.pyc").total()
        print(f"installed: {found.total() / 1e6:.0f} MB, of which byte code {compiled / 1e6:.0f}")
        for part, size in found.most_common(_NAMED):
            print(f"  {part:24}{size / 1e6:6.1f} MB")
        for words in (("encode", PHOTO, "a.cai"), ("decode", "a.cai", "a.png")):
            command = [python, "-m", "compressai", *words]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
