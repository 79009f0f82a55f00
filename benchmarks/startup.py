# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How long whole commands take, and their memory: without torch, with it, and in another checkout.

``python benchmarks/startup.py`` runs each command in a process of its own, by turns as it is and
with ``--engine torch``, and prints medians and their ratios, below the load of the machine: of
time, of time of processors, which other programs change less, and of memory. With ``--folder 100``
it also codes so many copies of the photo, and decodes them. With ``OTHER``, a checkout of this
repository with a ``.venv``, commands run with its program instead of ``--engine torch``.

Modules are compiled once before, as they are where the library was installed. ``models`` is
``models --names``, or ``models --markdown`` in a checkout that has no shorter list.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from _report import PHOTO

__all__ = ["Measured", "Way", "commands", "main", "measure"]


class Measured(NamedTuple):
    """What a process took: seconds, those of processors, and MB at most."""

    seconds: float
    processor: float
    megabytes: float


def measure(command: Sequence[str], folder: Path) -> Measured:
    """What a process takes.

    Args:
        command: program and arguments.
        folder: where it runs.

    Raises:
        RuntimeError: the process failed.
    """
    with tempfile.TemporaryFile() as printed:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            printed.seek(0)
            raise RuntimeError(f"{' '.join(command)} failed: {printed.read().decode()}")
    # At least what this program takes itself, which therefore imports nothing large.
    # Kilobytes on Linux, bytes on macOS.
    size = usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return Measured(seconds, usage.ru_utime + usage.ru_stime, size)


def _knows_names(program: Path, folder: Path) -> bool:
    command = [program, "models", "--help"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return "--names" in run.stdout


@dataclass(frozen=True)
class Way:
    """One of the two ways in which commands run.

    Attributes:
        name: for the heading.
        program: ``compressai`` of an environment.
        options: more words for ``encode`` and ``decode``.
    """

    name: str
    program: Path
    options: tuple[str, ...] = ()


def commands(folder: Path, photos: int) -> dict[str, list[str]]:
    """Command lines by title; those that code need ``photo.cai`` and the folder ``photos``."""
    coded = str(folder / "photo.cai")
    found = {
        "help": ["--help"],
        "version": ["--version"],
        "models": ["models"],
        "info": ["info", coded],
        "encode": ["encode", "--overwrite", str(PHOTO), "-o", coded],
        "decode": ["decode", "--overwrite", coded, "-o", str(folder / "again.png")],
    }
    if photos:
        coded_folder, again = str(folder / "coded"), str(folder / "again")
        photos_folder = str(folder / "photos")
        found[f"encode {photos}"] = ["encode", "--overwrite", photos_folder, "-o", coded_folder]
        found[f"decode {photos}"] = ["decode", "--overwrite", coded_folder, "-o", again]
    return found


def _words(title: str, words: Sequence[str], way: Way, names: bool) -> list[str]:
    more = way.options if title.partition(" ")[0] in ("encode", "decode") else ()
    if title == "models":
        more = ("--names",) if names else ("--markdown",)
    return [str(way.program), *words, *more]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "other", type=Path, nargs="?", help="checkout with a .venv, to compare with"
    )
    parser.add_argument("--repeats", type=int, default=10, help="(default: 10)")
    parser.add_argument("--folder", type=int, default=0, help="photos to code at once, too")
    parser.add_argument("--only", nargs="*", help="commands to run (default: all)")
    args = parser.parse_args(argv)
    # Without compiled modules, most of the time would go into compiling them.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    here = Way("here", Path(sys.executable).absolute().with_name("compressai"))
    other = Way("torch", here.program, ("--engine", "torch"))
    if args.other is not None:
        other = Way("other", (args.other / ".venv" / "bin" / "compressai").absolute())
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, median of {args.repeats}")
    pair = f"{'here':>10}{other.name:>10}{'ratio':>7}"
    print(f"{'':12}{'seconds':>27}{'of processors':>27}{'memory':>27}")
    print(f"{'command':12}{3 * pair}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = {way: _knows_names(way.program, folder) for way in (here, other)}
        lines = commands(folder, args.folder)
        if args.folder:
            (folder / "photos").mkdir()
            for number in range(args.folder):
                shutil.copy(PHOTO, folder / "photos" / f"{number:04}.png")
            measure(_words("encode", lines[f"encode {args.folder}"], here, True), folder)
        for title in ("encode", "decode"):
            for way in (here, other):
                measure(_words(title, lines[title], way, True), folder)
        for title, line in lines.items():
            if args.only and title not in args.only:
                continue
            found: dict[Way, list[Measured]] = {here: [], other: []}
            for _ in range(args.repeats):
                for way, results in found.items():
                    results.append(measure(_words(title, line, way, names[way]), folder))
            ours, theirs = (
                [statistics.median(values) for values in zip(*found[way])] for way in found
            )
            print(f"{title:12}", end="")
            for a, b, unit in zip(ours, theirs, (".2f", ".2f", ".0f")):
                end = " MB" if unit == ".0f" else " s"
                print(f"{format(a, unit) + end:>10}{format(b, unit) + end:>10}{a / b:7.2f}", end="")
            print(flush=True)


if __name__ == "__main__":
    main()
