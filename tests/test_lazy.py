# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What is imported when it is first asked for: packages, tables, and commands without torch."""

from __future__ import annotations

import ast
import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import compressai
from compressai import zoo
from compressai._lazy import LazyTable, lazy_names
from compressai.registry import ENTRIES, MODELS, register_model
from compressai.zoo import names as zoo_names

PACKAGE = Path(compressai.__file__).parent
HEAVY = ("matplotlib", "scipy", "torch", "torchvision")


def loaded_by(program: str, *arguments: str) -> tuple[int, set[str], str]:
    """Status, those of :data:`HEAVY` that were loaded at the end, and what was printed."""
    watched = (
        "import atexit, sys\n"
        f"atexit.register(lambda: print('LOADED', *[n for n in {HEAVY!r} if n in sys.modules]))\n"
        f"{program}"
    )
    run = subprocess.run(
        [sys.executable, "-c", watched, *arguments], capture_output=True, text=True, check=False
    )
    printed, found, loaded = run.stdout.rpartition("LOADED")
    assert found, run.stderr
    return run.returncode, set(loaded.split()), printed + run.stderr


COMMAND = "from compressai.cli import main; main()"


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """A coded image, made without a network: what it says of itself is all that is read."""
    from compressai.bitstream import CodedImage, CodedTile, write_coded

    path = tmp_path_factory.mktemp("lazy") / "a.cai"
    sample = CodedImage(
        model="lite",
        quality=3,
        width=64,
        height=64,
        tiles=(CodedTile((b"abc", b"d")),),
        metric="mse",
        random_weights=False,
        fingerprint=bytes(8),
        mode="RGB",
    )
    write_coded(sample, path)
    return path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--help", "Learned image compression"),
        ("--version", compressai.__version__),
        ("models --names", "bmshj2018-factorized\n"),
    ],
)
def test_short_answers_need_no_torch(line, said):
    code, heavy, printed = loaded_by(COMMAND, *line.split())
    assert (code, heavy) == (0, set()), printed
    assert said in printed


# Command line, status, and a part of what is said.
REFUSED = [
    ("encode --help", 0, "--quality"),
    ("models nonsense", 1, "nonsense"),
    ("nonsense", 2, "nonsense"),
    ("encode --nonsense", 2, "--nonsense"),
    ("encode", 2, "Missing argument"),
    ("encode a.png --quality x", 2, "--quality"),
    ("encode a.png --effort 10", 2, "--effort"),
    ("encode a.png --checkpoint a.pth --metric mse", 2, "--metric"),
    ("encode a.png --target-bpp 1 --quality 3", 2, "contradict"),
    ("encode a.png --target-bpp 1 --target-psnr 30", 2, "contradict"),
    ("encode a.png --target-ms-ssim 2", 2, "at most 1"),
    ("encode a.png b.png c.cai", 2, "one file"),
    ("encode --tile x a.png", 2, "--tile"),
    ("decode a.cai --region 1,2", 2, "--region"),
    ("decode a.cai b.cai c.png", 2, "one file"),
    ("eval a.png --engine ray", 2, "--manifest"),
    ("bench a.png --checkpoint a.pth -q 3", 2, "--quality"),
    ("convert a.pth", 2, "--install"),
    ("export a --checkpoint a.pth -q 3", 2, "--quality"),
    ("plot", 2, "results"),
    ("video encode a.yuv --checkpoint a.pth -q 3", 2, "--quality"),
]


def test_no_refused_command_line_needs_torch():
    # One process for all: what none of them loads, each of them does not.
    program = f"""
import contextlib, io
from compressai.cli import main
for line, status, said in {REFUSED!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            main(line.split())
        except SystemExit as end:
            code = end.code
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    if (code or 0, loaded) != (status, []) or said not in out.getvalue():
        sys.exit(f"{{line}}: {{code}} {{loaded}} {{out.getvalue()}}")
"""
    assert loaded_by(program) == (0, set(), "")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_info_needs_no_torch(coded, options):
    code, heavy, printed = loaded_by(COMMAND, "info", *options, str(coded))
    assert (code, heavy) == (0, set()), printed
    assert "lite" in printed


def test_a_command_loads_neither_others_nor_what_looks_for_extensions(coded):
    program = (
        "from compressai.cli import main\n"
        "names = {'compressai.cli.encode', 'compressai.cli.video', 'importlib.metadata'}\n"
        "atexit.register(lambda: print(names & sys.modules.keys()))\n"
        "main(['info', sys.argv[1]])"
    )
    code, _, printed = loaded_by(program, str(coded))
    assert (code, printed.endswith("\nset()\n")) == (0, True), printed


def test_reading_coded_images_needs_no_torch(coded):
    program = (
        "from compressai.bitstream import parse_coded, read_coded, Tiling, MAX_PIXELS\n"
        "print(read_coded(sys.argv[1]).model, parse_coded(open(sys.argv[1], 'rb').read()).width)"
    )
    assert loaded_by(program, str(coded)) == (0, set(), "lite 64\n")


def test_importing_the_library_loads_none_of_its_parts():
    program = "import compressai; print(*sorted(n for n in sys.modules if n[:11] == 'compressai.'))"
    code, heavy, printed = loaded_by(program)
    assert (code, heavy) == (0, set())
    # Written by the build.
    loaded = set(printed.split()) - {"compressai._build_info"}
    assert loaded == {"compressai._lazy", "compressai._moved", "compressai.version"}


def test_first_use_finds_what_it_names():
    program = (
        "import compressai\n"
        "compressai.load, compressai.ans.RansDecoder, compressai.models.TCM\n"
        "compressai.layers.GDN(3), compressai.registry.MODELS['tcm'], compressai.zoo.lite(3)\n"
        "compressai.zoo.image_models['lite'], compressai.zoo.image.cfgs, compressai.typing.TModel"
    )
    assert loaded_by(program)[0::2] == (0, "")


def test_a_check_can_fail():
    assert loaded_by("sys.modules['scipy'] = sys")[1] == {"scipy"}


# -- names of packages ----------------------------------------------------------------------------


def lazy_packages() -> list[str]:
    found = []
    for path in sorted(PACKAGE.rglob("__init__.py")):
        if "lazy_names(" in path.read_text(encoding="utf-8"):
            found.append(".".join(path.relative_to(PACKAGE.parent).parts[:-1]))
    assert "compressai.bitstream" in found
    return found


@pytest.mark.parametrize("package", lazy_packages())
def test_type_checkers_see_the_names_that_there_are(package):
    path = PACKAGE.parent.joinpath(*package.split("."), "__init__.py")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    [checked] = [n for n in body if isinstance(n, ast.If)]
    shown = {}
    for node in checked.body:
        if isinstance(node, ast.Assign):
            # Another name of what an import above it shows.
            [target] = node.targets
            shown[target.id] = shown.pop(node.value.id)
            continue
        for alias in node.names:
            place = f"{node.module}.{alias.name}"
            shown[alias.asname or alias.name] = place
    [call] = [
        n.value for n in body if isinstance(n, ast.Assign) and "lazy_names" in ast.unparse(n.value)
    ]
    listed = {}
    for module, items in ast.literal_eval(call.args[1]).items():
        for item in items.split():
            name, _, other = item.partition("=")
            listed[name] = f"{package}.{module}.{other or name}"
            assert not path.with_name(f"{name}.py").exists(), f"{name} is a file and hides the name"
    modules = {name for name, place in shown.items() if place == f"{package}.{name}"}
    assert {n: p for n, p in shown.items() if n not in modules} == listed
    there = importlib.import_module(package)
    assert set(shown) <= set(dir(there))
    for name, place in shown.items():
        module, _, other = place.rpartition(".")
        assert getattr(there, name) is getattr(importlib.import_module(module), other)


def test_names_of_nobody_are_attribute_errors():
    find, _ = lazy_names("compressai", {"version": "number=__version__"}, modules=["ans"])
    assert find("number") == compressai.__version__
    del compressai.number
    assert find("ans") is importlib.import_module("compressai.ans")
    with pytest.raises(AttributeError, match="'compressai' has no attribute 'nonsense'"):
        find("nonsense")


def test_zoo_names_are_those_of_the_rows():
    """A row's name stands as a string in a call of its file, outside of functions."""
    assert list(zoo.image_models) == list(zoo_names.zoo_names()[0]) == zoo_names.image_model_names()
    assert list(zoo.video_models) == list(zoo_names.zoo_names()[1])
    assert set(zoo.__all__) <= set(dir(zoo))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = zoo.nonsense


def test_names_of_the_zoo_are_those_of_other_packages_too():
    @register_model("test-elsewhere", paper="none")
    class Elsewhere:
        pass

    try:
        assert zoo_names.image_model_names() == [*zoo_names.zoo_names()[0], "test-elsewhere"]
    finally:
        del ENTRIES["test-elsewhere"], MODELS["test-elsewhere"]


# -- tables ---------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table that a module fills with ``a`` and ``b``."""
    (tmp_path / "lazy_source.py").write_text(
        "import builtins\n"
        "for name in 'ab':\n"
        "    builtins.lazy_table.register(name, name.upper(), 'compressai.x')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = LazyTable("lazy_source")
    monkeypatch.setattr("builtins.lazy_table", made, raising=False)
    yield made
    sys.modules.pop("lazy_source", None)


FULL = {"a": "A", "b": "B"}


@pytest.mark.parametrize(
    ("look", "seen"),
    [
        (dict, FULL),
        (lambda t: {**t}, FULL),
        (lambda t: t | {}, FULL),
        (lambda t: {} | t, FULL),
        (lambda t: t == FULL, True),
        (lambda t: t != FULL, False),
        (list, ["a", "b"]),
        (lambda t: list(reversed(t)), ["b", "a"]),
        (sorted, ["a", "b"]),
        (len, 2),
        (bool, True),
        (repr, repr(FULL)),
        (lambda t: "a" in t, True),
        (lambda t: t["a"], "A"),
        (lambda t: t.get("b"), "B"),
        (lambda t: t.get("c", 1), 1),
        (lambda t: set(t.keys()), {"a", "b"}),
        (lambda t: list(t.values()), ["A", "B"]),
        (lambda t: list(t.items()), [("a", "A"), ("b", "B")]),
        (lambda t: t.copy(), FULL),
        (copy.copy, FULL),
        (copy.deepcopy, FULL),
        (lambda t: pickle.loads(pickle.dumps(t)), FULL),
        (lambda t: t.pop("a"), "A"),
        (lambda t: t.popitem(), ("b", "B")),
        (lambda t: t.setdefault("a", "other"), "A"),
        (lambda t: (t.clear(), len(t)), (None, 0)),
        (lambda t: (t.__delitem__("a"), list(t)), (None, ["b"])),
        (lambda t: (t.update(a=1), dict(t)), (None, {"a": 1, "b": "B"})),
        (lambda t: (t.__setitem__("a", 1), dict(t)), (None, {"a": 1, "b": "B"})),
        (lambda t: dict(t.__ior__({"b": 2})), {"a": "A", "b": 2}),
    ],
)
def test_whoever_looks_into_a_table_sees_all_of_it(table, look, seen):
    assert "lazy_source" not in sys.modules
    assert look(table) == seen


def test_what_others_register_replaces_what_the_library_has(table):
    assert table.register("c", "C", "compressai.models.c") is None
    assert "lazy_source" not in sys.modules
    assert table.register("a", "mine", "__main__") == "A"
    assert table == {"c": "C", "a": "mine", "b": "B"}


def test_a_model_that_is_registered_before_any_look_up_stays(tmp_path):
    program = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from compressai.registry import register_model, MODELS\n"
        "@register_model('tcm')\n"
        "class Mine: pass\n"
        "assert MODELS['tcm'] is Mine and 'lite' in MODELS\n"
        "print(list(MODELS)[0])"
    )
    code, _, printed = loaded_by(program)
    assert (code, printed) == (0, "bmshj2018-factorized\n")
