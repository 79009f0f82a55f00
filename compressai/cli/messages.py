# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What programs say to people: notes, errors and progress on stderr, results on stdout."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "EXPECTED",
    "RANDOM_WEIGHTS",
    "Failed",
    "Notes",
    "explain",
    "failures",
    "no_notes",
    "print_error",
    "print_failures",
    "print_line",
    "print_note",
    "print_report",
    "print_table",
    "print_text",
    "progress_bar",
    "share_bar",
]

Failed = Sequence[tuple[Path, Exception]]
RANDOM_WEIGHTS = "coded with RANDOM weights, the image will not be recognisable"
# What files and the system can do to us; all else is a mistake in the program.
EXPECTED = (ImportError, OSError, ValueError, RuntimeError, MemoryError)

# What prints in colour and in tables is imported where that is done: it takes longer than to tell
# what is in a file.


@cache
def _stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True)


# Dependencies of the library that compressai-runtime has not.
_WITH_TORCH = ("torch", "torchvision", "scipy", "pytorch_msssim", "safetensors")


def explain(error: BaseException) -> str:
    """What an error says to a user; of the system's errors, without numbers and quotes."""
    if isinstance(error, ModuleNotFoundError) and error.name in _WITH_TORCH:
        return "this needs PyTorch: install compressai in place of compressai-runtime"
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    if error.filename is None:
        return error.strerror
    name = os.fsdecode(error.filename)
    if isinstance(error, FileNotFoundError):
        return f"{name} does not exist"
    if isinstance(error, IsADirectoryError):
        return f"{name} is a folder"
    return f"{name}: {error.strerror}"


def print_error(error: BaseException | str) -> None:
    """One line on stderr."""
    _say("red", "error:", error if isinstance(error, str) else explain(error))


def print_note(text: str) -> None:
    """One line on stderr, unless :func:`no_notes` keeps it back."""
    if _notes_wanted:
        _say("yellow", "note:", text)


@contextlib.contextmanager
def no_notes(quiet: bool) -> Iterator[None]:
    """Within, notes are not printed, if ``quiet``."""
    global _notes_wanted
    before = _notes_wanted
    _notes_wanted = before and not quiet
    try:
        yield
    finally:
        _notes_wanted = before


# Of the process, as its streams are: notes come from all its threads.
_notes_wanted = True


class Notes:
    """Notes on files, each of which is told of one file and then only counted.

    May be used by several threads at the same time.
    """

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def tell(self, file: object, text: str) -> None:
        """Print a note on a file, unless the same was told of another."""
        with self._lock:
            self._counts[text] += 1
            first = self._counts[text] == 1
        if first:
            print_note(f"{file}: {text}")

    def sum_up(self) -> None:
        """Tell how many other files the notes are true of."""
        for text, count in self._counts.items():
            if count > 1:
                print_note(f"the same of {count - 1} more: {text}")


def print_report(values: Mapping[str, Any], as_json: bool, *, to_stderr: bool = False) -> None:
    """Results on stdout, as one JSON object on one line, or a line each.

    Args:
        values: what was found out, by name.
        as_json: print JSON.
        to_stderr: print them there, because stdout is for a file.
    """
    stream = sys.stderr if to_stderr else sys.stdout
    if as_json and stream is None:
        raise ValueError("standard output is closed, and the results were to go there")
    if as_json:
        print(json.dumps(values, allow_nan=False), file=stream)
        return
    width = max(map(len, values))
    for name, value in values.items():
        digits = "g" if name == "quality" else ".3f"
        text = f"{value:{digits}}" if isinstance(value, float) else str(value)
        print(f"{name.replace('_', ' '):{width}}  {_printable(text)}", file=stream)


def print_line(text: str, *, to_stderr: bool = False) -> None:
    """One line on stdout, or on stderr because stdout is for a file."""
    print(_printable(text), file=sys.stderr if to_stderr else sys.stdout)


def print_table(
    columns: Mapping[str, Literal["left", "right"]], rows: Iterable[Sequence[object]]
) -> None:
    """A table on stdout: all columns but the last are as wide as what is in them.

    The last one takes what is left of the terminal, in several lines where that is needed. A table
    that is too wide even so, or goes to a file, has lines as long as they are.

    Args:
        columns: headings, and on which side the cells begin.
        rows: a value for each column.
    """
    from rich.cells import cell_len
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    cells = [[_printable(str(value)) for value in row] for row in rows]
    table = Table(box=None, pad_edge=False)
    needed = 0
    *kept, last = zip(columns, *cells)
    for heading, *column in kept:
        # Names are to be copied, so they are never broken.
        table.add_column(heading, justify=columns[heading], no_wrap=True)
        needed += max(map(cell_len, [heading, *column])) + 2
    table.add_column(last[0], justify=columns[last[0]], overflow="fold")
    needed += max(cell_len(word) for cell in last for word in [*cell.split(), ""])
    for row in cells:
        table.add_row(*map(escape, row))
    # Made at each call: stdout may be another one by then.
    console = Console()
    if not console.is_terminal or needed > console.width:
        console = Console(width=10_000)
    console.print(table)


def print_text(text: str) -> None:
    """A paragraph on stdout, in lines of at most 80 columns."""
    print(textwrap.fill(_printable(text), 80, break_long_words=False, break_on_hyphens=False))


@contextlib.contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr, if that is a terminal; gives what is to be called for each thing done.

    Where the program is interrupted, a line on stderr says how many are done.

    Args:
        title: what is being done.
        total: number of things to do.
    """
    if not _is_terminal():
        with _told_if_interrupted(title, total) as count:
            yield lambda name: count()
        return
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        *(TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()),
        TextColumn("{task.description}"),
    )
    with (
        _told_if_interrupted(title, total) as count,
        Progress(*columns, console=_stderr(), **_TRANSIENT) as bar,
    ):
        row = bar.add_task("", total=total)

        def advance(name: str) -> None:
            count()
            bar.update(row, advance=1, description=escape(_printable(name)))

        yield advance


@contextlib.contextmanager
def _told_if_interrupted(title: str, total: int) -> Iterator[Callable[[], None]]:
    """Gives what counts the things done, and tells their number if the program is interrupted."""
    lock, done = threading.Lock(), 0

    def count() -> None:
        nonlocal done
        with lock:
            done += 1

    try:
        yield count
    except (KeyboardInterrupt, SystemExit):
        print_note(f"{title}: interrupted, {done} of {total} are done")
        raise


@contextlib.contextmanager
def share_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr, if that is a terminal; gives what is to be called with the share done.

    Args:
        title: what is being done.
    """
    if not _is_terminal():
        yield lambda share: None
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(title), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=_stderr(), **_TRANSIENT) as bar:
        row = bar.add_task("", total=1.0)
        yield lambda share: bar.update(row, completed=share)


# Redirected, results on stdout would end up on stderr.
_TRANSIENT = {"transient": True, "redirect_stdout": False, "redirect_stderr": False}


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _say(colour: str, label: str, text: str) -> None:
    if not _is_terminal():
        print(f"{label} {_printable(text)}", file=sys.stderr)
        return
    from rich.markup import escape

    # By the console of the bars, which stay below.
    told = f"[{colour}]{label}[/] {escape(_printable(text))}"
    _stderr().print(told, soft_wrap=True, highlight=False)


def _printable(text: str) -> str:
    """On one line and without control codes: names of files and in files can hold anything."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def failures(failed: Failed) -> list[dict[str, str]]:
    """Files that failed, as data."""
    return [{"file": str(path), "error": explain(error)} for path, error in failed]


def print_failures(failed: Failed) -> None:
    """Files that failed, a line on stderr for each."""
    for failure in failures(failed):
        path, text = failure["file"], failure["error"]
        print_error(text if path in text else f"{path}: {text}")
