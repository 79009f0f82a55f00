# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Options that take several values after them: ``--quality 1 2 3``, as people know from argparse.

Typer wants ``--quality 1 --quality 2 --quality 3``; this turns the one into the other before the
command line is read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from typer.core import TyperCommand

__all__ = ["STDOUT", "command_with_several"]

STDOUT = "-"


def command_with_several(
    several: Mapping[str, Callable[[str], bool]], alone: Collection[str] = ()
) -> type[TyperCommand]:
    """A class of commands with such options.

    Args:
        several: names of options that take several values, and whether a word may be one more of
            them. They also end at the next option.
        alone: names of options whose value, a file, may be left out; they get ``-`` then. What
            follows is their value only if it is ``-`` or its suffix is their name, as in
            ``--json results.json``.

    Returns:
        What ``typer.Typer.command`` takes as ``cls``.
    """

    class Command(TyperCommand):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, _spread(list(args), several, alone))

    return Command


def _spread(
    words: list[str], several: Mapping[str, Callable[[str], bool]], alone: Collection[str]
) -> list[str]:
    spread: list[str] = []
    position = 0

    def following() -> str | None:
        return words[position] if position < len(words) else None

    while (word := following()) is not None:
        position += 1
        if word == "--":
            return [*spread, *words[position - 1 :]]
        spread.append(word)
        value = following()
        if word in alone:
            given = value is not None and (value == STDOUT or value.endswith(f".{word[2:]}"))
            spread.append(value if given else STDOUT)
            position += given
        elif word in several and value is not None:
            # Whatever it is: to complain of the first one is not our part.
            spread.append(value)
            position += 1
            while (value := following()) is not None:
                if value.startswith("-") or not several[word](value):
                    break
                spread += [word, value]
                position += 1
    return spread
