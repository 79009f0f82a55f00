# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What `make types` checks is what README and manual show, on the same lines."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from doc_examples import ROOT
from types_of_examples import extract, source

import compressai
from compressai.models import CompressionModel
from compressai.zoo import models


def test_examples_are_on_their_lines(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Text.\n\n```python\na = 1\n```\n\n```console\n$ make test\n```\n\n"
        "```pycon\n>>> for i in range(a):\n...     print(i)\n0\n>>> a\n1\n```\n"
    )
    lines = source(page).split("\n")
    assert {i: line for i, line in enumerate(lines, 1) if line} == {
        4: "a = 1",
        12: "for i in range(a):",
        13: "    print(i)",
        15: "a",
    }
    page.write_text("```console\n$ make test\n```\n")
    assert source(page) == ""


def test_every_page_with_python_is_extracted(tmp_path: Path) -> None:
    names = {path.stem for path in extract(tmp_path / "types")}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    with_python = {page.stem for page in pages if "```python" in page.read_text(encoding="utf-8")}
    assert len(with_python) > 10
    assert {name.removeprefix("docs_") for name in names} == with_python
    for path in (tmp_path / "types").iterdir():
        ast.parse(path.read_text(encoding="utf-8"))


def test_models_by_name_are_compression_models() -> None:
    for name, build in models.items():
        returned = inspect.signature(build, eval_str=True).return_annotation
        assert issubclass(returned, CompressionModel), name
    returned = inspect.signature(compressai.load, eval_str=True).return_annotation
    assert returned is CompressionModel


def test_declarations_for_type_checkers_define_nothing() -> None:
    # What has no compress of its own must not seem to have one.
    assert not {"compress", "decompress", "forward", "__call__", "g_a"} & {*vars(CompressionModel)}
