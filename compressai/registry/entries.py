# SPDX-License-Identifier: BSD-3-Clause-Clear
"""One row for a model: what everybody who lists, builds, loads or converts models reads.

A row stands in the file of its model's class, and is entered by ``register_entry``, or by
``register_model`` with the fields of a row. The zoo, the command line, README and the tests have no
lists of models of their own. This module imports neither torch nor a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from compressai._lazy import LazyTable

__all__ = [
    "DEFAULT_QUALITY",
    "ENTRIES",
    "LAMBDAS",
    "METRICS",
    "EntryView",
    "ModelEntry",
    "at_qualities",
    "enter",
    "known_lambdas",
    "numbered",
]

METRICS = ("mse", "ms-ssim")
"""Distortions that models are trained for."""

LAMBDAS: Mapping[str, tuple[float, ...]] = {
    "mse": (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800),
    "ms-ssim": (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00),
}
"""Lagrangian multipliers that weights are customarily published for, by metric, in ascending
order."""

# Levels of the models of variable rate that there are, and what others may name where all
# qualities have one size.
_NUM_QUALITIES = 8
DEFAULT_QUALITY = 3
"""The quality that programs take of models without a scale where nobody names one."""

V = TypeVar("V")


@dataclass(frozen=True)
class ModelEntry:
    """All that is known of a model besides its formulas.

    Attributes:
        name: in the zoo and on command lines; lower case, with ``-``.
        model: the class, or another callable that takes its arguments.
        summary: what the model is, in a few words.
        paper: authors, year and title.
        video: whether it codes video.
        arguments: constructor arguments of every size.
        sizes: constructor arguments by quality, which ascends with the rate; empty if all
            qualities have one size.
        needs_quality: whether the zoo function has to be told a quality; otherwise it builds the
            class with ``arguments`` alone.
        metrics: distortions that the model can be had for.
        points: numbers on the scale of the model (its ``quality_range``) that the qualities of the
            zoo function stand for.
        losses: weights of the loss that published models were trained with, by metric and quality.
        training: constructor arguments of a model that is going to be trained.
        weights: file names of weights published for CompressAI, by metric and quality, with the
            first digits of their SHA-256; quality ``"-"`` stands for all.
        shipped: whether weights come with the library.
        completes: entry whose weights hold what those of this entry lack.
        advice: how to get weights that are not there.
        licence: SPDX name of the licence of the weights; empty if it is not known.
        extra: optional part of the library that the model needs, as in ``pip install
            'compressai-torch[extra]'``.
        multiple: what the sides of its input must be multiples of.
        small: constructor arguments of a model that is small enough for tests.
        source: name of the authors' program for ``compressai convert --from``; empty if there is
            none.
        detect: tells whether cleaned weights, in the authors' layout or in ours, are of this
            entry. They are converted by the ``convert`` of the class.
        in_zoo: whether the entry is offered by name, besides being listed.
    """

    name: str
    model: Any
    summary: str = ""
    paper: str = ""
    video: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    needs_quality: bool = False
    metrics: tuple[str, ...] = METRICS
    points: Mapping[int, float] = field(default_factory=dict)
    losses: Mapping[str, Mapping[int, Mapping[str, float]]] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    shipped: bool = False
    completes: str = ""
    advice: str = ""
    licence: str = ""
    extra: str = ""
    multiple: int = 64
    small: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    detect: Callable[[Mapping[str, Any]], bool] | None = None
    in_zoo: bool = True

    @property
    def scale(self) -> tuple[float, float] | None:
        """Lowest and highest quality of a model that takes any number between; else ``None``."""
        return getattr(self.model, "quality_range", None)

    @property
    def qualities(self) -> tuple[int, int]:
        """Lowest and highest quality that programs take."""
        if self.scale:
            low, high = self.scale
            return int(low), int(high)
        if self.sizes:
            return min(self.sizes), max(self.sizes)
        return 1, int(getattr(self.model, "levels", _NUM_QUALITIES))

    @property
    def default_quality(self) -> float:
        """The quality that programs take where nobody names one."""
        if self.scale:
            return float(self.model.default_quality)
        low, high = self.qualities
        return max(low, min(DEFAULT_QUALITY, high))

    @property
    def published(self) -> bool:
        """Whether weights ship or were published under names that the library knows."""
        return self.shipped or bool(self.weights)

    @property
    def variable_rate(self) -> bool:
        """Whether one set of weights codes at many rates."""
        return hasattr(self.model, "levels") or self.scale is not None

    @property
    def function(self) -> str:
        """Name of the function in :mod:`compressai.zoo`."""
        return self.name.replace("-", "_")

    @property
    def text(self) -> str:
        """Summary and paper, as a paragraph."""
        parts = (part.rstrip(".") for part in (self.summary, self.paper) if part)
        return " ".join(f"{part}." for part in parts) or f"{self.name}."

    def at(self, quality: int | None) -> dict[str, Any]:
        """Constructor arguments of a quality; ``None`` stands for the defaults of the class.

        Raises:
            ValueError: there is no such quality.
        """
        low, high = self.qualities
        known = self.sizes or range(low, high + 1)
        if quality is None and not self.needs_quality:
            return dict(self.arguments)
        # With gaps, as of models of which some points were published.
        if quality not in known:
            raise ValueError(f"quality must be between {low} and {high}, got {quality!r}")
        return {**self.arguments, **self.sizes.get(int(quality), {})}


ENTRIES: LazyTable[ModelEntry] = LazyTable("compressai.models")
"""The rows, by name. Filled by the files of the models, which are imported on first look-up."""


def enter(entry: ModelEntry) -> None:
    """Put a row into :data:`ENTRIES`; a later one of the same name takes its place.

    Raises:
        TypeError: ``entry`` is none.
        ValueError: it has no name, or no model that can be called.
    """
    if not isinstance(entry, ModelEntry):
        raise TypeError(f"entry must be a ModelEntry, got {type(entry).__name__}")
    if not isinstance(entry.name, str) or not entry.name:
        raise ValueError(f"name of an entry must be a string that is not empty, got {entry.name!r}")
    if not callable(entry.model):
        raise ValueError(f"model of {entry.name} must be a class, got {entry.model!r}")
    ENTRIES.register(entry.name, entry, getattr(entry.model, "__module__", None))


class EntryView(MutableMapping[str, V]):
    """Something of each row that is asked for, by name, in the order of the rows.

    Rows that are entered later are seen, too. A value that is set hides that of the row.

    Args:
        keep: which rows.
        make: what of them; called once for each row.
        first: rows for which this is true come first.
    """

    def __init__(
        self,
        keep: Callable[[ModelEntry], bool],
        make: Callable[[ModelEntry], V],
        first: Callable[[ModelEntry], bool] = lambda entry: True,
    ) -> None:
        self._keep, self._make, self._first = keep, make, first
        # With the rows, so that none gets the identity of one that is gone. A row that comes back
        # finds what was made of it.
        self._made: dict[int, tuple[ModelEntry, V]] = {}
        self._set: dict[str, V] = {}

    def _names(self) -> dict[str, None]:
        kept = [entry for entry in ENTRIES.values() if self._keep(entry)]
        kept.sort(key=lambda entry: not self._first(entry))
        return dict.fromkeys([*(entry.name for entry in kept), *self._set])

    def __getitem__(self, name: str) -> V:
        if name in self._set:
            return self._set[name]
        entry = ENTRIES[name]
        if not self._keep(entry):
            raise KeyError(name)
        made = self._made.get(id(entry))
        if made is None:
            made = self._made[id(entry)] = (entry, self._make(entry))
        return made[1]

    def __setitem__(self, name: str, value: V) -> None:
        self._set.pop(name, None)
        # Who puts back what was there hides no row.
        if self.get(name) is not value:
            self._set[name] = value

    def __delitem__(self, name: str) -> None:
        del self._set[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)})"


# -- for writing rows ---------------------------------------------------------------------------


def at_qualities(*sizes: tuple[int, Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """Arguments by quality, from ``(last quality, arguments)`` in ascending order."""
    table: dict[int, Mapping[str, Any]] = {}
    for last, arguments in sizes:
        for quality in range(len(table) + 1, last + 1):
            table[quality] = arguments
    return table


def numbered(pattern: str, digits: str) -> dict[str, str]:
    """File names by quality, from their pattern and the digits of their hashes.

    Args:
        pattern: with a place for the quality and one for the digits.
        digits: of quality 1, 2, ..., separated by blanks.
    """
    return {
        str(quality): pattern.format(quality, part)
        for quality, part in enumerate(digits.split(), start=1)
    }


def known_lambdas(*qualities: int) -> dict[str, dict[int, dict[str, float]]]:
    """The ``losses`` of an entry whose weights were trained for :data:`LAMBDAS`.

    Args:
        qualities: which; without any all eight.
    """
    chosen = qualities or range(1, _NUM_QUALITIES + 1)
    return {
        metric: {quality: {"lmbda": values[quality - 1]} for quality in chosen}
        for metric, values in LAMBDAS.items()
    }
