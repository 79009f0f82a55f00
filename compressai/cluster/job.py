# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A job: a list of files, something to do with each, and no file that is lost or done twice.

A pass hands all files that are left to the workers. Files in the hands of a process or machine that
dies come back in no row of the pass, and go into the next one, singly, so that a file that kills
its worker takes no other one with it.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from compressai.cluster.manifest import Manifest

__all__ = ["Item", "JobReport", "Worker", "run_job", "work_on"]

# Pause before another attempt: storage that is busy gets the time to recover.
_PAUSE_SECONDS = 0.2
_COLUMNS = ("bytes", "width", "height")


@dataclass(frozen=True)
class Item:
    """One file of a job.

    Attributes:
        source: path or URL to read; no two items of a job have the same.
        target: path or URL to write; empty if nothing is written.
    """

    source: str
    target: str = ""


class Worker(Protocol):
    """What works on files, one at a time; made once in each process, where it loads its model."""

    def __call__(self, item: Item) -> Mapping[str, Any]:
        """Work on a file, and give what the manifest is to hold, as JSON data."""


MakeWorker = Callable[[int], Worker]
RunPass = Callable[[Sequence[Item], MakeWorker, int, int], Iterable[Sequence[Mapping[str, Any]]]]


@dataclass
class JobReport:
    """How a job went.

    Attributes:
        done: rows of the files that this run worked on.
        skipped: rows of those that an earlier run had done.
        failed: rows of those that could not be done.
        manifest_error: why rows are missing in the manifest, such as for a full disk; ``None`` if
            all are there. The files themselves are as the report says.
        seconds: wall clock.
    """

    done: list[Mapping[str, Any]] = field(default_factory=list)
    skipped: list[Mapping[str, Any]] = field(default_factory=list)
    failed: list[Mapping[str, Any]] = field(default_factory=list)
    manifest_error: str | None = None
    seconds: float = 0.0


def run_job(
    items: Sequence[Item],
    make_worker: MakeWorker,
    manifest: Manifest,
    run_pass: RunPass,
    *,
    retries: int = 2,
    on_row: Callable[[Mapping[str, Any]], None] | None = None,
) -> JobReport:
    """Work on all files, pass by pass, until each is done or has failed too often.

    Args:
        items: the files that are to be worked on.
        make_worker: makes a worker for the pass of a number, from 0; has to be picklable.
        manifest: gets a row for each file.
        run_pass: called with items, ``make_worker``, the number of the pass and ``retries``; gives
            lists of rows.
        retries: how often a file is tried again.
        on_row: called with each row as it comes.

    Returns:
        The report.

    Raises:
        OSError: the manifest cannot be written, as far as that shows before the work.
        ValueError: two items have the same source, or ``retries`` is negative.
    """
    if retries < 0:
        raise ValueError(f"retries must not be negative, got {retries}")
    left = {item.source: item for item in items}
    if len(left) < len(items):
        raise ValueError("every item must have a source of its own")
    manifest.prepare()
    report, start = JobReport(), time.monotonic()

    def take(rows: Sequence[Mapping[str, Any]]) -> None:
        manifest.add(rows)
        for row in rows:
            (report.done if row["status"] == "done" else report.failed).append(row)
            if on_row is not None:
                on_row(row)

    number, fruitless = 0, 0
    try:
        while left and fruitless <= retries:
            before = len(left)
            for rows in run_pass(list(left.values()), make_worker, number, retries):
                # A row that comes twice, from before and after a failure, counts once.
                take([row for row in rows if left.pop(row["source"], None) is not None])
            fruitless += len(left) == before
            number += 1
        reason = f"the process that worked on it died, {fruitless} times"
        take([_row(item, status="failed", error=reason) for item in left.values()])
    except BaseException:
        error = _flush(manifest, retries)
        if error:
            warnings.warn(f"{manifest.store.url} lacks the last rows: {error}", stacklevel=2)
        raise
    report.manifest_error = _flush(manifest, retries)
    report.seconds = time.monotonic() - start
    return report


def _flush(manifest: Manifest, retries: int) -> str | None:
    """Write the last rows; what went wrong, if it did each time."""

    def flush(_: Item) -> dict[str, Any]:
        manifest.flush()
        return {}

    [row] = work_on(flush, [Item(manifest.store.url)], retries)
    return row["error"]


def work_on(worker: Worker, items: Sequence[Item], retries: int) -> Iterator[dict[str, Any]]:
    """Work on files in this process; a row for each, whatever happens.

    Args:
        worker: what does it.
        items: the files.
        retries: how often a file is tried again.
    """
    for item in items:
        start = time.perf_counter()
        for attempt in range(1, retries + 2):
            try:
                result: Mapping[str, Any] | None = worker(item)
                error = None
                break
            except Exception as problem:
                # Names of files may hold what is no Unicode, which no manifest could.
                text = f"{problem}".encode(errors="backslashreplace").decode()
                result, error = None, f"{type(problem).__name__}: {text}"
                if attempt <= retries:
                    time.sleep(_PAUSE_SECONDS * 2 ** (attempt - 1))
        yield _row(
            item,
            status="done" if error is None else "failed",
            error=error,
            attempts=attempt,
            seconds=time.perf_counter() - start,
            result=result,
        )


def _row(
    item: Item,
    *,
    status: str,
    error: str | None = None,
    attempts: int | None = None,
    seconds: float | None = None,
    result: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    result = result or {}
    more = {key: value for key, value in result.items() if key not in _COLUMNS}
    return {
        "source": item.source,
        "target": item.target,
        "status": status,
        "error": error,
        "attempts": attempts,
        "seconds": seconds,
        "worker": f"{socket.gethostname()}:{os.getpid()}",
        "finished": datetime.datetime.now(datetime.timezone.utc),
        **{key: result.get(key) for key in _COLUMNS},
        "result": json.dumps(more) if more else None,
    }
