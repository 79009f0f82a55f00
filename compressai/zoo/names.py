# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The names in the zoo, for those who only want to list them: without importing a model.

Importing models takes long. Their names stand in the source of their rows as strings, in the order
in which ``compressai/models/__init__.py`` imports the files, and are read off there.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from importlib.resources import files

__all__ = ["image_model_names", "zoo_names"]

_IMPORT = re.compile(r"^from compressai\.(models[\w.]*) import ", re.MULTILINE)
# register_entry(...), @register_model(...) or _register(...) of a file, outside of functions.
_ROW = re.compile(r"^@?(_?register\w*\((?:[^\n]*\)|.*?\n\)))$", re.MULTILINE | re.DOTALL)


def _sources(module: str, known: set[str]) -> Iterator[str]:
    """The texts of a module and of all models that it imports, in the order of their rows."""
    known.add(module)
    place = module.replace(".", "/")
    path = files("compressai").joinpath(f"{place}.py")
    if not path.is_file():
        path = files("compressai").joinpath(f"{place}/__init__.py")
    text = path.read_text(encoding="utf-8")
    for below in _IMPORT.findall(text):
        if below not in known:
            yield from _sources(below, known)
    yield text


def _rows(text: str) -> Iterator[dict[str, object]]:
    """Name and other fields, as far as they are constants, of the rows of a file."""
    for source in _ROW.findall(text):
        call = ast.parse(source, mode="eval").body
        if not isinstance(call, ast.Call) or not (call.args or call.keywords):
            continue
        # A row in a call of register_entry, or the fields in another.
        if call.args and isinstance(call.args[0], ast.Call):
            call = call.args[0]
        elif not call.keywords and len(call.args) == 1:
            continue
        row = {
            word.arg: word.value.value
            for word in call.keywords
            if word.arg and isinstance(word.value, ast.Constant)
        }
        if call.args and isinstance(call.args[0], ast.Constant):
            row["name"] = call.args[0].value
        yield row


@functools.cache
def zoo_names() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the image models of this library, and of its video models."""
    found = [row for text in _sources("models", set()) for row in _rows(text)]
    shown = [row for row in found if row.get("in_zoo", True)]
    images = tuple(str(row["name"]) for row in shown if not row.get("video"))
    return images, tuple(str(row["name"]) for row in shown if row.get("video"))


def image_model_names() -> list[str]:
    """Names of the image models, those registered elsewhere included.

    Models are imported only where one is already.
    """
    if "compressai.models" not in sys.modules:
        return list(zoo_names()[0])
    # The rows, which are there already.
    from compressai.zoo.build import image_models

    return list(image_models)
