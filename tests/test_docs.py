# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The documentation tells the truth: examples run, lists are complete, links lead somewhere."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from doc_examples import ROOT, collect, run
from program import save_crops

import compressai
from compressai.cli.models import markdown_table
from compressai.registry import ENTRIES, MODELS


@pytest.fixture(autouse=True)
def tables_stay() -> Iterator[None]:
    """Pages register models of their own, which are not for the tests after them."""
    before = set(ENTRIES), set(MODELS)
    yield
    for table, names in zip((ENTRIES, MODELS), before):
        for added in set(table) - names:
            del table[added]


PAGES = [ROOT / "README.md", ROOT / "NEWS.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
PAGES_WITH_CODE = [page for page in PAGES if collect(page)]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a small photo and a few images to train on; no weights at hand."""
    save_crops({tmp_path / "photo.png": (130, 60, 274, 156)})
    for split, count in (("train", 4), ("test", 1)):
        target = tmp_path / "images" / split
        save_crops(
            {
                target / f"{i:04}.png": (40 * i, 20 * i, 40 * i + 80, 20 * i + 72)
                for i in range(count)
            }
        )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMPRESSAI_HOME", str(tmp_path / "weights"))
    monkeypatch.delenv("COMPRESSAI_WEIGHTS_URL", raising=False)
    known, state, threads = dict(MODELS), torch.get_rng_state(), torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)
    MODELS.clear()
    MODELS.update(known)
    torch.set_rng_state(state)


@pytest.mark.parametrize("page", PAGES_WITH_CODE, ids=name)
def test_examples_of_page_run_and_print_what_it_says(page: Path, folder: Path) -> None:
    run(collect(page))


def test_examples_that_fail_are_noticed(folder: Path) -> None:
    page = ROOT / "made_up.md"
    for language, code in (
        ("python", "assert 1 + 1 == 3"),
        ("pycon", ">>> 1 + 1\n3\n"),
        ("console", "$ compressai info nowhere.cai\n"),
        ("console", "$ compressai --version\ncompressai 0.0.0\n"),
        ("console", "$ make nonsense\n"),
        ("console", '$ pip install ".[nonsense]"\n'),
        ("console", "$ python examples/nonsense.py\n"),
        ("console", "$ nonsense\n"),
    ):
        example = collect_text(page, f"```{language}\n{code}\n```\n")
        with pytest.raises(AssertionError):
            run(example)


def collect_text(page: Path, text: str) -> list:
    """The examples of a page that is not on disk."""

    class Page(type(page)):
        def read_text(self, *args: object, **kwargs: object) -> str:
            return text

    return collect(Page(page))


def test_examples_in_docstrings_print_what_they_say() -> None:
    tried = 0
    for info in pkgutil.walk_packages(compressai.__path__, "compressai."):
        source = Path(getattr(info.module_finder, "path", "")) / f"{info.name.split('.')[-1]}.py"
        if source.is_file() and ">>>" in source.read_text(encoding="utf-8"):
            result = doctest.testmod(importlib.import_module(info.name))
            assert result.failed == 0, info.name
            tried += result.attempted
    assert tried


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert "://" not in target, target
        file, _, _ = target.partition("#")  # Sphinx checks the rest
        assert not file or (page.parent / file).is_file(), f"{name(page)} links to {target}"


def test_readme_lists_every_model_with_its_qualities_and_class() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    # After a change of rows: compressai models --markdown
    assert text.partition("<!-- models -->\n")[2].partition("\n<!-- /models -->")[0] == (
        markdown_table()
    )
    assert {entry.model for entry in ENTRIES.values()} == set(MODELS.values())
    # They are where the line below the table says.
    assert "the classes are in `compressai.models`" in text
    classes = {entry.model.__name__: entry.model for entry in ENTRIES.values()}
    assert all(getattr(compressai.models, name) is cls for name, cls in classes.items())
    assert set(classes) <= set(compressai.models.__all__)


def test_install_page_has_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", makefile, flags=re.MULTILINE)) - {"help"}
    assert set(re.findall(r"^\| `make ([a-z-]+)` \|", page, flags=re.MULTILINE)) == targets


def test_install_page_has_every_extra() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = project.split("[project.optional-dependencies]")[1].split("\n\n[")[0]
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    listed = re.findall(r'^\| `pip install "\.\[([a-z-]+)\]"` \|', page, flags=re.MULTILINE)
    assert sorted(listed) == sorted(re.findall(r"^([a-z-]+) = \[", extras, flags=re.MULTILINE))


def test_reference_has_every_package() -> None:
    reference = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "docs/api").glob("*.md"))
    parts = {path.parent.name for path in (ROOT / "compressai").glob("[!_]*/__init__.py")} - {"cli"}
    documented = set(re.findall(r"automodule:: compressai\.(\w+)", reference))
    assert parts | {"ans", "checkpoint"} <= documented


def test_training_page_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(ROOT / "examples" / "train.py"), run_name="example")
    with pytest.raises(SystemExit):
        script["parse_args"](["--help"])
    options = set(re.findall(r"--[a-z][a-z_-]+", capsys.readouterr().out)) - {
        "--help",
        "--clip_max_norm",
    }
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    assert {option for option in options if f"`{option}`" not in page} == set()


def test_command_line_page_has_every_command_and_option() -> None:
    from typer.main import get_command

    from compressai.cli.app import app

    page = (ROOT / "docs" / "api" / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## ([\w ]+)\n(.*?)(?=^## |\Z)", page, flags=re.M | re.S))
    commands = {}
    program = get_command(app)
    context = program.make_context("compressai", ["info"])
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        group = getattr(command, "commands", None)
        below = {} if group is None else {f"{name} {part}": group[part] for part in group}
        commands |= below or {name: command}
    assert set(sections) == set(commands)
    for command, section in sections.items():
        options = {
            o
            for p in commands[command].params
            if p.param_type_name == "option"
            for o in (*p.opts, *p.secondary_opts)
        }
        assert set(re.findall(r"`(--?[a-z-]+)`", section)) == options - {"--help"}


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    pytest.importorskip("myst_nb")
    pytest.importorskip("sphinx_copybutton")
    # Resolves everything and runs the gallery, but neither writes pages nor highlights the source.
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "dummy"]
    build = subprocess.run(
        [*command, str(ROOT / "docs"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stderr


def test_page_of_changes_names_files_that_exist() -> None:
    page = (ROOT / "docs" / "which_file.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:compressai|tests|docs)/[\w/.]+)`", page)
    assert len(named) > 20
    missing = [name for name in named if "COMMAND" not in name and not (ROOT / name).exists()]
    assert not missing
