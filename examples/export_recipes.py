# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Write the recipes of all weights that ship: what makes bundles of them without torch.

``make recipes`` runs it. To be run anew when shipped weights, or networks that have some, change;
``tests/test_recipe.py`` tells.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from compressai.inference import export_recipe
from compressai.registry import ENTRIES, ModelEntry
from compressai.runtime.installed import SHIPPED, recipe_file
from compressai.zoo.build import load_model
from compressai.zoo.weights import installed_weights

__all__ = ["main", "shipped_files"]


def shipped_files(entry: ModelEntry, metric: str) -> list[Path]:
    """The weight files of a row of variable rate; none if they do not ship."""
    names = [name for name in (entry.completes, entry.name) if name]
    files = [installed_weights(name, metric, None) for name in names]
    found = [file for file in files if file is not None and file.parent == SHIPPED]
    return found if len(found) == len(names) else []


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=SHIPPED, help="(default: the library's)")
    args = parser.parse_args(argv)
    # Graphs and guards that do not depend on the machine's cores.
    torch.set_num_threads(1)
    for entry in list(ENTRIES.values()):
        for metric in entry.metrics if entry.shipped else ():
            files = shipped_files(entry, metric)
            if files:
                path = args.folder / recipe_file(entry.name, metric).name
                net = load_model(entry, metric, None, pretrained=True)
                export_recipe(net.eval(), files, path)
                print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
