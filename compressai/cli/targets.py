# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where the results of a command go."""

from __future__ import annotations

from pathlib import Path

__all__ = ["check_target"]


def check_target(target: Path, source: Path, overwrite: bool) -> None:
    """Refuse before the work what could not be written after it."""
    from compressai._files import check_writable

    check_writable(target)
    if target.exists():
        if source.exists() and target.samefile(source):
            raise ValueError(f"{target} is the input: name another output with -o")
        if not overwrite:
            raise FileExistsError(f"{target} exists; give --overwrite to replace it")
