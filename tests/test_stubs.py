# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The stub files of the native modules say what the modules say."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import compressai._CXX
import compressai._kernels
import compressai.ans

STUBS = Path(__file__).parents[1] / "compressai"
MODULES = pytest.mark.parametrize(
    "module",
    [compressai.ans, compressai._CXX, compressai._kernels],
    ids=lambda m: m.__name__,
)
Owner = ast.Module | ast.ClassDef


def _stub(module: ModuleType) -> ast.Module:
    return ast.parse((STUBS / f"{module.__name__.rpartition('.')[2]}.pyi").read_text())


def _definitions(owner: Owner) -> dict[str, list[ast.FunctionDef | ast.ClassDef]]:
    found: dict[str, list[ast.FunctionDef | ast.ClassDef]] = {}
    for node in owner.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.setdefault(node.name, []).append(node)
    return found


def _check_docs(owner: Owner, real: object) -> None:
    for name, nodes in _definitions(owner).items():
        documented = inspect.cleandoc(getattr(real, name).__doc__ or "")
        for node in nodes:
            text = ast.get_docstring(node)
            assert text is None or text in documented, f"{name}: differs from the module"
            if isinstance(node, ast.ClassDef):
                _check_docs(node, getattr(real, name))


@MODULES
def test_stubs_define_what_the_module_has(module: ModuleType) -> None:
    names = _definitions(_stub(module))
    assert set(names) == {name for name in dir(module) if not name.startswith("__")}
    for name, (node, *_) in names.items():
        if isinstance(node, ast.ClassDef):
            real = {n for n in vars(getattr(module, name)) if not n.startswith("__")}
            assert {n for n in _definitions(node) if not n.startswith("__")} == real


@MODULES
def test_stubs_have_the_docstrings_of_the_module(module: ModuleType) -> None:
    stub = _stub(module)
    assert ast.get_docstring(stub) == inspect.cleandoc(module.__doc__)
    _check_docs(stub, module)


@MODULES
def test_everything_public_is_documented(module: ModuleType) -> None:
    for name, nodes in _definitions(_stub(module)).items():
        assert any(ast.get_docstring(node) for node in nodes), name
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                for method, overloads in _definitions(node).items():
                    documented = any(ast.get_docstring(overload) for overload in overloads)
                    assert documented or method.startswith("__"), f"{name}.{method}"
