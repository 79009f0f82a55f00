# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Work on many items in a few threads, with results in order and few of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

__all__ = ["default_workers", "map_in_order"]

Item = TypeVar("Item")
Result = TypeVar("Result")

# Each worker needs the memory of one tile.
_MAX_WORKERS = 4


def default_workers() -> int:
    """How many items are worked on at a time, if nobody says."""
    return min(_MAX_WORKERS, torch.get_num_threads())


def map_in_order(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int | None
) -> Iterator[Result]:
    """Results of a function for each item, in their order.

    The threads of torch are shared out among the workers.

    Args:
        function: what is called.
        items: with what.
        workers: threads; 1 calls the function in this one, ``None`` takes as many as torch has,
            but no more than four.

    Raises:
        ValueError: ``workers`` is less than 1.
    """
    threads = torch.get_num_threads()
    if workers is None:
        workers = default_workers()
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(function, items)
        return
    share = max(1, threads // workers)
    running: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
            # Threads that torch meets later take the number that was set last.
            torch.set_num_threads(threads)
