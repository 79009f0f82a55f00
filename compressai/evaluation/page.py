# SPDX-License-Identifier: BSD-3-Clause-Clear
"""An evaluation as one HTML page that needs nothing else: ``page.html`` filled in."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from compressai._files import atomic_write
from compressai.evaluation.metrics import LPIPS, MS_SSIM, PSNR
from compressai.evaluation.plot import close_up, curves_of, require_matplotlib, save_plot

if TYPE_CHECKING:
    from compressai.evaluation.results import Evaluation, Point

__all__ = ["save_page"]


def save_page(
    evaluation: Evaluation, path: str | os.PathLike[str], *, replace: bool = True
) -> None:
    """Write the page, see :meth:`Evaluation.to_html`.

    Raises:
        ImportError: the extra ``plot`` is not installed.
        ValueError: the images were not kept, or the suffix is not that of a page.
        OSError: the file cannot be written.
    """
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"{os.fspath(path)}: the suffix must be .html or .htm")
    if not evaluation.embedded:
        raise ValueError("a page shows the images: call evaluate with keep_images=True")
    require_matplotlib()
    template = Template(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    page = template.substitute(data=_script_safe(_data(evaluation)), plots=_plots(evaluation))
    with atomic_write(path, replace=replace) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _data(evaluation: Evaluation) -> dict[str, Any]:
    figures = evaluation.to_dict()
    images = []
    for name in evaluation.images:
        shown = {id(point) for point in _shown(evaluation, name)}
        images.append(
            {
                "name": name,
                "original": _url(evaluation, name, None, None),
                "points": [
                    {
                        **figures["points"][i],
                        "quality": str(point.quality),
                        "image": _url(evaluation, name, point.codec, point.quality)
                        if id(point) in shown
                        else None,
                    }
                    for i, point in enumerate(evaluation.points)
                    if point.image == name
                ],
            }
        )
    return {
        "version": figures["compressai"],
        "tested": evaluation.tested,
        "against": evaluation.against,
        "descriptions": evaluation.descriptions,
        "bd_rates": figures["bd_rates"],
        "images": images,
    }


def _shown(evaluation: Evaluation, image: str) -> Iterator[Point]:
    """All points under test, and of the others those nearest in bytes to each of them."""
    tested = [p for codec in evaluation.tested for p in evaluation.curve(codec, image)]
    yield from tested
    for codec in evaluation.against:
        curve = evaluation.curve(codec, image)
        for point in tested:
            yield min(curve, key=lambda other: abs(other.bytes - point.bytes))


def _url(evaluation: Evaluation, *key: Any) -> str:
    image = evaluation.embedded[key]
    return _data_url(image.media_type, image.content)


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def _plots(evaluation: Evaluation) -> str:
    """Curves of every metric that all images have, as images in the page."""
    curves = evaluation.curves()
    tags = []
    for metric, label in ((PSNR, "PSNR"), (MS_SSIM, "MS-SSIM"), (LPIPS, "LPIPS")):
        if all(metric in curve["results"] for curve in curves):
            buffer = io.BytesIO()
            drawn = curves_of(curves, metric)
            limits = close_up(drawn, evaluation.tested)
            save_plot(drawn, metric, buffer, figsize=(7, 5), limits=limits, format="svg")
            source = _data_url("image/svg+xml", buffer.getvalue())
            tags.append(f'<img src="{source}" alt="{label} over rate, averages of the images">')
    return "\n".join(tags)


def _script_safe(data: dict[str, Any]) -> str:
    """JSON that cannot end the script element that it stands in, whatever files are called."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")
