# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Passes of a job on Ray Data: a pool of actors, each with a worker of its own."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from compressai._distribution import install_command
from compressai.cluster.job import Item, JobReport, MakeWorker, run_job, work_on
from compressai.cluster.manifest import SCHEMA, Manifest
from compressai.extensions import import_models, named_modules

__all__ = ["Run", "ray_cluster", "ray_pass"]

# Files that travel together. Few, so that the last ones are spread well over the workers.
_BATCH = 8


@dataclass(frozen=True)
class Run:
    """How files are worked on by a cluster, whatever is done to them.

    Args:
        workers: number of workers; default: one for each processor of the cluster.
        retries: how often a file is tried again.
        on_start: called with the number of files that are left, before the work.
        on_row: called with each row of the manifest as it comes.
    """

    workers: int | None = None
    retries: int = 2
    on_start: Callable[[int], None] | None = None
    on_row: Callable[[Mapping[str, Any]], None] | None = None

    def work(self, items: Sequence[Item], make_worker: MakeWorker, manifest: Manifest) -> JobReport:
        """Work on files; there is no cluster where there are none.

        Args:
            items, make_worker, manifest: as for :func:`~compressai.cluster.run_job`.

        Raises:
            OSError, ValueError: as there.
            RuntimeError: there is no cluster, or a worker cannot be made.
        """
        if self.on_start is not None:
            self.on_start(len(items))
        if not items:
            return JobReport()
        with ray_cluster() as processors:
            one_pass = functools.partial(ray_pass, workers=self.workers or processors)
            return run_job(
                items, make_worker, manifest, one_pass, retries=self.retries, on_row=self.on_row
            )


@contextlib.contextmanager
def ray_cluster() -> Iterator[int]:
    """Join the cluster that ``RAY_ADDRESS`` names, or start one on this machine for the time being.

    Gives the number of its processors.

    Raises:
        ImportError: Ray is not installed.
        RuntimeError: there is no such cluster, or none can be started.
    """
    # Ray tells its makers about its use, unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # The core of Ray warns that actors could lack their arguments when they are started again. They
    # cannot: the arguments lie in the object store of the driver's machine, and the pass that the
    # actors are of keeps hold of them. What matters comes as exceptions.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        # Of the extra ray.
        import ray
    except ImportError as error:
        raise ImportError(f"--engine ray needs Ray: {install_command('ray')}") from error

    started = not ray.is_initialized()
    if started:
        try:
            # A dashboard is for clusters that stay.
            dashboard = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **dashboard)
        except (ConnectionError, ValueError) as error:
            raise RuntimeError(f"no Ray cluster: {error}") from error
    try:
        yield int(ray.cluster_resources().get("CPU", 1))
    finally:
        if started:
            ray.shutdown()


def ray_pass(
    items: Sequence[Item],
    make_worker: MakeWorker,
    number: int,
    retries: int,
    *,
    workers: int,
) -> Iterator[list[dict[str, Any]]]:
    """One pass over files; see :func:`~compressai.cluster.run_job`.

    Args:
        items, make_worker, number, retries: as there.
        workers: number of actors, of one processor each.

    Raises:
        RuntimeError: a worker cannot be made, such as for want of its weights.
    """
    # Of the extra ray.
    import ray
    from ray.data import ActorPoolStrategy, DataContext
    from ray.exceptions import RayError
    from ray.util.annotations import RayDeprecationWarning

    context = DataContext.get_current()
    context.enable_progress_bars = False
    # Whatever is lost with a process is for the next pass.
    context.max_errored_blocks = -1
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    # Machines may have gone since the last pass.
    workers = max(1, min(workers, len(items), int(ray.cluster_resources().get("CPU", 1))))
    batch = _BATCH if number == 0 else 1
    batch = max(1, min(batch, len(items) // (4 * workers)))
    try:
        names = [{"source": item.source, "target": item.target} for item in items]
        blocks = ray.data.from_items(names, override_num_blocks=-(-len(items) // batch))
        with warnings.catch_warnings():
            # Ray means to drop arguments of actors, and has nothing in their place yet.
            warnings.simplefilter("ignore", RayDeprecationWarning)
            rows = blocks.map_batches(
                _Actor,
                fn_constructor_args=(
                    functools.partial(make_worker, number),
                    retries,
                    named_modules(),
                ),
                batch_size=batch,
                batch_format="pyarrow",
                # Tasks that wait for a worker fail with it: from the second pass on, none waits.
                compute=ActorPoolStrategy(
                    size=workers, max_tasks_in_flight_per_actor=None if number == 0 else 1
                ),
                num_cpus=1,
                # Ray's own retries would wait for machines that do not come back.
                max_restarts=-1,
                max_task_retries=0,
            )
        for table in rows.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield table.to_pylist()
    except RayError as error:
        raise RuntimeError(f"a worker cannot be made: {_cause(error)}") from error
    finally:
        logger.setLevel(level)


class _Actor:
    """A worker as Ray Data wants it: tables in, tables out."""

    def __init__(self, make_worker: Any, retries: int, modules: Sequence[str]) -> None:
        # Slow to import, and not needed to read headers.
        import torch

        # Models of the user's own, that the driver knows.
        import_models(modules)

        # One processor is what it was given.
        torch.set_num_threads(1)
        self.worker, self.retries = make_worker(), retries

    def __call__(self, table: pa.Table) -> pa.Table:
        items = [Item(row["source"], row["target"]) for row in table.to_pylist()]
        rows: list[Mapping[str, Any]] = list(work_on(self.worker, items, self.retries))
        return pa.Table.from_pylist(rows, SCHEMA.remove(SCHEMA.get_field_index("settings")))


def _cause(error: BaseException) -> str:
    """The last line of what Ray tells, which says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
