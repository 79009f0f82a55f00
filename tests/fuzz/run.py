# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Fuzzes one target with atheris, guided by which lines that read files run.

python tests/fuzz/run.py container|image|checkpoint [options of libFuzzer and folders of seeds]
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType
from typing import Any

import atheris
from targets import TARGETS

__all__ = ["main"]

READERS = (
    *("compressai.bitstream", "compressai._weight_files", "compressai.checkpoint"),
    *("compressai.convert", "compressai.models._build", "compressai.models._state_dict"),
)


def instrument(module: ModuleType) -> None:
    """Let atheris see which lines of a module run.

    Function by function: what atheris does at import gets no coverage from editable installations.
    """
    owners = [module, *(value for value in vars(module).values() if isinstance(value, type))]
    for owner in owners:
        for value in vars(owner).values():
            function = _function_of(value)
            if function is not None and function.__code__.co_filename == module.__file__:
                function.__code__ = atheris.instrument_func(function).__code__


def _function_of(value: Any) -> FunctionType | None:
    value = getattr(value, "__func__", getattr(value, "fget", value))
    return value if isinstance(value, FunctionType) else None


def main() -> None:
    name = sys.argv.pop(1)
    if name not in TARGETS:
        raise SystemExit(f"the target must be one of {', '.join(TARGETS)}, got {name}")
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(READERS):
            instrument(module)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
