# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rows for names that weights were installed under and that no model has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from compressai._weight_files import read_description, shown
from compressai.registry import ENTRIES, MODELS, ModelEntry
from compressai.registry.entries import enter
from compressai.zoo.weights import InstalledFile, installed_files

__all__ = ["enter_installed"]


def enter_installed() -> None:
    """Enter a row for each name in the weights folder that has none.

    The row is that of the architecture, with the qualities that are installed. Files that do not
    say of which architecture they are, or of one that is not known here, are passed over.

    Raises:
        ValueError: a file is damaged.
    """
    by_name: dict[str, list[InstalledFile]] = {}
    for file in installed_files():
        if file.model not in ENTRIES or ENTRIES[file.model].summary.startswith(_SUMMARY):
            by_name.setdefault(file.model, []).append(file)
    for name, files in by_name.items():
        row = _row(name, files)
        # A row of its own stays as long as it says the same.
        if row is not None and ENTRIES.get(name) != row:
            enter(row)


_SUMMARY = "Weights that were installed under this name, of"


def _row(name: str, files: list[InstalledFile]) -> ModelEntry | None:
    descriptions = [read_description(file.path) for file in files]
    first = descriptions[0] if isinstance(descriptions[0], Mapping) else {}
    architecture = first.get("architecture")
    if not isinstance(architecture, str):
        return None
    base = ENTRIES.get(architecture)
    if base is None and architecture in MODELS:
        base = ModelEntry(architecture, MODELS[architecture])
    if base is None:
        return None
    licence = first.get("extra", {}).get("licence") if isinstance(first.get("extra"), dict) else ""
    row: ModelEntry = dataclasses.replace(
        base,
        name=name,
        summary=f"{_SUMMARY} {shown(architecture)[1:-1]}",
        losses={},
        weights={},
        shipped=False,
        completes="",
        advice="",
        licence=licence if isinstance(licence, str) else "",
        source="",
        detect=None,
        metrics=tuple(dict.fromkeys(file.metric for file in files)),
        in_zoo=True,
    )
    if base.variable_rate:
        return row
    sizes = {
        int(file.quality): _arguments(base, description)
        for file, description in zip(files, descriptions)
        if file.quality is not None
    }
    sized: ModelEntry = dataclasses.replace(row, arguments={}, sizes=sizes, needs_quality=True)
    return sized


def _arguments(base: ModelEntry, description: Any) -> dict[str, Any]:
    """What the model is built with: as the file says, else as the architecture by itself."""
    arguments = description.get("arguments") if isinstance(description, Mapping) else None
    if not isinstance(arguments, Mapping):
        return {}
    if "quality" in arguments:
        return base.at(arguments["quality"])
    return {str(key): value for key, value in arguments.items()}
