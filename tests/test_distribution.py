# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The name that pip knows, and what the two projects tell about themselves."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest

import compressai
from compressai._distribution import DISTRIBUTION, install_command

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[1]
PROJECTS = (ROOT / "pyproject.toml", ROOT / "packages" / "runtime" / "pyproject.toml")
# Of the other project, and of the folder that a shell finds here.
NAMES_NOT_TO_INSTALL = re.compile(r"pip3? install[^\n`]*?(?<![\w/.-])'?\"?compressai(?![-\w/])")


def test_pip_knows_the_library_by_a_name_of_its_own() -> None:
    project = tomllib.loads(PROJECTS[0].read_text(encoding="utf-8"))["project"]
    assert project["name"] == DISTRIBUTION != "compressai"
    assert re.match(r"\d+\.\d+\.\d+([a-z0-9.]*)$", compressai.__version__)
    assert version(DISTRIBUTION) == compressai.__version__


def test_no_command_installs_the_other_project() -> None:
    assert NAMES_NOT_TO_INSTALL.search("pip install 'compressai[plot]'")
    assert NAMES_NOT_TO_INSTALL.search("pip install -U compressai")
    assert not NAMES_NOT_TO_INSTALL.search("pip install ./compressai")
    folders = ("compressai", "examples", "benchmarks", "docs", "packages", "web")
    files = [ROOT / "README.md"]
    for folder in folders:
        files += [p for p in (ROOT / folder).rglob("*") if p.suffix in {".md", ".py", ".toml"}]
    for path in files:
        if "node_modules" not in path.parts:
            found = NAMES_NOT_TO_INSTALL.search(path.read_text(encoding="utf-8"))
            assert found is None, (path, found)


def test_messages_name_extras_through_one_function() -> None:
    for path in (ROOT / "compressai").rglob("*.py"):
        if path.name != "_distribution.py":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"[\"' ]pip install '?compressai", text), path


def test_command_for_an_extra_passes_every_shell_as_it_is() -> None:
    assert install_command("plot") == "pip install 'compressai-torch[plot]'"
    printed = subprocess.run(
        ["sh", "-c", f"printf '%s|' {install_command('plot')}"], capture_output=True, text=True
    )
    assert printed.stdout == "pip|install|compressai-torch[plot]|"
    assert any('extra == "plot"' in need.replace("'", '"') for need in requires(DISTRIBUTION) or ())


@pytest.mark.parametrize("path", PROJECTS, ids=["library", "runtime"])
def test_projects_say_who_made_them_and_for_whom(path: Path) -> None:
    project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
    assert project["authors"]
    assert project["license"] == "BSD-3-Clause-Clear"
    for minor in (10, 11, 12, 13):
        assert f"Programming Language :: Python :: 3.{minor}" in project["classifiers"]
    assert "Typing :: Typed" in project["classifiers"]
    # A licence is told by `license`; the index refuses a classifier beside it.
    assert not any(c.startswith("License ::") for c in project["classifiers"])


def test_metadata_that_pip_shows_has_authors() -> None:
    told = metadata(DISTRIBUTION)
    assert told["Author"] == "the compressai authors"
    assert "Operating System :: POSIX :: Linux" in told.get_all("Classifier")


def test_a_release_tells_where_the_project_lives() -> None:
    tool = runpy.run_path(str(ROOT / "packages" / "set_urls.py"))
    for path in PROJECTS:
        before = path.read_text(encoding="utf-8")
        once = tool["with_urls"](before, "https://example.org/a/b")
        urls = tomllib.loads(once)["project"]["urls"]
        assert urls["Repository"] == "https://example.org/a/b"
        assert urls["Changelog"].endswith("/NEWS.md")
        assert tool["with_urls"](once, "https://example.org/a/b") == once
        other = tomllib.loads(tool["with_urls"](once, "https://example.org/c/"))
        assert other["project"].pop("urls")["Homepage"] == "https://example.org/c"
        assert other == tomllib.loads(before)
    with pytest.raises(ValueError, match="address must be"):
        tool["urls_table"]("example.org")
