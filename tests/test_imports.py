# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Imports inside the library, and paths of earlier versions and of later releases of CompressAI."""

from __future__ import annotations

import ast
import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from compressai._moved import MOVED, RENAMED

PACKAGE = Path(__file__).parents[1] / "compressai"


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_gives_the_module_that_is_elsewhere_now(old: str) -> None:
    module = importlib.import_module(old)
    assert module is importlib.import_module(MOVED[old])
    assert module.__name__ == module.__spec__.name == MOVED[old]
    package, _, name = old.rpartition(".")
    assert getattr(importlib.import_module(package), name) is module


@pytest.mark.parametrize(
    ("module", "old"), [(module, old) for module, names in RENAMED.items() for old in names]
)
def test_an_old_name_gives_what_has_another_name_now(module: str, old: str) -> None:
    place = importlib.import_module(module)
    assert getattr(place, old) is getattr(place, RENAMED[module][old])
    assert old not in place.__all__


def test_arguments_may_have_their_old_names() -> None:
    from compressai.bitstream import encode_image
    from compressai.evaluation import evaluate

    with pytest.raises(ValueError, match="at least one image and one codec"):
        evaluate(pictures=[], codecs=[], keep_pictures=True)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="'NoneType' object"):
        encode_image(None, picture=None, model="m")  # type: ignore
    with pytest.raises(TypeError, match="unexpected keyword argument 'photos'"):
        evaluate(photos=[], codecs=[])  # type: ignore[call-arg]


def test_names_of_nobody_are_still_errors() -> None:
    for module in RENAMED:
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nonsense'"):
            importlib.import_module(module).nonsense  # noqa: B018


@pytest.mark.parametrize("old", MOVED)
def test_no_file_is_at_an_old_path(old: str) -> None:
    place = PACKAGE.parent.joinpath(*old.split("."))
    assert not place.exists()
    assert not place.with_suffix(".py").exists()


def test_an_old_path_can_be_the_first_import_of_a_process() -> None:
    program = (
        "from compressai.layers.integer import IntegerNetwork as old\n"
        "import compressai.models.lite_integer\n"
        "from compressai.models.integer.layers import IntegerNetwork as new\n"
        "from compressai.models import IntegerLite\n"
        "assert old is new and compressai.models.lite_integer.IntegerLite is IntegerLite\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_what_was_pickled_at_an_old_path_is_found() -> None:
    stream = b"ccompressai.layers.integer\nIntegerNetwork\n."
    assert pickle.loads(stream).__module__ == "compressai.models.integer.layers"


def test_paths_of_nobody_are_still_errors() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"compressai\.layers\.nonsense"):
        importlib.import_module("compressai.layers.nonsense")


def test_the_library_itself_uses_no_old_path_or_name() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module not in MOVED, f"{path}:{node.lineno}"
                old = {alias.name for alias in node.names} & set(RENAMED.get(node.module or "", ()))
                assert not old, f"{path}:{node.lineno}"
            elif isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & set(MOVED), path


# -- kinds of imports -----------------------------------------------------------------------------


def sources() -> list[tuple[Path, str]]:
    return [(path, path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))]


def test_imports_are_absolute() -> None:
    relative = [
        f"{path}:{node.lineno}"
        for path, text in sources()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not relative


def test_imports_inside_of_functions_carry_their_reason() -> None:
    """In a comment beside or above; that of the program is in the docstring of its package."""
    silent = []
    for path, text in sources():
        if "cli" in path.parts:
            continue
        lines = ["", *text.splitlines()]
        for function in ast.walk(ast.parse(text)):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    block = node.lineno
                    while re.match(r"\s*(from\b|import\b|$)", lines[block - 1]):
                        block -= 1
                    if not any("#" in lines[at] for at in (node.lineno, block - 1)):
                        silent.append(f"{path}:{node.lineno}")
    assert not silent


# Of torch, what has no public name in the oldest version that is supported.
_PRIVATE = {"torch.cpu._is_amx_tile_supported"}


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_nothing_private_of_torch_is_used() -> None:
    used = set()
    for _, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute):
                used.add(_dotted(node))
            elif isinstance(node, ast.ImportFrom):
                used |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                used |= {alias.name for alias in node.names}
    private = {name for name in used if re.match(r"torch\b.*\._(?!_)", name)}
    assert private == _PRIVATE
