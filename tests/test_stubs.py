# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Native modules come with the stubs that the build made of them, for editors and type checkers."""

from __future__ import annotations

import ast
import builtins
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import compressai._CXX
import compressai._kernels
import compressai.ans

MODULES = pytest.mark.parametrize(
    "module",
    [compressai.ans, compressai._CXX, compressai._kernels],
    ids=lambda module: module.__name__,
)


def _public(owner: object) -> dict[str, object]:
    return {name: item for name, item in vars(owner).items() if not name.startswith("__")}


@MODULES
def test_a_stub_beside_the_module_names_what_is_in_it(module: ModuleType) -> None:
    path = Path(module.__file__)
    stub = ast.parse(path.with_name(f"{path.name.partition('.')[0]}.pyi").read_text("utf-8"))
    assert ast.get_docstring(stub) == inspect.cleandoc(module.__doc__)
    defined = {n.name: n for n in stub.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    assert set(defined) == set(_public(module))
    for name, node in defined.items():
        if isinstance(node, ast.ClassDef):
            methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
            assert methods >= set(_public(getattr(module, name)))


@MODULES
def test_names_in_signatures_are_those_of_the_stub(module: ModuleType) -> None:
    """Type checkers take what they do not know for anything."""
    path = Path(module.__file__)
    stub = ast.parse(path.with_name(f"{path.name.partition('.')[0]}.pyi").read_text("utf-8"))
    known = set(vars(builtins))
    for node in ast.walk(stub):
        if isinstance(node, ast.Import | ast.ImportFrom):
            known |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.AnnAssign):
            known.add(node.target.id)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            known.add(node.name)
    used = {
        name.id
        for function in ast.walk(stub)
        if isinstance(function, ast.FunctionDef)
        for part in (function.args, function.returns)
        for name in ast.walk(part or ast.Constant(None))
        if isinstance(name, ast.Name)
    }
    assert used <= known


@MODULES
def test_everything_public_is_documented(module: ModuleType) -> None:
    for name, item in _public(module).items():
        assert item.__doc__, name
        if isinstance(item, type):
            for method, function in _public(item).items():
                assert function.__doc__, f"{name}.{method}"
