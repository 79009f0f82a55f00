# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The house has floors, and imports go down: read off the source, not off what happens to load."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import compressai

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "compressai"

# Of no Python, so that no file of ours is behind such an import.
NATIVE = frozenset({"_CXX", "_build_info", "_kernels", "ans"})

# docs/design.md shows the same table to readers; test_design_page_shows_these_floors compares.
FLOORS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            *("_CXX", "_build_info", "_decibels", "_distribution", "_kernels", "_lazy", "_moved"),
            "ans",
        }
    ),
    frozenset(
        {
            *("_entropy_coder", "_files", "_freed_memory", "_weight_files", "cores", "ops"),
            *("typing", "version"),
        }
    ),
    frozenset({"_images", "entropy_models", "layers", "registry"}),
    frozenset({"datasets", "extensions", "latent_codecs", "losses", "optimizers", "runtime"}),
    frozenset({"models", "transforms"}),
    frozenset({"bitstream", "zoo"}),
    frozenset({"checkpoint", "inference", "quick"}),
    frozenset({"convert", "evaluation", "model_choice"}),
    frozenset({"explain", "hub", "pillow", "targets", "training", "utils"}),
    frozenset({"cluster"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
# The package itself gathers all up to the zoo, and `load` of the checkpoints when asked for: it is
# between two floors.
FACADE = "compressai"
FACADE_FLOOR = 6.5


def floor_of(part: str) -> float:
    if part == FACADE:
        return FACADE_FLOOR
    for floor, parts in enumerate(FLOORS):
        if part in parts:
            return floor
    raise AssertionError(
        f"compressai.{part} stands on no floor: add it to FLOORS and docs/design.md"
    )


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """The package on the first level: ``compressai.models.google`` -> ``models``."""
    return module.split(".")[1] if "." in module else FACADE


def is_part(name: str) -> bool:
    return any(name in parts for parts in FLOORS)


def imported_parts(tree: ast.AST, path: Path) -> Iterator[tuple[int, str]]:
    """Line and part for each import of the library, wherever in the file it is."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            # `from compressai import ans` names a part, `from compressai.ops import x` does not.
            parts = [alias.name for alias in node.names if is_part(alias.name)]
            if origin == FACADE:
                targets = [f"{FACADE}.{name}" for name in parts]
                targets += [FACADE] if len(parts) < len(node.names) else []
            else:
                targets = [origin]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == FACADE:
                yield node.lineno, part_of(target)


@cache
def imports() -> tuple[tuple[str, str, str], ...]:
    """``(importing part, imported part, where)`` for the whole library."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
        for line, part in imported_parts(tree, path):
            where = f"{path.relative_to(ROOT)}:{line}"
            found.append((part_of(module_name(path)), part, where))
    return tuple(found)


def test_every_part_of_the_library_stands_on_a_floor() -> None:
    parts = {
        path.stem
        for path in PACKAGE.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists()
    }
    assert parts <= set().union(*FLOORS)


def test_imports_go_down_to_a_lower_floor() -> None:
    upward = [
        f"{where}: {importer} (floor {floor_of(importer)}) imports {part} (floor {floor_of(part)})"
        for importer, part, where in imports()
        if part != importer and floor_of(part) >= floor_of(importer)
    ]
    assert not upward, "\n".join(upward)


def test_files_do_not_import_each_other_in_circles() -> None:
    """Wherever in a file an import stands; those for type checkers only are none.

    Those of packages are, which name what the package imports on first use.
    """
    files = {module_name(path): path for path in PACKAGE.rglob("*.py")}
    below = {name: set(imported_files(path, files)) - {name} for name, path in files.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for lower in sorted(below[name]):
                visit(lower, (*path, name))
            done.add(name)

    for name in sorted(below):
        visit(name, ())


def imported_files(path: Path, files: Mapping[str, Path]) -> Iterator[str]:
    """Modules of the library, written in Python, that a file imports when it runs."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        for_checkers = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if for_checkers and path.name != "__init__.py":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in files)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                name = f"{origin}.{alias.name}"
                if name in files:
                    yield name
                elif origin in files and alias.name not in NATIVE:
                    yield origin


def test_models_and_codecs_know_no_files_and_no_command_lines() -> None:
    strangers = {"argparse", "os", "pathlib", "PIL", "safetensors", "typer", "rich"}
    for package in ("models", "latent_codecs", "entropy_models", "layers", "ops"):
        for path in (PACKAGE / package).rglob("*.py"):
            names = {name.split(".")[0] for name in imported_names(path)}
            assert not names & strangers, path


def imported_names(path: Path) -> set[str]:
    """Everything that a file imports by an absolute name, wherever in the file it does."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module or "")
    return names


def test_typer_is_imported_by_the_command_line_only() -> None:
    users = {part_of(module_name(p)) for p in PACKAGE.rglob("*.py") if "typer" in imported_names(p)}
    assert users <= {"cli"}


def test_native_code_knows_neither_python_nor_torch() -> None:
    """But in bindings, and in that part of a kernel's file that is its function in Python."""
    bindings = {
        *("ans_module", "cxx_module", "kernels_module", "python_arrays"),
        *("arguments", "layer_arguments"),
    }
    include = re.compile(
        r"#\s*include\s*[<\"](Python\.h|nanobind|pybind11|torch|ATen|c10|.*arguments)"
    )
    core = [path for path in (PACKAGE / "cpp_exts").rglob("*.[ch]pp") if path.stem not in bindings]
    assert core
    for path in core:
        text = path.read_text(encoding="utf-8")
        if path.parent.name == "kernels" and path.suffix == ".cpp":
            text, rest = text.split("\n#else\n")
            assert "#include" in rest
        assert not include.search(text), path


def test_every_source_file_begins_with_its_licence() -> None:
    suffixes = {".py", ".cpp", ".hpp", ".sh"}
    sources = [
        path
        for folder in ("compressai", "examples", "benchmarks", "tests", "docs", "tools", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in suffixes or path.name in ("CMakeLists.txt", "run")
    ]
    bare = []
    for path in [*sources, ROOT / "Makefile", ROOT / "pyproject.toml"]:
        lines = path.read_text(encoding="utf-8").splitlines()
        first = "".join(lines[:2][-1:] if lines and lines[0].startswith("#!") else lines[:1])
        if not re.fullmatch(r"(#|//) SPDX-License-Identifier: BSD-3-Clause-Clear", first):
            bare.append(str(path.relative_to(ROOT)))
    assert len(sources) > 100
    assert not bare


def test_import_is_silent_and_leaves_optional_packages_alone() -> None:
    program = (
        "import sys, compressai, compressai.zoo\n"
        "heavy = {'timm', 'matplotlib', 'typer', 'rich', 'pandas', 'plotly', 'torch_geometric'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.strip(), run.stderr) == (0, "", "")


def test_public_names_are_those_of_compressai_and_ours() -> None:
    theirs = {
        *("datasets", "entropy_models", "latent_codecs", "layers", "losses", "models", "ops"),
        *("optimizers", "registry", "transforms", "typing", "zoo"),
        *("available_entropy_coders", "get_entropy_coder", "set_entropy_coder"),
    }
    assert set(compressai.__all__) == theirs | {"decode", "encode", "load", "__version__"}
    assert len(compressai.__all__) == len(set(compressai.__all__))
    for name in compressai.__all__:
        assert hasattr(compressai, name), name


def test_unknown_attribute_of_the_package_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        compressai.nonsense  # noqa: B018


def test_every_package_says_what_it_exports() -> None:
    for path in PACKAGE.rglob("__init__.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path
        names = {
            t.id
            for n in tree.body
            if isinstance(n, ast.Assign)
            for t in n.targets
            if isinstance(t, ast.Name)
        }
        # Or it is made when it is asked for.
        module = ".".join(path.relative_to(PACKAGE.parent).parts[:-1])
        assert "__all__" in names or importlib.import_module(module).__all__, path


def test_design_page_shows_these_floors() -> None:
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", page, flags=re.MULTILINE)
    shown = {int(floor): set(re.findall(r"`compressai\.(\w+)`", cell)) for floor, cell in rows}
    built = {floor: set(parts) - {"_build_info"} for floor, parts in enumerate(FLOORS)}
    assert shown == built
