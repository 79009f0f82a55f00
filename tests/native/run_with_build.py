# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Runs pytest with the native modules of another build, such as one with sanitisers.

    python tests/native/run_with_build.py BUILD_FOLDER [pytest arguments]

The modules of the installed package would be found first, so those of the build take their names
before anything imports them.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def take_name(name: str, folder: Path) -> None:
    """Import a native module from a folder under the given name."""
    (path,) = folder.glob(f"{name.rpartition('.')[2]}.*.so")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    package = sys.modules[name.rpartition(".")[0]]
    setattr(package, name.rpartition(".")[2], module)


def use_build(folder: Path) -> None:
    """Let the native modules be those of a build."""
    import compressai

    for name in ("compressai.ans", "compressai._CXX", "compressai._kernels"):
        if name in sys.modules:
            raise RuntimeError(f"{compressai.__file__} imports {name} before it can be replaced")
        take_name(name, folder)


def main() -> int:
    import pytest

    use_build(Path(sys.argv[1]))
    return pytest.main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
