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
from compressai.models import CompressionModel
from compressai.registry import ENTRIES, ModelEntry
from compressai.runtime.installed import SHIPPED, recipe_file
from compressai.zoo.build import load_model
from compressai.zoo.weights import installed_weights

__all__ = ["main", "shipped_models"]


def shipped_models(entry: ModelEntry, metric: str) -> list[tuple[CompressionModel, list[Path]]]:
    """The models of a row whose weights ship, each with its files."""
    found = []
    low, high = entry.qualities
    qualities: Sequence[int | None] = [None] if entry.variable_rate else range(low, high + 1)
    for quality in qualities:
        names = [name for name in (entry.completes, entry.name) if name]
        files = [installed_weights(name, metric, quality) for name in names]
        present = [file for file in files if file is not None and file.parent == SHIPPED]
        if present and len(present) == len(files):
            net = load_model(entry, metric, quality, pretrained=True)
            assert isinstance(net, CompressionModel)
            found.append((net.eval(), present))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=SHIPPED, help="(default: the library's)")
    args = parser.parse_args(argv)
    # Graphs and guards that do not depend on the machine's cores.
    torch.set_num_threads(1)
    for entry in list(ENTRIES.values()):
        for metric in entry.metrics if entry.shipped else ():
            models = shipped_models(entry, metric)
            if models:
                path = args.folder / recipe_file(entry.name, metric).name
                export_recipe(models, path)
                print(f"{path.name}: {len(models)} models, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
