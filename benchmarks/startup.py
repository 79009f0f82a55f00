# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How long whole commands take, and their memory, against another checkout of this repository.

``python benchmarks/startup.py OTHER`` runs each command in a process of its own, by turns with the
Python of this environment and with ``OTHER/.venv/bin/python``, and prints medians and their ratios,
below the load of the machine. ``models`` is ``models --names``, or ``models --markdown`` in a
checkout that has no shorter list.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _report import PHOTO

__all__ = ["main", "measure"]


def measure(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in MB of a process.

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
    return seconds, usage.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def _knows_names(python: Path, folder: Path) -> bool:
    command = [python, "-m", "compressai", "models", "--help"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return "--names" in run.stdout


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("other", type=Path, help="checkout with a .venv, to compare with")
    parser.add_argument("--repeats", type=int, default=10, help="(default: 10)")
    args = parser.parse_args(argv)
    pythons = {"here": Path(sys.executable), "other": args.other / ".venv" / "bin" / "python"}
    pythons = {name: path.absolute() for name, path in pythons.items()}
    print(f"load {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores, median of {args.repeats}")
    print(f"{'command':10}{'here':>9}{'other':>9}{'ratio':>7}{'here':>10}{'other':>10}{'ratio':>7}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coded = str(folder / "photo.cai")
        names = {key: _knows_names(path, folder) for key, path in pythons.items()}
        commands = {
            "--help": ["--help"],
            "--version": ["--version"],
            "models": ["models"],
            "info": ["info", coded],
            "encode": ["encode", "--overwrite", str(PHOTO), coded],
            "decode": ["decode", "--overwrite", coded, str(folder / "again.png")],
        }
        measure([sys.executable, "-m", "compressai", *commands["encode"]], folder)
        for title, words in commands.items():
            found: dict[str, list[tuple[float, float]]] = {key: [] for key in pythons}
            for _ in range(args.repeats):
                for key, python in pythons.items():
                    shortest = "--names" if names[key] else "--markdown"
                    full = [*words, shortest] if title == "models" else words
                    found[key].append(measure([str(python), "-m", "compressai", *full], folder))
            (here, here_size), (other, other_size) = (
                [statistics.median(values) for values in zip(*found[key])] for key in pythons
            )
            print(
                f"{title:10}{here:7.2f} s{other:7.2f} s{here / other:7.2f}{here_size:7.0f} MB"
                f"{other_size:7.0f} MB{here_size / other_size:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
