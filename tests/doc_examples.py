# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Examples of the documentation as things that can be run: collects the code of Markdown pages.

A page is one story: its blocks run in order and share their names and their folder. What a fence
says decides what is done:

- ``python``: run as it is.
- ``pycon``: a doctest, its output is compared.
- ``console``: the lines after ``$ `` are commands. ``compressai ...`` and ``python examples/...``
  run in this process, their output is compared with the lines below them, if there are any; those
  of other programs are only checked (targets of make, extras of pip), and unknown ones refused.
- ``text``, ``yaml`` and so on: not run.

Output may have ``...`` where it varies. ``<!-- test: only the arguments -->`` on the line before a
console fence has commands parsed and not run, for those that would take hours.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Example", "collect", "run"]

ROOT = Path(__file__).parents[1]
ARGUMENTS_ONLY = "<!-- test: only the arguments -->"

_FENCE = re.compile(r"^(```+)([\w-]*)[^\n]*\n(.*?)^\1\s*$", re.MULTILINE | re.DOTALL)
_OUTPUT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True)
class Example:
    """A block of code on a page.

    Attributes:
        page: the Markdown file.
        line: line of the fence, from 1.
        language: what the fence says.
        code: the lines inside.
        arguments_only: the commands are not to be run.
    """

    page: Path
    line: int
    language: str
    code: str
    arguments_only: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def collect(page: Path) -> list[Example]:
    """The examples of a page, in order; blocks that are not run are left out."""
    text = page.read_text(encoding="utf-8")
    examples = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        examples.append(
            Example(
                page,
                before.count("\n") + 1,
                match[2],
                match[3],
                before.rstrip("\n").endswith(ARGUMENTS_ONLY),
            )
        )
    return [example for example in examples if example.language in _RUNNERS]


def run(examples: list[Example]) -> None:
    """Run the examples of a page in the current folder.

    Raises:
        AssertionError: an output is not what the page says, or a command fails.
    """
    names: dict[str, Any] = {"__name__": "example"}
    for example in examples:
        _RUNNERS[example.language](example, names)


def _run_python(example: Example, names: dict[str, Any]) -> None:
    # Empty lines in front, so that tracebacks tell the line of the page.
    source = "\n" * example.line + example.code
    exec(compile(source, str(example.page), "exec", dont_inherit=True), names)


def _run_doctest(example: Example, names: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(
        example.code, names, str(example), str(example.page), example.line
    )
    test.globs = names
    report = io.StringIO()
    runner = doctest.DocTestRunner(optionflags=_OUTPUT)
    result = runner.run(test, out=report.write, clear_globs=False)
    assert result.failed == 0, report.getvalue()


def _run_console(example: Example, names: dict[str, Any]) -> None:
    for command, expected in _commands(example.code):
        words = shlex.split(command, comments=True)
        if words[0] in _CHECKS:
            _CHECKS[words[0]](words, f"{example}: {command}")
            continue
        got = _output(words, example)
        if expected and not example.arguments_only:
            same = doctest.OutputChecker().check_output(expected, got, _OUTPUT)
            assert same, f"{example}: {command}\nexpected:\n{expected}\ngot:\n{got}"


def _commands(code: str) -> list[tuple[str, str]]:
    """Commands of a console block with the output that follows each."""
    commands: list[tuple[str, str]] = []
    for line in code.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], ""))
        else:
            command, output = commands[-1]
            commands[-1] = (command, output + line + "\n")
    return commands


def _output(words: list[str], example: Example) -> str:
    """What a command of this project prints, standard output and errors in one."""
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured), contextlib.redirect_stderr(captured):
        status = _call(words, example.arguments_only)
    assert status in (0, None), f"{example}: {shlex.join(words)}\n{captured.getvalue()}"
    return captured.getvalue()


def _call(words: list[str], arguments_only: bool) -> Any:
    program, *arguments = words
    if program == "torchrun":
        # Starting processes that import all anew takes too long here: test_train_processes.py does.
        arguments_only = True
        program, *arguments = _launched(arguments)
    script = ROOT / arguments[0] if program == "python" and arguments else None
    if program == "compressai":
        from compressai.cli import main

        call, names = (_only_parse_command if arguments_only else main), [arguments]
    elif script is not None and script.parent.name in ("examples", "benchmarks"):
        assert script.is_file(), f"there is no {arguments[0]}"
        if arguments_only:
            call, names = _only_parse, [script, arguments[1:]]
        else:
            call, names = _run_script, [script, arguments[1:]]
    else:
        raise AssertionError(f"do not know how to run or check {shlex.join(words)!r}")
    try:
        return call(*names)
    except SystemExit as end:
        return end.code


def _launched(arguments: list[str]) -> list[str]:
    """The program that torchrun starts, of its options that ``--name=value`` and flags."""
    command = list(itertools.dropwhile(lambda word: word.startswith("--"), arguments))
    return command if "--no-python" in arguments else ["python", *command]


def _run_script(script: Path, arguments: list[str]) -> None:
    _execute(script, arguments, "__main__")


def _execute(script: Path, arguments: list[str], name: str) -> dict[str, Any]:
    """Execute a file as Python would, and give what it defines."""
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.parent))
    try:
        return runpy.run_path(str(script), run_name=name)
    finally:
        sys.argv, sys.path[:] = before


def _only_parse(script: Path, arguments: list[str]) -> None:
    parse = _execute(script, [], "example")["parse_args"]
    if "--cuda" in arguments:
        arguments.remove("--cuda")  # refused where there is no such device
    parse(arguments)


def _only_parse_command(arguments: list[str]) -> None:
    from typer.main import get_command

    from compressai.cli.app import app

    # What the program itself takes stands before the command.
    while arguments[0] == "--import":
        arguments = arguments[2:]
    name, *rest = arguments
    program = get_command(app)
    program.get_command(program.make_context("compressai", arguments), name).make_context(
        name, rest
    )


def _check_make(words: list[str], where: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    assert set(words[1:]) <= set(targets), f"{where}: targets are {targets}"


def _check_pip(words: list[str], where: str) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n\n[")[0]
    extras = re.findall(r"^(\w+) = \[", section, flags=re.MULTILINE)
    for extra in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        assert set(extra.split(",")) <= set(extras), f"{where}: extras are {extras}"


def _no_check(words: list[str], where: str) -> None:
    """Nothing of ours can be wrong in such a command."""


_CHECKS = {"make": _check_make, "pip": _check_pip, "cd": _no_check, "export": _no_check}
_RUNNERS = {"python": _run_python, "pycon": _run_doctest, "console": _run_console}
