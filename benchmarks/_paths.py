# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Ways to run a model, each in a process of its own.

Preparing a model changes how the process handles its memory, so that the model as it is would not
be measured as it is beside a prepared one.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
from _memory import peak_memory
from _report import PHOTO
from _stages import split_time
from PIL import Image
from torch import nn
from torchvision.transforms.functional import pil_to_tensor

from compressai.bitstream._nets import supports_sync_safe
from compressai.inference import keep_freed_memory, prepare
from compressai.zoo import image_models
from compressai.zoo.weights import weights_at_hand

__all__ = ["CLOCKS", "PATHS", "Runner", "build", "images"]

PATHS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "reference": lambda net: net,
    "fp32": lambda net: prepare(net, "fp32"),
    "bf16": lambda net: prepare(net, "bf16"),
    "auto": prepare,
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def build(name: str, quality: int) -> nn.Module:
    """A model with its weights if they ship, else random ones, whose networks take as long."""
    torch.manual_seed(0)
    net = image_models[name](quality, pretrained=weights_at_hand(name, "mse", quality))
    net.eval().update()
    return net


def images(count: int, height: int, width: int) -> torch.Tensor:
    """A photograph of some size, ``count`` times, a little shifted."""
    with Image.open(PHOTO) as photo:
        x = pil_to_tensor(photo.convert("RGB").resize((width, height))).div(255)
    return torch.stack([x.roll(8 * k, dims=-1) for k in range(count)])


class Runner:
    """A model that runs in one of the ways, in a process that starts at once.

    Args:
        name: of the model in the zoo.
        quality: there.
        path: one of :data:`PATHS`.
        threads: of torch; ``None`` for what it takes.
        clock: one of :data:`CLOCKS`.
        sync_safe: code in synchrony, if the model can.

    Methods of :class:`_Coder` are called by :meth:`ask`. To be closed by ``with``.
    """

    def __init__(
        self,
        name: str,
        quality: int,
        path: str,
        threads: int | None,
        clock: str,
        sync_safe: bool = False,
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        arguments = (other, name, quality, path, threads, clock, sync_safe)
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        # So that reading ends when the process does.
        other.close()

    def ask(self, method: str, *arguments: Any) -> Any:
        """What a method of :class:`_Coder` gives.

        Raises:
            RuntimeError: the process ended; what went wrong is on standard error.
        """
        try:
            self._connection.send((method, arguments))
            return self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise RuntimeError(f"the process that was to {method} has ended") from error

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._process.join()


def _serve(connection: Connection, *arguments: Any) -> None:
    coder = _Coder(*arguments)
    while True:
        try:
            method, values = connection.recv()
        except EOFError:
            return
        connection.send(getattr(coder, method)(*values))


class _Coder:
    """What :class:`Runner` asks."""

    def __init__(
        self,
        name: str,
        quality: int,
        path: str,
        threads: int | None,
        clock: str,
        sync_safe: bool,
    ) -> None:
        if threads:
            torch.set_num_threads(threads)
        if path != "reference":
            keep_freed_memory()
        self.net = PATHS[path](build(name, quality))
        self.clock = CLOCKS[clock]
        # Not all models know the argument.
        sync_safe = sync_safe and supports_sync_safe(self.net)
        self.options = {"sync_safe": True} if sync_safe else {}
        self.tasks: dict[str, Callable[[], Any]] = {}

    def show(self, size: tuple[int, int], batch: int) -> tuple[list[int], list[list[bytes]]]:
        """Take images to code from now on; gives their size and the strings of one."""
        multiple = getattr(self.net, "downsampling_factor", 64)
        height, width = (side + -side % multiple for side in size)
        self.x, several = images(1, height, width), images(batch, height, width)
        options = self.options
        coded = self.net.compress(self.x, **options)
        self.tasks = {
            "compress": lambda: self.net.compress(self.x, **options),
            "decompress": lambda: self.net.decompress(coded["strings"], coded["shape"], **options),
            "batch": lambda: self.net.compress(several, **options),
        }
        return [height, width], coded["strings"]

    def seconds(self, task: str) -> float:
        """How long a task takes, once."""
        start = self.clock()
        self.tasks[task]()
        return self.clock() - start

    def split(self) -> dict[str, float]:
        """Seconds of each stage of compressing and decompressing, once."""
        safe = bool(self.options)
        parts = [split_time(self.net, self.tasks[task], self.clock, safe) for task in _BOTH]
        return {stage: sum(part[stage] for part in parts) for stage in parts[0]}

    def memory(self) -> dict[str, Any]:
        """Peaks in bytes, and those of coding over that of the larger transform alone."""
        with torch.inference_mode():
            y = self.net.g_a(self.x)
            transforms = {"g_a": lambda: self.net.g_a(self.x), "g_s": lambda: self.net.g_s(y)}
            calls = transforms | {task: self.tasks[task] for task in _BOTH}
            peaks = {
                name: dict(zip(("tensors", "process"), peak_memory(call)))
                for name, call in calls.items()
            }
        larger = max(peaks[name]["tensors"] for name in transforms)
        coding = max(peaks[task]["tensors"] for task in _BOTH)
        return {"peak_bytes": peaks, "coding_over_transforms": coding / larger}


_BOTH = ("compress", "decompress")
