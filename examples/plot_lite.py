# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Draw the course of a training of ``lite`` from the logs that ``train_lite.py`` wrote.

Needs the extra ``plot``::

    python examples/plot_lite.py docs/lite/*.jsonl --out docs/lite/training.svg
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from compressai._files import atomic_write


def read_log(path: Path) -> list[dict[str, Any]]:
    """The validations in a log, in order.

    Raises:
        ValueError: a line is no JSON.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    try:
        records = [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no log of train_lite.py: {error}") from error
    return [record for record in records if record["event"] == "validation"]


def draw(logs: Iterable[tuple[str, Sequence[dict[str, Any]]]], out: Path) -> None:
    """Draw loss over processor time, and PSNR over rate as both moved.

    Args:
        logs: name and validations of each run; one after the other, of one training.
        out: image file of a kind that matplotlib writes.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    began = 0.0
    for name, records in logs:
        minutes = [(began + record["cpu_seconds"]) / 60 for record in records]
        left.plot(minutes, [record["loss"] for record in records], ".-", label=name)
        began += records[-1]["cpu_seconds"]
        for quality in (key for key in records[0] if key[:1] == "q" and key[1:].isdigit()):
            rates, psnrs = ([r[quality][key] for r in records] for key in ("bpp", "psnr"))
            right.plot(rates, psnrs, ".-", color=left.lines[-1].get_color(), linewidth=0.7)
    left.set(
        xlabel="minutes of processor time", ylabel="loss of held-out photographs", yscale="log"
    )
    right.set(xlabel="bits per pixel (estimated)", ylabel="PSNR (dB)")
    left.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    with atomic_write(out) as unfinished:
        figure.savefig(unfinished, format=out.suffix[1:], metadata={"Date": None})


def main(argv: Sequence[str]) -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description="Draw the course of a training of lite.")
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    draw([(log.stem, read_log(log)) for log in args.logs], args.out)


if __name__ == "__main__":
    main(sys.argv[1:])
