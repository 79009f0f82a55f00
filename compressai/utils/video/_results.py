# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files of results, one for each sequence and one for all."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from compressai._files import atomic_write

__all__ = ["RAWVIDEO_EXTENSIONS", "find_sequences", "mean_results", "to_json", "write_results"]

RAWVIDEO_EXTENSIONS = (".yuv",)


def find_sequences(folder: str | Path) -> list[Path]:
    """Raw video in a folder and all below it, sorted.

    Raises:
        NotADirectoryError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in RAWVIDEO_EXTENSIONS)


def to_json(value: Any) -> str:
    """JSON, indented by two, with ``null`` for what is not finite (a PSNR without any error)."""
    return json.dumps(_finite(value), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_results(path: Path, results: Any) -> None:
    """Write results, at once or not at all; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        unfinished.write_text(to_json(results), encoding="utf-8")


def mean_results(files: Iterable[Path]) -> dict[str, float | None]:
    """Mean of each of the ``results`` over files of sequences, ``None`` where one has none."""
    found = [json.loads(path.read_text(encoding="utf-8"))["results"] for path in files]
    columns = {key: [results.get(key) for results in found] for key in found[0]}
    return {
        key: None if None in values else sum(values) / len(values)
        for key, values in columns.items()
    }
