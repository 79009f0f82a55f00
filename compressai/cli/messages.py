# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What programs say to people: notes and errors on stderr, results on stdout."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

__all__ = ["explain", "print_error", "print_note", "print_report"]

_stderr = Console(stderr=True)


def explain(error: BaseException) -> str:
    """What an error says to a user; of the system's errors, without numbers and quotes."""
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


def print_error(error: BaseException) -> None:
    """One line on stderr."""
    _say("[red]error:[/]", explain(error))


def print_note(text: str) -> None:
    """One line on stderr."""
    _say("[yellow]note:[/]", text)


def print_report(values: Mapping[str, Any], as_json: bool) -> None:
    """Results on stdout, as one JSON object on one line, or a line each."""
    if as_json:
        print(json.dumps(values, allow_nan=False))
        return
    width = max(map(len, values))
    for name, value in values.items():
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        print(f"{name.replace('_', ' '):{width}}  {_printable(text)}")


def _say(label: str, text: str) -> None:
    _stderr.print(f"{label} {escape(_printable(text))}", soft_wrap=True, highlight=False)


def _printable(text: str) -> str:
    """On one line and without control codes: names of files and in files can hold anything."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)
