# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate-distortion plots, drawn by matplotlib (extra ``plot``)."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from compressai._files import atomic_write, open_regular, read_up_to
from compressai.evaluation._extras import require
from compressai.evaluation.metrics import LPIPS, MS_SSIM, PSNR

__all__ = [
    "PlotCurve",
    "check_plot_file",
    "close_up",
    "curves_of",
    "draw_curves",
    "full_name",
    "read_curves",
    "require_matplotlib",
    "save_plot",
]

_LABELS = {PSNR: "PSNR (dB)", MS_SSIM: "MS-SSIM (dB)", LPIPS: "LPIPS (lower is better)"}
_SUFFIXES = (".png", ".svg", ".pdf")
# Of a file of results: a million points take half as much.
_MOST_BYTES = 2**28
# Codecs that are drawn dashed: what others are compared with.
_CLASSICAL = re.compile(r"hm|vtm|x26[45]|jpeg|jpeg2000|jxl|webp|bpg|av1|avif")


def check_plot_file(path: str | os.PathLike[str]) -> None:
    """Find out before the work whether a plot can be drawn into a file.

    Raises:
        ImportError: the extra ``plot`` is not installed.
        ValueError: unknown suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        raise ValueError(
            f"{os.fspath(path)}: the suffix must be one of {' '.join(_SUFFIXES)}, got {suffix!r}"
        )
    require_matplotlib()


def require_matplotlib() -> ModuleType:
    """The module ``matplotlib.figure``.

    Raises:
        ImportError: the extra ``plot`` is not installed.
    """
    return require("matplotlib.figure", "plot", "a plot")


@dataclass(frozen=True)
class PlotCurve:
    """A curve to draw.

    Attributes:
        name: for the legend.
        rates, values: the points.
    """

    name: str
    rates: list[float]
    values: list[float]

    @property
    def is_classical(self) -> bool:
        """Whether one of the words of its name is a classical codec's."""
        words = re.split(r"[^a-z0-9]+", self.name.lower())
        return any(_CLASSICAL.fullmatch(word) for word in words)


def full_name(metric: str) -> str:
    """The key of a metric in results: ``psnr`` and ``ms-ssim`` stand for those of RGB."""
    return {"psnr": PSNR, "ms-ssim": MS_SSIM}.get(metric, metric)


def curves_of(
    curves: Sequence[Mapping[str, Any]], metric: str, rate: str = "bpp"
) -> list[PlotCurve]:
    """Points of one metric.

    Args:
        curves: ``name`` and ``results`` of each, see :meth:`Evaluation.curves`.
        metric: key of the results. Of MS-SSIM ``v``, what is drawn is ``-10 log10(1 - v)``.
        rate: key of the horizontal axis.

    Returns:
        The curves; points without a finite value, such as those without loss, are left out.

    Raises:
        ValueError: a curve has no such rate or metric; names those that it has.
    """
    chosen = []
    for curve in curves:
        results = curve["results"]
        for key in (rate, metric):
            if not isinstance(results.get(key), list):
                known = [k for k, v in results.items() if isinstance(v, list)]
                raise ValueError(
                    f"{curve['name']} has no values of {key!r}, only of {', '.join(known)}"
                )
        values = [_shown(metric, value) for value in results[metric]]
        points = [(r, v) for r, v in zip(results[rate], values) if v is not None]
        chosen.append(PlotCurve(curve["name"], [r for r, _ in points], [v for _, v in points]))
    return chosen


def _shown(metric: str, value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    if "ms-ssim" not in metric:
        return value
    return -10 * math.log10(1 - value) if value < 1 else None


def read_curves(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Curves in a file of results.

    Args:
        path: JSON of ``compressai eval``, or of the programs in ``compressai.utils``.

    Returns:
        ``name`` and ``results`` of each.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    path = Path(path)
    with open_regular(path) as file:
        text = read_up_to(file, _MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES} bytes, too many for results")
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is nested too deep for results") from None
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object with results, got {type(content).__name__}")
    curves = content.get("curves", [content])
    default = path.name.partition(".")[0]
    return [
        {"name": curve.get("name", default), "results": _full_names(curve.get("results", curve))}
        for curve in curves
    ]


def _full_names(results: Mapping[str, Any]) -> dict[str, Any]:
    """With the keys of metrics as evaluations write them, where people wrote short ones."""
    return {full_name(key): value for key, value in results.items()}


def close_up(
    curves: Sequence[PlotCurve], names: Collection[str]
) -> tuple[float, float, float, float] | None:
    """Ends of the axes that show some curves large, and what of the others is near them.

    Args:
        curves: all curves.
        names: of those to look at.

    Returns:
        ``(xmin, xmax, ymin, ymax)``, or ``None`` if they have no points.
    """
    rates = [rate for curve in curves if curve.name in names for rate in curve.rates]
    if not rates:
        return None
    right = 1.5 * max(rates)
    values = [v for curve in curves for r, v in zip(curve.rates, curve.values) if r <= right]
    margin = 0.04 * (max(values) - min(values)) or 1.0
    return 0.0, right, min(values) - margin, max(values) + margin


def draw_curves(
    curves: Sequence[PlotCurve],
    ylabel: str,
    *,
    title: str | None = None,
    xlabel: str = "rate (bits per pixel)",
    figsize: Sequence[float] = (9, 6),
    limits: Sequence[float] | None = None,
    interactive: bool = False,
) -> Any:
    """Draw curves, those of classical codecs dashed.

    Args:
        curves: what to draw.
        ylabel, xlabel, title: texts.
        figsize: width and height in inches.
        limits: ends of the axes, ``(xmin, xmax, ymin, ymax)``.
        interactive: let pyplot know the figure, so that ``pyplot.show`` shows it.

    Returns:
        A figure of matplotlib.

    Raises:
        ImportError: the extra ``plot`` is not installed.
    """
    if interactive:
        figure = require("matplotlib.pyplot", "plot", "a plot").figure(figsize=figsize)
    else:
        figure = require_matplotlib().Figure(figsize=figsize)
    axes = figure.add_subplot()
    for curve in curves:
        style = {"linestyle": "--"} if curve.is_classical else {"linewidth": 2.2, "zorder": 3}
        axes.plot(curve.rates, curve.values, marker=".", label=curve.name, **style)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.4)
    if title:
        axes.set_title(title)
    if limits is not None:
        axes.axis(tuple(limits))
    axes.legend(loc="best" if "lower" in ylabel else "lower right")
    figure.tight_layout()
    return figure


def save_plot(
    curves: Sequence[PlotCurve],
    metric: str,
    target: str | os.PathLike[str] | IO[bytes],
    *,
    title: str | None = None,
    figsize: Sequence[float] = (9, 6),
    limits: Sequence[float] | None = None,
    format: str | None = None,
    replace: bool = True,
) -> None:
    """Draw curves into a file.

    Args:
        curves: see :func:`curves_of`.
        metric: what the values are, for the axis.
        target: path, whose suffix is the format, or a binary file with ``format``.
        title, figsize, limits: see :func:`draw_curves`.
        format: ``png``, ``svg`` or ``pdf``.
        replace: whether a file at the path is replaced.

    Raises:
        FileExistsError: there is one, and it is not to be replaced.
        ImportError: the extra ``plot`` is not installed.
        ValueError: unknown suffix.
    """
    label = _LABELS.get(metric, metric)
    if not isinstance(target, (str, os.PathLike)):
        draw_curves(curves, label, title=title, figsize=figsize, limits=limits).savefig(
            target, format=format, dpi=150
        )
        return
    check_plot_file(target)
    figure = draw_curves(curves, label, title=title, figsize=figsize, limits=limits)
    with atomic_write(target, replace=replace) as unfinished:
        figure.savefig(unfinished, format=Path(target).suffix.lower()[1:], dpi=150)
