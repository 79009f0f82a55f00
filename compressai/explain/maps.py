# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The bits of each latent as a map over the image, drawn by matplotlib (extra ``plot``)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from compressai._files import atomic_write
from compressai.bitstream import ImageData
from compressai.evaluation.plot import check_plot_file, require_matplotlib
from compressai.explain.bits import ImageBits

__all__ = ["check_map_file", "save_maps"]

check_map_file = check_plot_file


def save_maps(
    path: str | os.PathLike[str], image: ImageData, bits: ImageBits, *, replace: bool = True
) -> None:
    """Draw the image, and beside it once for each latent, grey, under the map of its bits.

    Args:
        path: file, whose suffix is the format: ``.png``, ``.svg`` or ``.pdf``.
        image: what was coded.
        bits: what :func:`image_bits` found.
        replace: whether a file at the path is replaced.

    Raises:
        FileExistsError: there is one, and it is not to be replaced.
        ImportError: the extra ``plot`` is not installed.
        ValueError: unknown suffix, or nothing was coded.
    """
    check_plot_file(path)
    if not bits.maps:
        raise ValueError("there are no maps of an image that was not coded")
    pixels = np.asarray(image.pixels).transpose(1, 2, 0).clip(0, 1)
    height, width = pixels.shape[:2]
    count = 1 + len(bits.maps)
    panel = 5.0
    shape = (panel * count, panel * height / width + 0.8)
    figure = require_matplotlib().Figure(figsize=shape, layout="constrained")
    axes: Any = figure.subplots(1, count, squeeze=False)[0]
    axes[0].imshow(pixels)
    axes[0].set_title(f"{width} x {height}, {bits.file / 8:.0f} bytes")
    names = {latent.name: latent for latent in bits.latents}
    for axis, (name, bit_map) in zip(axes[1:], bits.maps.items()):
        axis.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=1)
        # The last places reach beyond the image, into the padding.
        rows, columns = (bit_map.step * size - 0.5 for size in bit_map.values.shape)
        drawn = axis.imshow(
            bit_map.values,
            cmap="inferno",
            alpha=0.65,
            interpolation="nearest",
            extent=(-0.5, columns, rows, -0.5),
        )
        axis.set_xlim(-0.5, width - 0.5)
        axis.set_ylim(height - 0.5, -0.5)
        axis.set_title(f"{name}: {names[name].estimated / 8:.0f} bytes")
        figure.colorbar(drawn, ax=axis, label="bits per pixel", shrink=0.8)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    with atomic_write(path, replace=replace) as unfinished:
        figure.savefig(unfinished, format=Path(path).suffix.lower()[1:], dpi=110)
