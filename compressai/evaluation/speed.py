# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How fast a model codes an image, and which of its parts takes the time."""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from compressai.bitstream import CodedImage, ImageData, decode_image, encode_image
from compressai.evaluation._text import format_table

__all__ = ["Speed", "StageTimes", "measure_speed"]

_TRANSFORMS = ("g_a", "g_s")
_HYPER_TRANSFORMS = ("h_a", "h_s")
REST = "contexts, entropy models and coder"
FILE = "file, padding and checks"


@dataclass(frozen=True)
class StageTimes:
    """Seconds of one direction.

    Attributes:
        seconds: of each repetition.
        stages: median seconds of each part.
    """

    seconds: list[float]
    stages: dict[str, float]

    @property
    def median(self) -> float:
        """Median of the repetitions."""
        return statistics.median(self.seconds)

    @property
    def images_per_second(self) -> float:
        """Images of this size in a second, one after the other."""
        return 1 / self.median


@dataclass(frozen=True)
class Speed:
    """What :func:`measure_speed` found.

    Attributes:
        width, height: size of the image.
        bytes: length of the file.
        encode, decode: times.
        peak_memory: bytes, see :func:`measure_speed`.
        threads: that torch may use.
        device: where the model is.
    """

    width: int
    height: int
    bytes: int
    encode: StageTimes
    decode: StageTimes
    peak_memory: int
    threads: int
    device: str

    def __str__(self) -> str:
        rows = []
        for name, times in (("encode", self.encode), ("decode", self.decode)):
            rows.append(
                [
                    *(name, f"{1000 * times.median:.1f}", f"{times.images_per_second:.2f}"),
                    f"{self.width * self.height / 1e6 / times.median:.2f}",
                ]
            )
            rows += [
                [f"  {stage}", f"{1000 * seconds:.1f}", "", ""]
                for stage, seconds in times.stages.items()
            ]
        table = format_table(
            f"{self.width} x {self.height} pixels, {self.bytes} bytes, {self.device}, "
            f"{self.threads} threads, medians of {len(self.encode.seconds)}",
            ["", "ms", "images/s", "Mpixel/s"],
            rows,
        )
        return f"{table}\npeak memory {self.peak_memory / 1e6:.0f} MB"

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data."""
        directions = {
            name: {
                "seconds": times.median,
                "min": min(times.seconds),
                "max": max(times.seconds),
                "images_per_second": times.images_per_second,
                "megapixels_per_second": self.width * self.height / 1e6 / times.median,
                "stages": times.stages,
            }
            for name, times in (("encode", self.encode), ("decode", self.decode))
        }
        return {
            "width": self.width,
            "height": self.height,
            "bytes": self.bytes,
            **directions,
            "peak_memory_bytes": self.peak_memory,
            "threads": self.threads,
            "device": self.device,
            "torch": torch.__version__,
        }


def measure_speed(
    net: nn.Module,
    image: ImageData,
    *,
    model: str,
    quality: int | None = None,
    repeats: int = 5,
) -> Speed:
    """Code an image to a file in memory and back, several times, after once to warm up.

    Stages are the transforms ``g_a``, ``g_s``, ``h_a`` and ``h_s`` where the model has them under
    these names; the rest of ``compress`` and ``decompress``; and what is around them.

    Args:
        net: model with tables, in evaluation mode, prepared or not.
        image: the image.
        model, quality: what the file says about the weights.
        repeats: timed repetitions.

    Returns:
        The figures. Peak memory is what the device allocated at most for it on a GPU; on a
        processor, the most that the whole process has had so far, libraries and weights included
        (0 where the system does not tell).

    Raises:
        ValueError: ``repeats`` below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    device = next(net.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    content = b""

    def encode() -> None:
        nonlocal content
        content = encode_image(net, image, model=model, quality=quality).to_bytes()

    def decode() -> None:
        decode_image(net, CodedImage.from_bytes(content))

    times = {}
    for name, method, run in (
        ("encode", "compress", encode),
        ("decode", "decompress", decode),
    ):
        run()
        times[name] = _times(net, method, run, repeats, device)
    width, height = image.size
    return Speed(
        width=width,
        height=height,
        bytes=len(content),
        encode=times["encode"],
        decode=times["decode"],
        peak_memory=_peak_memory(device),
        threads=torch.get_num_threads(),
        device=str(device),
    )


def _times(
    net: nn.Module, method: str, run: Callable[[], None], repeats: int, device: torch.device
) -> StageTimes:
    seconds: list[float] = []
    stages: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        with _clocks(net, method, device) as spent:
            start = time.perf_counter()
            run()
            total = time.perf_counter() - start
        seconds.append(total)
        inside = spent.pop(method)
        for name, value in spent.items():
            stages[name].append(value)
        stages[REST].append(inside - sum(spent.values()))
        stages[FILE].append(total - inside)
    return StageTimes(seconds, {name: statistics.median(stages[name]) for name in stages})


@contextlib.contextmanager
def _clocks(net: nn.Module, method: str, device: torch.device) -> Iterator[dict[str, float]]:
    """Seconds inside of a method and of the transforms, while the context lasts."""
    spent: dict[str, float] = defaultdict(float)
    inside = False

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def clock(*args: Any, **kwargs: Any) -> Any:
            nonlocal inside
            if name != method and not inside:
                return call(*args, **kwargs)
            inside = True
            _wait(device)
            start = time.perf_counter()
            out = call(*args, **kwargs)
            _wait(device)
            spent[name] += time.perf_counter() - start
            inside = name != method
            return out

        return clock

    parts = [
        (module, name)
        for module in net.modules()
        for name in (*_TRANSFORMS, *_HYPER_TRANSFORMS)
        if callable(getattr(module, name, None))
    ]
    shadowed = [(owner, name, vars(owner).get(name)) for owner, name in [(net, method), *parts]]
    try:
        for owner, name, _ in shadowed:
            # Past nn.Module, so that neither registered modules nor the state dict change. A
            # prepared model keeps its transforms in the same place.
            vars(owner)[name] = timed(name, getattr(owner, name))
        yield spent
    finally:
        for owner, name, before in shadowed:
            del vars(owner)[name]
            if before is not None:
                vars(owner)[name] = before


def _wait(device: torch.device) -> None:
    """Until a GPU, which is only told what to do, has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        # Not there on Windows.
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
