# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How a run tells about itself: log lines, progress bars, JSON lines, TensorBoard."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compressai._distribution import install_command

__all__ = ["TRACKERS", "AverageMeter", "Reporter", "format_losses"]

# Packages that keep the course of runs, all with the functions init, log and finish.
TRACKERS = ("trackio", "wandb")

# The labels and decimals are what scripts that read these logs expect.
_LABELS = {
    "loss": ("Loss", ".3f"),
    "mse_loss": ("MSE loss", ".3f"),
    "ms_ssim_loss": ("MS-SSIM", ".4f"),
    "bpp_loss": ("Bpp loss", ".2f"),
    "aux_loss": ("Aux loss", ".2f"),
}


class AverageMeter:
    """Running mean."""

    def __init__(self) -> None:
        self.val: Any = 0
        self.avg: Any = 0
        self.sum: Any = 0
        self.count = 0

    def update(self, val: Any, n: int = 1) -> None:
        """Count ``val`` ``n`` times."""
        self.val = val
        self.sum = self.sum + val * n
        self.count += n
        self.avg = self.sum / self.count


class Reporter:
    """Tells how training goes: log lines, or a progress bar on a terminal, and JSON lines.

    Args:
        log_file: file to append one JSON object to per report, or ``None``.
        terminal: draw progress bars; default: if the standard output is a terminal.
        tensorboard: folder for TensorBoard, or ``None``.
        silent: tell nothing at all, for all processes of a run but one.
        track: one of :data:`TRACKERS` to tell the same as TensorBoard, or ``None``.
        options: of the run, for that package.

    Attributes:
        latest: values of the last record of each event.

    Raises:
        ImportError: what is to be told is not installed.
    """

    def __init__(
        self,
        log_file: Path | None = None,
        terminal: bool | None = None,
        tensorboard: Path | None = None,
        silent: bool = False,
        track: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.silent = silent
        self.log_file = None if silent else log_file
        self.terminal = not silent and (sys.stdout.isatty() if terminal is None else terminal)
        self._progress: Any = None
        self._board: Any = None
        self._epochs: int | None = None
        self._finished = 0
        self._begun = 0.0
        self.latest: dict[str, dict[str, Any]] = {}
        self._tracker: Any = None
        if track is not None and not silent:
            self._tracker = _tracker(track)
            self._tracker.init(project="compressai", config=dict(options or {}))
        if tensorboard is not None and not silent:
            self._board = _board_writer(tensorboard)

    def plan(self, epochs: int) -> None:
        """Say how many epochs are to come, so that bars tell when the run ends.

        Args:
            epochs: number of bars of the run.
        """
        self._epochs, self._finished, self._begun = epochs, 0, time.monotonic()

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[None]:
        """Draw a progress bar around an epoch; nothing if there is no terminal."""
        if not self.terminal:
            yield
            return
        # Slow to import, and needed for bars only.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
        )
        with Progress(
            *columns, console=Console(force_terminal=True), transient=True
        ) as self._progress:
            self._progress.add_task(title, total=total, numbers="")
            yield
        self._progress = None
        self._finished += 1

    def run_ends(self, done: int) -> str:
        """When the run ends, ``done`` of its epochs being over: ``; run ends in 2 h 5 min``."""
        if self._epochs is None or not 0 < done < self._epochs:
            return ""
        left = (time.monotonic() - self._begun) * (self._epochs - done) / done
        return f"; run ends in {_duration(left)}"

    def advance(self, values: dict[str, float] | None = None) -> None:
        """Move the bar by one batch."""
        if self._progress is not None:
            numbers = {} if values is None else {"numbers": self._numbers(values)}
            self._progress.update(self._progress.task_ids[0], advance=1, **numbers)

    def _numbers(self, values: Mapping[str, float]) -> str:
        """Short labels: all of it has to fit beside the bar."""
        known = {key: value for key, value in values.items() if key != "mse_loss"}
        text = format_losses(known).replace("\t", " ").replace(" loss:", "")
        mse = values.get("mse_loss", 0)
        if mse > 0:
            text += f" | {-10 * math.log10(mse):.2f} dB"
        if self._epochs is not None:
            task = self._progress.tasks[0]
            done = self._finished + task.completed / task.total
            if done:
                left = (time.monotonic() - self._begun) * (self._epochs - done) / done
                text += f" | run ends in {_duration(left)}"
        return text

    def line(self, text: str, *, bar_instead: bool = False) -> None:
        """Print a line; with ``bar_instead`` only where there is no bar that shows as much."""
        if not self.silent and (self._progress is None or not bar_instead):
            print(text, flush=True)

    def record(self, event: str, **values: Any) -> None:
        """Append a line to the log file; numbers go to TensorBoard, too.

        Args:
            event: what happened.
            values: JSON data. ``step``, or else ``epoch``, is where TensorBoard draws the others.
        """
        self.latest[event] = values
        if self.log_file is not None:
            with open(self.log_file, "a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, "time": time.time(), **values}) + "\n")
        if self._board is not None:
            step = values.get("step", values.get("epoch"))
            for name, value in values.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{event}/{name}", value, step)
            self._board.flush()
        if self._tracker is not None:
            numbers = {k: v for k, v in values.items() if isinstance(v, float)}
            # Named, since steps of tests and of batches are counted apart.
            place = {k: values[k] for k in ("step", "epoch") if k in values}
            self._tracker.log({f"{event}/{k}": v for k, v in {**place, **numbers}.items()})

    def close(self) -> None:
        """Finish what is being written."""
        if self._board is not None:
            self._board.close()
        if self._tracker is not None:
            self._tracker.finish()


def _duration(seconds: float) -> str:
    minutes = math.ceil(max(seconds, 0) / 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _tracker(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f"--track {name} needs that package: pip install {name}") from error


def _board_writer(folder: Path) -> Any:
    try:
        # Of the extra tensorboard.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            f"--tensorboard needs the package tensorboard: {install_command('tensorboard')}"
        ) from error
    return SummaryWriter(str(folder))


def format_losses(values: Mapping[str, float]) -> str:
    """The part of a log line that lists the losses, in a fixed order."""
    return " |\t".join(
        f"{label}: {values[key]:{style}}"
        for key, (label, style) in _LABELS.items()
        if key in values
    )
