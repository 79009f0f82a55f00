# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Cores of this machine, and how images that are coded at the same time share them.

Several images side by side keep cores busier than one image on all of them, because much of coding
cannot be split. So a lone image gets all cores, and as soon as there are as many images as cores,
each gets one. The server in ``examples/serve.py`` and the Pillow plugin share cores by
:class:`Cores`. ``compressai encode`` knows beforehand how many images a folder has, and divides
:func:`allowed_threads`, so that the same command computes with the same threads each time; to the
workers of a cluster Ray gives one core each.

Nothing here imports torch.
"""

from __future__ import annotations

import collections
import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["Cores", "allowed_threads", "torch_threads", "usable_cores", "wait_passively"]

# Version 2 of control groups: microseconds of processor time in a period, and the period.
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """Cores that this process may use: those that it may run on, or fewer where it is in a
    container with a limit of processor time."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = _QUOTA.read_text().split()
        cores = min(cores, int(quota) // int(period))
    except (OSError, ValueError):  # no Linux, no control groups, or "max"
        pass
    return max(1, cores)


def allowed_threads() -> int:
    """Threads that this process may compute with: what torch was told where it is loaded, else what
    ``OMP_NUM_THREADS`` says, and no more than :func:`usable_cores`."""
    torch = sys.modules.get("torch")
    # Another thread may be importing it.
    if hasattr(torch, "get_num_threads"):
        most = torch.get_num_threads()
    else:
        told = os.environ.get("OMP_NUM_THREADS", "")
        most = int(told) if told.isdecimal() and int(told) else usable_cores()
    return max(1, min(most, usable_cores()))


def wait_passively() -> bool:
    """Let torch's threads sleep while they wait for each other; torch must not be loaded yet.

    By default a thread that is done with its share of an operation spins until the others are.
    Where other programs are at work, it takes the core that the others wait for. Asleep, it does
    not; on a quiet machine waking up costs a few percent. The program ``compressai`` calls this.
    It sets ``OMP_WAIT_POLICY`` for this process and those that it starts, unless somebody set it.

    Returns:
        Whether the setting takes effect; ``False`` if torch was loaded before, and its threads wait
        as they did.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return "torch" not in sys.modules


_setting = threading.Lock()
_set_now = 0
_usual = 1


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """That many threads for operations of torch that this thread calls, if torch is loaded.

    Afterwards it has as many as the first of the threads that are inside now had before.

    Args:
        count: at least 1.
    """
    global _set_now, _usual
    torch = sys.modules.get("torch")
    # Another thread may be importing it.
    if not hasattr(torch, "get_num_threads"):
        yield
        return
    with _setting:
        # Threads that torch meets later take the number that was set last, wherever that was. So
        # what a thread has while others are inside says nothing.
        if _set_now == 0:
            _usual = torch.get_num_threads()
        _set_now += 1
        torch.set_num_threads(count)
    try:
        yield
    finally:
        with _setting:
            _set_now -= 1
            torch.set_num_threads(_usual)


class Cores:
    """Cores that the threads of a process share out among the images that they work on.

    A request takes its share of what is free, and waits while nothing is: never do images have
    more threads than there are cores. The share is all cores divided by the most requests that were
    there at once of late, so that two clients of a server do not take turns with one image on all
    cores.
    A thread that holds cores must not ask for more: it could wait for itself.

    Args:
        count: cores to share out; ``None`` takes :func:`allowed_threads` at the first request.

    Raises:
        ValueError: ``count`` is less than 1.

    Example:
        >>> cores = Cores(4)
        >>> with cores.hold() as threads:
        ...     threads  # nobody else is there
        4
    """

    def __init__(self, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        self._count = count
        self._free = count
        self._present = 0
        self._changed = threading.Condition()
        self._recent: collections.deque[int] = collections.deque()

    @property
    def count(self) -> int:
        """Cores that are shared out."""
        with self._changed:
            return self._total()

    @contextlib.contextmanager
    def hold(self) -> Iterator[int]:
        """Take cores for one image. Waits while none is free.

        Gives the number of cores, which is that of threads to compute with. Operations of torch
        that the calling thread starts meanwhile have so many.
        """
        threads = self._take()
        try:
            with torch_threads(threads):
                yield threads
        finally:
            with self._changed:
                assert self._free is not None
                self._free += threads
                self._present -= 1
                self._changed.notify_all()

    def _take(self) -> int:
        with self._changed:
            total = self._total()
            self._present += 1
            # Clients that send their next request as soon as they have an answer are gone for a
            # moment only. A number of arrivals, not a time: it is the same however fast they are.
            self._recent.append(self._present)
            if len(self._recent) > 2 * total + 1:
                self._recent.popleft()
            try:
                self._changed.wait_for(lambda: self._free)
            except BaseException:  # such as Ctrl-C
                self._present -= 1
                raise
            assert self._free is not None
            threads = min(max(1, total // max(self._recent)), self._free)
            self._free -= threads
            return threads

    def _total(self) -> int:
        if self._count is None:
            self._count = self._free = allowed_threads()
        return self._count
