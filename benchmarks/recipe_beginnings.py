#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How a run of a recipe begins: what ``beginning`` of ``compressai/training/recipes.json`` holds.

::

    python benchmarks/recipe_beginnings.py mbt2018-mean --data photos --minutes 10 --batch-size 8 --patch-size 64 64

runs ``compressai train --recipe NAME --quality 3`` for so long, on a folder with ``train`` and ``test``, and
writes its tests to ``docs/recipes/NAME.jsonl``: step, bits per pixel and PSNR in dB. Batches and crops that are
smaller than those of the recipe make steps that a processor can take, and make them worth less.
"""  # noqa: E501

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def tests_of(log: Path) -> list[dict[str, float]]:
    """The tests of a run, each with the steps before it."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    tests = [row for row in rows if row["event"] == "test"]
    # An epoch's first batch is told with its step.
    starts = {row["epoch"]: row["step"] for row in rows if row.get("batch") == 0}
    steps = starts.get(1)
    if steps is None:
        raise SystemExit("not even two epochs began: give more minutes, or fewer photographs")
    return [
        {
            "step": steps * (row["epoch"] + 1),
            "bpp": row["bpp_loss"],
            "psnr": -10 * math.log10(row["mse_loss"]),
        }
        for row in tests
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="of the recipe")
    parser.add_argument("--data", required=True, type=Path, help="folder with train and test")
    parser.add_argument("--minutes", type=float, default=10, help="length of the run")
    parser.add_argument("--batch-size", default="8")
    parser.add_argument("--patch-size", nargs=2, default=["64", "64"], metavar=("H", "W"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        command = [
            *(sys.executable, "-m", "compressai", "train", "--recipe", args.name),
            *("-d", str(args.data.resolve()), "--quality", "3", "--seed", "1", "--no-save"),
            *("--batch-size", args.batch_size, "--test-batch-size", args.batch_size),
            *("--patch-size", *args.patch_size, "--num-workers", "0", "--log-file", str(log)),
            # Of a run that is much longer, so that the learning rate stays the first.
            *("--epochs", "1000"),
        ]
        with contextlib.suppress(subprocess.TimeoutExpired):
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            limit = 60 * args.minutes
            subprocess.run(command, env=environment, timeout=limit, check=True, cwd=folder)
        tests = tests_of(log)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    target = ROOT / "docs" / "recipes" / f"{args.name}.jsonl"
    target.parent.mkdir(exist_ok=True)
    target.write_text("".join(json.dumps(test) + "\n" for test in tests))
    print(f"{target}: {len(tests)} tests, {seconds:.0f} s of processor time")
    print([[test["step"], round(test["bpp"], 3), round(test["psnr"], 2)] for test in tests])


if __name__ == "__main__":
    main()
