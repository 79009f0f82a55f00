# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Recipes: how a model is trained, where from that is known, and which curve to expect.

``recipes.json`` beside this file has a line for each: data, schedule, source, and the beginning of
a run that was measured here. Where a run should end is what the authors have published.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from torch import optim

from compressai.evaluation import published_curves

__all__ = ["PiecewiseRate", "Point", "Recipe", "find_recipe", "recipe_names"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """How to train a model.

    Attributes:
        name: of the model in the zoo.
        data: what the images are to be.
        batch_size: images of a step.
        patch_size: height and width of the crops in pixels.
        rates: ``(share, learning rate)``: which learning rate begins after which share of the run,
            the first one at 0.
        source: where all this is from.
        steps: length of the run, or ``None`` where ``epochs`` says it.
        epochs: length of the run on the data of the source, or ``None``.
        beginning: ``(step, bits per pixel, PSNR in dB)`` on test images, measured here.
        measured: how that was measured; empty without a beginning.
    """

    name: str
    data: str
    batch_size: int
    patch_size: tuple[int, int]
    rates: tuple[tuple[float, float], ...]
    source: str
    steps: int | None = None
    epochs: int | None = None
    beginning: tuple[tuple[int, float, float], ...] = ()
    measured: str = ""

    def end(self, quality: int) -> Point | None:
        """``(bits per pixel, PSNR in dB)`` on Kodak that the authors published for a quality.

        ``None`` if they are not known.
        """
        try:
            (curve,) = published_curves([self.name], dataset="kodak", metric="psnr")[:1]
        except ValueError:
            return None
        return curve.points()[quality - 1] if 1 <= quality <= len(curve.bpp) else None


class PiecewiseRate(optim.lr_scheduler.LambdaLR):
    """The learning rates of a recipe, spread over the epochs of a run.

    Args:
        optimizer: whose first learning rate is that of the recipe, or another that takes its place
            and scales the others.
        rates: as in :class:`Recipe`.
        epochs: of the whole run.
    """

    def __init__(
        self, optimizer: optim.Optimizer, rates: tuple[tuple[float, float], ...], epochs: int
    ) -> None:
        def factor(epoch: int) -> float:
            # Halfway in the epoch, so that shares may be rounded.
            share = (epoch + 0.5) / max(epochs, 1)
            return [rate for begin, rate in rates if begin <= share][-1] / rates[0][1]

        super().__init__(optimizer, factor)

    def step(self, loss: object = None) -> None:  # type: ignore[override]
        """Go on to the next epoch, whatever the loss is."""
        super().step()


def recipe_names() -> list[str]:
    """The models that there are recipes for."""
    return list(_recipes())


def find_recipe(name: str) -> Recipe:
    """The recipe of a model.

    Raises:
        ValueError: there is none.
    """
    if name not in _recipes():
        raise ValueError(f"name must be one of {', '.join(_recipes())}, got {name!r}")
    return _recipes()[name]


@functools.cache
def _recipes() -> dict[str, Recipe]:
    rows = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    for row in rows:
        row["patch_size"] = tuple(row["patch_size"])
        row["rates"] = tuple(map(tuple, row["rates"]))
        row["beginning"] = tuple(map(tuple, row.get("beginning", ())))
    return {row["name"]: Recipe(**row) for row in rows}
