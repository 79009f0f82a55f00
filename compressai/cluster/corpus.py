# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What coding and decoding a corpus have in common: places of results, and what is done already."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from compressai._files import result_names
from compressai.cluster.engine import Run
from compressai.cluster.job import Item, JobReport, MakeWorker
from compressai.cluster.manifest import Manifest
from compressai.cluster.stores import Store, list_sources

__all__ = ["plan_items", "work_on_corpus"]


def plan_items(
    sources: Sequence[str],
    store: Store,
    suffixes: Collection[str],
    result: str | None = None,
    *,
    new_suffix: str = ".cai",
) -> list[Item]:
    """Sources with the targets that they get, or the only one with that of the name ``result``.

    Args:
        sources: folders and files, paths or URLs.
        store: folder of the results.
        suffixes: of the files to take from folders.
        result: name of the only result.
        new_suffix: of all others.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: there is no file, two would have the same result, or a folder would become one.
    """
    if result is not None and (len(sources) != 1 or Store(sources[0]).is_folder()):
        raise ValueError(f"name must be None for several images or a folder, got {result!r}")
    items: dict[str, Item] = {}
    names = list_sources(sources, suffixes)
    results = [result] if result else result_names(list(names.values()), new_suffix)
    for source, name in zip(names, results):
        target = store.join(name)
        other = items.setdefault(target, Item(source, target))
        if other.source != source:
            raise ValueError(f"{source} and {other.source} would both become {target}")
    return list(items.values())


def work_on_corpus(
    items: Sequence[Item],
    store: Store,
    settings: Mapping[str, Any],
    make_worker: MakeWorker,
    *,
    run: Run,
    overwrite: bool,
    skip_existing: bool,
) -> JobReport:
    """Work on what is not done yet, on a Ray cluster.

    Args:
        items: all files.
        store: folder of the results, which has the manifest.
        settings: what the results are made with, as JSON data.
        make_worker: as for :func:`~compressai.cluster.run_job`.
        run: how the work is done.
        overwrite: take nothing as done.
        skip_existing: take results that exist as done, whatever they were made with.

    Raises:
        ValueError: the folder holds results that were made otherwise.
        OSError, RuntimeError: as for :func:`~compressai.cluster.run_job`, or there is no cluster.
    """
    manifest = Manifest(store, settings)
    known = {} if overwrite else manifest.known()
    for row in known.values():
        others = row["status"] == "done" and row["settings"] != manifest.settings
        if others and not skip_existing:
            raise ValueError(
                f"{store.url} holds images that were coded with {row['settings']}, not with "
                f"{manifest.settings}: name another folder, or overwrite them"
            )
    present = set() if overwrite else {store.join(name) for name in store.files()}
    done = {
        item.source
        for item in items
        if item.target in present
        and (skip_existing or known.get(item.source, {}).get("status") == "done")
    }
    left = [item for item in items if item.source not in done]
    report = run.work(left, make_worker, manifest)
    report.skipped = [known.get(source, {"source": source}) for source in done]
    return report
