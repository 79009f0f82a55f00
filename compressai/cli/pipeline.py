# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Many files through reading, network and coder, and writing, all at the same time.

Reading and writing have threads of their own, so that networks never wait for them. Each of the
``jobs`` codes a file of its own with its share of the cores: several images side by side keep the
cores busier than one image on all of them, since much of coding cannot be split.

Memory is bounded however many jobs there are: images are read ahead by their bytes, and coding
waits where the activations of all jobs would be too large. A file that is larger than its share by
itself is worked on alone.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import typer

from compressai.cli.messages import (
    EXPECTED,
    Failed,
    Notes,
    failures,
    print_failures,
    print_line,
    print_report,
    progress_bar,
)
from compressai.cli.places import STANDARD
from compressai.cli.tasks import Plan, Skip, Task
from compressai.cores import allowed_threads, torch_threads, usable_cores

__all__ = [
    "Stages",
    "default_jobs",
    "one_line",
    "run",
    "size_figures",
    "threads_each",
]

Source = TypeVar("Source")
Result = TypeVar("Result")
# More need more memory, and gain little: each has several cores then.
_MOST_JOBS = 8
# Bytes of the images in memory, and of the activations; with the program itself less than 4 GB.
_MOST_HELD, _MOST_CODING = 2 << 30, 1 << 30


@dataclass(frozen=True)
class Stages(Generic[Source, Result]):
    """What is done with each file, in order; each stage gets what the one before gave.

    Attributes:
        read: gets the task; raises :class:`~compressai.cli.tasks.Skip` if there is nothing to do.
            Only one file is read at a time.
        code: gets the task and the source.
        write: gets the task and the result, and gives the report on the file.
        held: bytes that a file takes from reading to writing; gets the task, before it is read.
        needed: bytes that it takes besides while it is coded; gets the task and the source.
    """

    read: Callable[[Task], Source]
    code: Callable[[Task, Source], Result]
    write: Callable[[Task, Result], Mapping[str, Any]]
    held: Callable[[Task], int] | None = None
    needed: Callable[[Task, Source], int] | None = None


def default_jobs(files: int) -> int:
    """How many files to code at the same time."""
    return max(1, min(files, usable_cores(), _MOST_JOBS))


def threads_each(plan: Plan, jobs: int | None) -> int | None:
    """Threads for the networks of each job of a plan; ``None`` for all, of a single file.

    Args:
        plan: the files.
        jobs: as for :func:`run`.
    """
    return _share(jobs or default_jobs(len(plan.tasks))) if plan.is_job else None


def _share(jobs: int) -> int:
    return max(1, allowed_threads() // jobs)


def run(
    plan: Plan,
    stages: Stages[Any, Any],
    *,
    jobs: int | None,
    title: str,
    as_json: bool,
    debug: bool,
    notes: Notes | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> None:
    """Work on all files and print the report: of a single file a line, else a summary.

    A file that fails does not stop the others; it is listed at the end.

    Args:
        plan: the files.
        stages: what is done with each.
        jobs: files that are coded at the same time; ``None`` for as many as fit the cores.
        title: what the progress bar says.
        as_json: print JSON.
        debug: print the traceback of each file that fails.
        notes: what the stages have to say about the files; summed up at the end.
        quiet: print no report.
        verbose: print all that is reported of a single file, or of each of several.

    Raises:
        typer.Exit: status 1, because a file of several failed.
        Exception: whatever made a single file fail.
    """
    if not plan.is_job:
        [task] = plan.tasks
        try:
            report = stages.write(task, stages.code(task, stages.read(task)))
        except Skip:
            report = {"source": str(task.source), "file": str(task.target), "skipped": True}
        to_stderr = task.target == STANDARD
        if as_json or (verbose and not quiet):
            print_report(report, as_json, to_stderr=to_stderr)
        elif not quiet:
            print_line(one_line(report), to_stderr=to_stderr)
        return
    jobs = jobs or default_jobs(len(plan.tasks))
    reports, failed = [], list(plan.failed)
    skipped = 0
    start = time.perf_counter()
    with progress_bar(title, len(plan.tasks)) as advance, _share_of_cores(jobs) as threads:

        def write(task: Task, result: Any) -> Mapping[str, Any]:
            report = stages.write(task, result)
            # Not in the loop below, which an interruption ends before files that are written then.
            advance(task.source.name)
            return report

        telling = replace(stages, write=write)
        with contextlib.closing(_outcomes(plan.tasks, telling, jobs, threads)) as outcomes:
            for task, outcome in outcomes:
                try:
                    reports.append(outcome.result())
                    continue
                except Skip:
                    skipped += 1
                except EXPECTED as error:
                    if debug:
                        traceback.print_exception(error)
                    failed.append((task.source, error))
                advance(task.source.name)
    seconds = time.perf_counter() - start
    if notes is not None:
        notes.sum_up()
    if verbose and not (quiet or as_json):
        for report in reports:
            print_line(one_line(report))
    if not quiet or as_json:
        _summarise(reports, skipped, failed, seconds, jobs, as_json)
    print_failures(failed)
    if failed:
        raise typer.Exit(1)


def _outcomes(
    tasks: Sequence[Task], stages: Stages[Any, Any], jobs: int, threads: int
) -> Generator[tuple[Task, Future[Any]], None, None]:
    """Each task with its report or error, in order."""
    from compressai.bitstream import MemoryBudget

    # A small image costs more in the queue than in memory.
    ahead = 2 * jobs
    pending: collections.deque[tuple[Task, Future[Any]]] = collections.deque()
    sizes: collections.deque[int] = collections.deque()
    coding = MemoryBudget(_MOST_CODING)

    def held(task: Task) -> int:
        try:
            return 0 if stages.held is None else stages.held(task)
        except EXPECTED:  # reading will say why
            return 0

    def code(task: Task, source: Future[Any]) -> Any:
        content = source.result()
        _give_torch(threads)
        with coding.hold(0 if stages.needed is None else stages.needed(task, content)):
            # Perhaps it was imported only now.
            _give_torch(threads)
            return stages.code(task, content)

    # pillow's and torch's warnings are caught while reading, which only one thread can do.
    readers = ThreadPoolExecutor(1, "read")
    coders = ThreadPoolExecutor(jobs, "code")
    writers = ThreadPoolExecutor(jobs, "write")
    try:
        for task in tasks:
            size = 0 if stages.held is None else readers.submit(held, task).result()
            while pending and (len(pending) > ahead or sum(sizes) + size > _MOST_HELD):
                # Whoever gets it waits for its end, when its memory is free.
                yield pending.popleft()
                sizes.popleft()
            source = readers.submit(stages.read, task)
            result = coders.submit(code, task, source)
            report = writers.submit(lambda t, r: stages.write(t, r.result()), task, result)
            pending.append((task, report))
            sizes.append(size)
            del source, result
        while pending:
            yield pending.popleft()
    finally:
        for pool in (writers, coders, readers):
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in (readers, coders, writers):
            pool.shutdown(wait=True)


def _give_torch(threads: int) -> None:
    """Set the threads of operations of torch that this thread calls, if torch is used at all."""
    torch = sys.modules.get("torch")
    # Another thread may be importing it, and this one waits for that before it uses it.
    if hasattr(torch, "get_num_threads") and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@contextmanager
def _share_of_cores(jobs: int) -> Iterator[int]:
    """Threads for the operations of each job, set for the time being."""
    threads = _share(jobs)
    with torch_threads(threads):
        yield threads


def _summarise(
    reports: Sequence[Mapping[str, Any]],
    skipped: int,
    failed: Failed,
    seconds: float,
    jobs: int,
    as_json: bool,
) -> None:
    pixels = sum(report["width"] * report["height"] for report in reports)
    summary: dict[str, Any] = {"done": len(reports), "skipped": skipped, "failed": len(failed)}
    summary |= size_figures(reports, as_json)
    summary["seconds"] = seconds
    if reports:
        summary["images_per_second"] = len(reports) / seconds
        summary["megapixels_per_second"] = pixels / 1e6 / seconds
    summary["jobs"] = jobs
    if as_json:
        summary |= {"failed": failures(failed), "files": list(reports)}
    print_report(summary, as_json)


def size_figures(reports: Sequence[Mapping[str, Any]], as_json: bool) -> dict[str, Any]:
    """What a summary says of sizes.

    Args:
        reports: of each file, with its pixels; of coded ones with ``bytes``, and ``source_bytes``
            if they are known.
        as_json: for JSON rather than people.

    Returns:
        Nothing if no file was coded. What is saved is left out where the size of a source is not
        known.
    """
    size = sum(report.get("bytes") or 0 for report in reports)
    if not size:
        return {}
    pixels = sum(report["width"] * report["height"] for report in reports)
    figures: dict[str, Any] = {"bytes": size, "bpp": 8 * size / pixels}
    before = [report.get("source_bytes") or 0 for report in reports]
    if all(before):
        saving = _saving(size, sum(before))
        figures |= {"source_bytes": sum(before), "saving": saving if as_json else f"{saving:.1%}"}
    return figures


def one_line(report: Mapping[str, Any]) -> str:
    """What became of one file."""
    line = f"{report['source']} -> {report['file']}"
    if report.get("skipped"):
        return f"{line}: skipped, it is there"
    facts = [f"{report['width']} x {report['height']}"]
    if "bytes" in report:
        facts += [f"{report['bytes']} bytes", f"{report['bpp']:.3f} bpp"]
    if report.get("source_bytes"):
        facts.append(f"{_saving(report['bytes'], report['source_bytes']):.1%} saved")
    if report.get("random_weights"):
        facts.append("RANDOM weights")
    if "engine" in report:
        facts.append(f"by {report['engine']}")
    return f"{line}: {', '.join(facts)}"


def _saving(size: int, before: int) -> float:
    return 1 - size / before
