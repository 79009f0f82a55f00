# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which files a command is to work on, and where the results go."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import typer

from compressai._files import (
    atomic_write,
    check_regular,
    check_writable,
    open_regular,
    result_names,
)
from compressai.cli.places import STANDARD, names_a_file

__all__ = [
    "STANDARD",
    "Plan",
    "Skip",
    "Task",
    "check_output",
    "open_input",
    "plan",
    "write_output",
]


class Skip(Exception):
    """A file needs no work: its result is there."""


@dataclass(frozen=True)
class Task:
    """One file to work on.

    Attributes:
        source: file to read, :data:`STANDARD` for standard input.
        target: file to write, :data:`STANDARD` for standard output.
        mirrored: folders of the target are made as needed.
    """

    source: Path
    target: Path
    mirrored: bool = False

    def check_target(self, overwrite: bool) -> None:
        """Refuse before the work what could not be written after it.

        Raises:
            OSError: the target cannot be written, or exists.
            ValueError: it is the source.
        """
        if self.target == STANDARD:
            if sys.stdout is None:
                raise ValueError("standard output is closed: name a file with -o")
            if sys.stdout.isatty():
                raise ValueError("standard output is a terminal: send it to a file or a program")
            return
        if self.mirrored:
            self.target.parent.mkdir(parents=True, exist_ok=True)
        if self.target.exists() and self.source.exists() and self.target.samefile(self.source):
            raise ValueError(f"{self.target} is the input: name another output with -o")
        check_output(self.target, overwrite)


def check_output(path: Path, overwrite: bool, *, makes_folder: bool = False) -> None:
    """Refuse before the work what could not be written after it.

    A file that comes meanwhile is kept, too, by whoever writes without replacing.

    Args:
        path: file that a command is to write.
        overwrite: whether it may replace a file.
        makes_folder: whether a folder that is missing will be made.

    Raises:
        OSError: the file cannot be written, or exists.
    """
    if not makes_folder or path.parent.is_dir():
        check_writable(path)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; give --overwrite to replace it")


@dataclass
class Plan:
    """What a command line asks for.

    Attributes:
        tasks: the files.
        is_job: whether several files or a folder were asked for, not a single file.
        failed: what cannot even be begun, with the reason.
    """

    tasks: list[Task] = field(default_factory=list)
    is_job: bool = False
    failed: list[tuple[Path, Exception]] = field(default_factory=list)


def plan(
    inputs: Sequence[Path],
    output: str | None,
    *,
    suffixes: Collection[str],
    new_suffix: str,
    what: str,
) -> Plan:
    """Find the files that are meant, and a place for each result.

    Args:
        inputs: files, folders (searched to the bottom, without what is hidden), or ``-`` alone.
        output: file, folder, or ``-``, see :func:`~compressai.cli.places.names_a_file`; ``None``
            puts results beside their sources, and that of standard input on standard output.
        suffixes: of the files to take from folders, in lower case, with dot.
        new_suffix: of the results.
        what: name of such a file in messages.

    Raises:
        typer.BadParameter: inputs and output do not go together.
        ValueError: the folders hold no such file.
    """
    result = Plan(is_job=len(inputs) > 1 or inputs[0].is_dir())
    if not result.is_job:
        result.tasks = [_single(inputs[0], output, new_suffix)]
        return result
    folder = None if output is None else Path(output)
    if STANDARD in (*inputs, folder):
        raise typer.BadParameter("- (standard input or output) is for one file, not for several")
    if folder is not None and folder.exists() and not folder.is_dir():
        raise typer.BadParameter(f"a folder must be named for several files, {folder} is a file")
    places: list[tuple[Path, Path]] = []
    for root in inputs:
        files = _files_in(root, suffixes, result) if root.is_dir() else [root]
        for source in files:
            place = source.relative_to(root) if root.is_dir() else Path(source.name)
            places.append((source, source if folder is None else folder / place))
    owners: dict[Path, Path] = {}
    targets = result_names([str(place) for _, place in places], new_suffix)
    for (source, _), target in zip(places, map(Path, targets)):
        if target in owners:
            error = ValueError(f"its result {target} is also that of {owners[target]}")
            result.failed.append((source, error))
            continue
        owners[target] = source
        result.tasks.append(Task(source, target, mirrored=folder is not None))
    if not result.tasks and not result.failed:
        folders = ", ".join(map(str, inputs))
        raise ValueError(f"there is no {what} in {folders}")
    return result


def _single(source: Path, output: str | None, new_suffix: str) -> Task:
    if output is None:
        return Task(source, STANDARD if source == STANDARD else source.with_suffix(new_suffix))
    if source == STANDARD or names_a_file(output):
        return Task(source, Path(output))
    return Task(source, Path(output, source.name).with_suffix(new_suffix), mirrored=True)


def _files_in(folder: Path, suffixes: Collection[str], result: Plan) -> list[Path]:
    found = []

    def note(error: OSError) -> None:
        result.failed.append((Path(error.filename), error))

    for place, folders, names in os.walk(folder, onerror=note):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in suffixes and not name.startswith("."):
                path = Path(place, name)
                try:
                    check_regular(path)
                except (OSError, ValueError) as error:
                    result.failed.append((path, error))
                else:
                    found.append(path)
    return found


def open_input(path: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    """A regular file, open for reading, or standard input.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is a pipe, a device or the like.
    """
    if path == STANDARD:
        return contextlib.nullcontext(_standard_input())
    return open_regular(path)


def _standard_input() -> BinaryIO:
    if sys.stdin is None:
        raise ValueError("standard input is closed: name a file")
    return sys.stdin.buffer


def write_output(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write a file at once or not at all, or to standard output.

    Args:
        path: the file, or :data:`STANDARD`.
        content: what is to be in it.
        replace: as for :func:`~compressai._files.atomic_write`.
    """
    if path == STANDARD:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with atomic_write(path, replace=replace) as unfinished:
        unfinished.write_bytes(content)
