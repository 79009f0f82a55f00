# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate-distortion points and BD-rates that authors have published, as data with sources.

Facts, nothing that was measured here. ``published.json`` beside this file has a line for each curve
and for each BD-rate against an anchor; BD-rates against another published curve are computed.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressai.evaluation.bjontegaard import bd_rate
from compressai.evaluation.plot import full_name, read_curves

__all__ = [
    "PublishedBdRate",
    "PublishedCurve",
    "bd_rates_against",
    "known_curve",
    "published_bd_rates",
    "published_curves",
]


@dataclass(frozen=True)
class PublishedCurve:
    """The points of a model on a set of images, means over these.

    Attributes:
        model: name in the zoo.
        dataset: ``"kodak"`` (24 images), ``"clic"`` (professional, validation) or ``"tecnick"``.
        trained_for: ``"mse"``, ``"ms-ssim"``, or ``"not said"``.
        metric: of the values, ``"psnr"`` in dB or ``"ms-ssim"`` in 0 ... 1.
        rate: what the bits are: ``"strings"`` that were written, an ``"estimate"`` from the
            likelihoods, or ``"not said"``.
        source: where it was published.
        bpp: bits per pixel, ascending.
        values: of the metric.
    """

    model: str
    dataset: str
    trained_for: str
    metric: str
    rate: str
    source: str
    bpp: tuple[float, ...]
    values: tuple[float, ...]

    def results(self) -> dict[str, Any]:
        """As results of an evaluation have it, for :func:`compressai.evaluation.plot.curves_of`."""
        name = f"{self.model} (published)"
        values = {"bpp": [*self.bpp], full_name(self.metric): [*self.values]}
        return {"name": name, "results": values}

    def points(self) -> list[tuple[float, float]]:
        """``(bits per pixel, decibels)`` of each; of MS-SSIM ``v``, ``-10 log10(1 - v)``."""
        if self.metric == "psnr":
            return [*zip(self.bpp, self.values)]
        return [(rate, -10 * math.log10(1 - value)) for rate, value in zip(self.bpp, self.values)]


@dataclass(frozen=True)
class PublishedBdRate:
    """A BD-rate as it stands in a paper or a list.

    Attributes:
        model: name in the zoo, or of a model that is not there.
        anchor: the codec that it is against. Versions and settings of VTM differ by several
            percent, so figures of two anchors do not compare.
        dataset: as in :class:`PublishedCurve`.
        percent: bits more than the anchor at the same PSNR; negative, fewer.
        source: where it was published.
    """

    model: str
    anchor: str
    dataset: str
    percent: float
    source: str


def published_curves(
    models: Iterable[str] | None = None, *, dataset: str | None = None, metric: str | None = None
) -> list[PublishedCurve]:
    """The curves that are known.

    Args:
        models: of these; ``None`` for all.
        dataset, metric: of these only, see :class:`PublishedCurve`.

    Returns:
        The curves, in the order of the models if these were given.

    Raises:
        ValueError: nothing is known of a model, or of the set or metric.
    """
    curves = [PublishedCurve(**_tuples(row)) for row in _data()["curves"]]
    _check("dataset", dataset, {curve.dataset for curve in curves})
    _check("metric", metric, {curve.metric for curve in curves})
    known = list(dict.fromkeys(curve.model for curve in curves))
    chosen = []
    for model in known if models is None else models:
        _check("model", model, known)
        found = [
            curve
            for curve in curves
            if curve.model == model
            and dataset in (None, curve.dataset)
            and metric in (None, curve.metric)
        ]
        if not found and models is not None:
            raise ValueError(
                f"no points of {model} are known on {dataset or 'any set'} in "
                f"{metric or 'any metric'}"
            )
        chosen += found
    return chosen


def published_bd_rates(
    model: str | None = None, *, dataset: str | None = None
) -> list[PublishedBdRate]:
    """The BD-rates that are known, as published.

    Args:
        model, dataset: of these only.
    """
    rates = [PublishedBdRate(**row) for row in _data()["bd_rates"]]
    return [
        rate for rate in rates if model in (None, rate.model) and dataset in (None, rate.dataset)
    ]


def known_curve(name: str, *, dataset: str = "kodak") -> dict[str, Any]:
    """Points to compare with, which were not measured here.

    Args:
        name: a model with published points; or a file of results: JSON of ``compressai eval``, of
            which the first curve counts, or with lists ``bpp`` and ``psnr-rgb`` (or ``psnr``).
        dataset: of a model, see :class:`PublishedCurve`.

    Returns:
        ``name`` and ``results``, as results of an evaluation have them.

    Raises:
        OSError: the file cannot be read.
        ValueError: no points are known by that name, or the file holds none.
    """
    if not name.endswith(".json"):
        known = {curve.model for curve in published_curves(dataset=dataset, metric="psnr")}
        if name not in known:
            anchors = {rate.anchor.lower() for rate in published_bd_rates()}
            quoted = any(anchor.startswith(name.lower()) for anchor in anchors)
            but = ", only BD-rates against it (compressai published)" if quoted else ""
            raise ValueError(
                f"no points of {name} on {dataset} are known here{but}: name one of "
                f"{', '.join(sorted(known))}, or a JSON file with lists bpp and psnr, as "
                '{"bpp": [0.2, 0.5], "psnr": [31.0, 34.1]}'
            )
        # Of a model that was trained for PSNR, there is one such curve.
        return published_curves([name], dataset=dataset, metric="psnr")[0].results()
    curve = read_curves(name)[0]
    results = curve["results"]
    if not (
        isinstance(results.get("bpp"), list) and isinstance(results.get(full_name("psnr")), list)
    ):
        raise ValueError(f"{name} must have lists bpp and psnr-rgb, got {', '.join(results)}")
    return {"name": curve["name"], "results": results}


def bd_rates_against(
    anchor: list[tuple[float, float]], curves: Iterable[PublishedCurve]
) -> list[tuple[PublishedCurve, float | None]]:
    """BD-rates of published curves against points of the same images and metric.

    Args:
        anchor: ``(bits per pixel, decibels)`` of each point, as :meth:`PublishedCurve.points`.
        curves: what is compared.

    Returns:
        Each with its bits more than the anchor in percent, or ``None`` if they have no range in
        common.
    """
    rates: list[tuple[PublishedCurve, float | None]] = []
    for curve in curves:
        try:
            rates.append((curve, bd_rate(anchor, curve.points())))
        except ValueError:
            rates.append((curve, None))
    return rates


@functools.cache
def _data() -> dict[str, Any]:
    return json.loads((Path(__file__).with_suffix(".json")).read_text(encoding="utf-8"))


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in row.items()}


def _check(what: str, value: str | None, known: Iterable[str]) -> None:
    if value is not None and value not in known:
        raise ValueError(f"{what} must be one of {', '.join(sorted(known))}, got {value!r}")
