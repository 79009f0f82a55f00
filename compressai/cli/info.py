# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai info``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from compressai.cli.messages import (
    EXPECTED,
    failures,
    print_failures,
    print_report,
    print_table,
)
from compressai.cli.options import AsJson, CodedFiles, debugging
from compressai.cli.places import local_paths
from compressai.cli.tasks import open_input, plan

__all__ = ["info"]


def info(context: typer.Context, files: CodedFiles, as_json: AsJson = False) -> None:
    """Show what coded images say about themselves."""
    paths = local_paths(files, "info reads files of this machine, and standard input")
    chosen_plan = plan(paths, None, suffixes=[".cai"], new_suffix=".cai", what="coded image")
    if not chosen_plan.is_job:
        print_report(_facts(chosen_plan.tasks[0].source), as_json)
        return
    reports, failed = [], list(chosen_plan.failed)
    for task in chosen_plan.tasks:
        try:
            reports.append(_facts(task.source))
        except EXPECTED as error:
            if debugging(context):
                raise
            failed.append((task.source, error))
    if as_json:
        print_report({"files": reports, "failed": failures(failed)}, as_json=True)
    else:
        _print_rows(reports)
    print_failures(failed)
    if failed:
        raise typer.Exit(1)


def _facts(file: Path) -> dict[str, Any]:
    from compressai.bitstream import parse_coded, read_content

    with open_input(file) as source:
        content = read_content(source)
    coded = parse_coded(content)
    return {
        "file": str(file),
        "format": f"cai {coded.version}" if coded.version else "CompressAI 1.2",
        "bytes": len(content),
        "bpp": 8 * len(content) / (coded.width * coded.height),
        "width": coded.width,
        "height": coded.height,
        "mode": coded.mode,
        "model": coded.model,
        "quality": coded.quality,
        "metric": coded.metric,
        "random_weights": coded.random_weights,
        "fingerprint": coded.fingerprint.hex() or None,
        "source_mode": coded.source_mode,
        "sync_safe": coded.sync_safe,
        "tiles": len(coded.tiles),
        "string_bytes": [len(string) for string in coded.strings],
        "alpha_bytes": len(coded.alpha),
    }


def _print_rows(reports: Sequence[Mapping[str, Any]]) -> None:
    columns = {"file": "left", "size": "right", "mode": "left", "bytes": "right", "bpp": "right"}
    rows = [
        (
            report["file"],
            f"{report['width']} x {report['height']}",
            report["mode"],
            report["bytes"],
            f"{report['bpp']:.3f}",
            report["model"] + (" (random)" if report["random_weights"] else ""),
            report["quality"] or "",
        )
        for report in reports
    ]
    print_table({**columns, "model": "left", "quality": "right"}, rows)
