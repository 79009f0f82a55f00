# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What the words of a command line stand for: ``IN... OUT``, standard streams, folders, URLs.

The rules are those of ``cp``, ``cjxl`` and ``avifenc``, and the same for every engine. They go by
what the words look like and by what exists on this machine, so that a line means the same wherever
the work is done.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import typer

__all__ = [
    "STANDARD",
    "check_last_word",
    "is_url",
    "local_paths",
    "names_a_file",
    "split_name",
    "split_places",
]

# Stands for standard input and output on the command line.
STANDARD = Path("-")

# One letter before the colon is a drive.
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/")


def is_url(word: str) -> bool:
    """Whether a word is a URL such as ``s3://bucket/photos``, and no file of this machine."""
    return bool(_URL.match(word)) and not os.path.exists(word)


def split_places(
    words: Sequence[str],
    output: str | None,
    *,
    source_suffixes: Collection[str],
    result_suffixes: Collection[str],
) -> tuple[list[str], str | None]:
    """Tell what is to be read from where the result goes.

    The last of several words is the output, unless it can only be something to read: a file that
    exists, or whose suffix is that of sources. So ``encode *.png`` codes all of them.

    Args:
        words: of the command line, in order.
        output: what ``-o`` names; all words are to be read then.
        source_suffixes: of files that the command reads, in lower case and with the dot.
        result_suffixes: of files that it writes; no suffix is in both.

    Returns:
        The words to read, and the output; ``None`` if none is named.

    Raises:
        typer.BadParameter: several files are to go into one.
    """
    sources = list(words)
    if (
        output is None
        and len(sources) > 1
        and _is_output(sources[-1], source_suffixes, result_suffixes)
    ):
        output = sources.pop()
    several = len(sources) > 1 or os.path.isdir(sources[0])
    names_one = output is not None and _suffix(output) in result_suffixes
    if several and names_one and not os.path.isdir(str(output)):
        raise typer.BadParameter(
            f"{output} names one file, and there may be several results: name a folder"
        )
    return sources, output


def check_last_word(
    words: Sequence[str], output: str | None, *, result_suffixes: Collection[str], example: str
) -> None:
    """Refuse a name that is that of no file to read, and by its suffix of no result.

    It was mistyped. Else, where it was to be read, the rest would be done first, and into places
    that nobody named; where it was to be written, the result would have the name of something else.

    Args:
        words, output, result_suffixes: as for :func:`split_places`.
        example: a suffix to advise.

    Raises:
        FileNotFoundError: the last of several words is such a name.
    """
    last = words[-1]
    if output is not None or len(words) < 2 or is_url(last) or os.path.lexists(last):
        return
    if last == str(STANDARD) or _ends_as_folder(last) or _suffix(last) in ("", *result_suffixes):
        return
    raise FileNotFoundError(
        f"{last} does not exist; to write to it, give it the suffix {example}, or name it with -o"
    )


def _is_output(
    word: str, source_suffixes: Collection[str], result_suffixes: Collection[str]
) -> bool:
    if word == str(STANDARD) or _ends_as_folder(word) or os.path.isdir(word):
        return True
    if os.path.exists(word):
        return _suffix(word) in result_suffixes
    return _suffix(word) not in source_suffixes


def names_a_file(output: str) -> bool:
    """Whether the result of one file goes into a file of this name, and not into a folder.

    Names without a suffix are folders, unless a file has the name.
    """
    if output == str(STANDARD):
        return True
    if _ends_as_folder(output) or os.path.isdir(output):
        return False
    return os.path.exists(output) or bool(_suffix(output))


def split_name(output: str) -> tuple[str, str]:
    """The folder of a file, and its name; both may be parts of a URL."""
    place, rest = _place_and_rest(output)
    folder, slash, name = place.rpartition("/")
    return (folder + slash or ".") + rest, name


def local_paths(words: Sequence[str], advice: str) -> list[Path]:
    """The words as paths of this machine.

    Args:
        words: of the command line.
        advice: what to do where one is a URL.

    Raises:
        ValueError: one is a URL.
    """
    for word in words:
        if is_url(word):
            raise ValueError(f"{word} is a URL: {advice}")
    return [Path(word) for word in words]


def _ends_as_folder(word: str) -> bool:
    return word.endswith(("/", os.sep))


def _place_and_rest(word: str) -> tuple[str, str]:
    """Of a URL, the place; and what stays behind it, options or the rest of a chain."""
    mark = re.search(r"[?]|::", word) if is_url(word) else None
    return (word[: mark.start()], word[mark.start() :]) if mark else (word, "")


def _suffix(word: str) -> str:
    place, _ = _place_and_rest(word)
    if is_url(word):
        # The name of a bucket or server has none.
        place = re.sub(r"^[^:]+://[^/]*", "", place)
    return os.path.splitext(place)[1].lower()
