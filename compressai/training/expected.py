# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A run beside what its recipe lets one expect: a line for each test, and a picture."""

from __future__ import annotations

import importlib.util
import itertools
import math
from collections.abc import Mapping
from pathlib import Path

from compressai._files import atomic_write
from compressai.evaluation.plot import require_matplotlib
from compressai.training.recipes import Recipe

__all__ = ["Expected"]

CURVE = "curve.png"


class Expected:
    """Compares tests of a run with the beginning and the end of its recipe.

    Args:
        recipe: what the run follows.
        quality: of the model, for the published end.
        folder: where ``curve.png`` is drawn after each test, if matplotlib is installed; ``None``
            for no drawing.
    """

    def __init__(self, recipe: Recipe, quality: int, folder: Path | None) -> None:
        self.recipe, self.folder = recipe, folder
        self.end = recipe.end(quality)
        self.tests: list[tuple[int, float, float]] = []

    def introduction(self) -> str:
        """What the recipe is, in a few lines."""
        lines = [f"Recipe {self.recipe.name}: {self.recipe.source}", f"Data: {self.recipe.data}"]
        if self.recipe.beginning:
            lines.append(f"Beginning to compare with: measured {self.recipe.measured}")
        if self.end is not None:
            lines.append(
                f"To end near {self.end[0]:.3f} bpp, {self.end[1]:.2f} dB (published, on Kodak)"
            )
        return "\n".join(lines)

    def note(self, step: int, values: Mapping[str, float]) -> str | None:
        """Take in a test, and draw it.

        Args:
            step: how many steps the run has had.
            values: losses of the test, with ``mse_loss`` and ``bpp_loss``.

        Returns:
            A line that tells it beside what is expected; ``None`` without these losses.
        """
        if not {"mse_loss", "bpp_loss"} <= values.keys() or values["mse_loss"] <= 0:
            return None
        bpp, psnr = values["bpp_loss"], -10 * math.log10(values["mse_loss"])
        self.tests.append((step, bpp, psnr))
        text = f"Step {step}: {bpp:.3f} bpp, {psnr:.2f} dB"
        if (known := self._expected_at(step)) is not None:
            text += f" (expected about now: {known[0]:.3f} bpp, {known[1]:.2f} dB)"
        if self.end is not None:
            text += f"; {self.end[1] - psnr:+.2f} dB, {self.end[0] - bpp:+.3f} bpp to the end"
        if self.folder is not None and importlib.util.find_spec("matplotlib") is not None:
            self._draw(self.folder / CURVE)
        return text

    def _expected_at(self, step: int) -> tuple[float, float] | None:
        """Between the points that were measured; ``None`` beyond them."""
        points = self.recipe.beginning
        for (first, *a), (last, *b) in itertools.pairwise(points):
            if first <= step <= last:
                share = (step - first) / (last - first)
                return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
        return None

    def _draw(self, path: Path) -> None:
        figure = require_matplotlib().Figure(figsize=(7, 5), layout="constrained")
        axes = figure.add_subplot()
        for points, style, label in (
            (self.recipe.beginning, "o--", "beginning, measured"),
            (self.tests, "s-", "this run, by test"),
        ):
            if points:
                axes.plot([p[1] for p in points], [p[2] for p in points], style, label=label)
        if self.end is not None:
            axes.plot(*self.end, "*", markersize=14, label="end, as published (Kodak)")
        axes.set(xlabel="bits per pixel", ylabel="PSNR (dB)", title=f"Recipe {self.recipe.name}")
        axes.grid(alpha=0.3)
        axes.legend()
        with atomic_write(path) as unfinished:
            figure.savefig(unfinished, format="png", dpi=100)
