# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai view``: many images as one HTML page of thumbnails and sizes."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.messages import (
    EXPECTED,
    explain,
    failures,
    print_failures,
    print_line,
    print_note,
    print_report,
    progress_bar,
)
from compressai.cli.options import AsJson, Checkpoint, MaxPixels, Overwrite
from compressai.cli.places import local_paths
from compressai.cli.tasks import check_output, open_input, plan

if TYPE_CHECKING:
    from PIL import Image

    from compressai.model_choice import ModelCache

__all__ = ["view"]

_SIDE = 256
_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 2rem; background: #fff; color: #222 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(256px, 1fr)); gap: 1.5rem }
figure { margin: 0 } img { max-width: 100%; background: #eee }
figcaption { overflow-wrap: anywhere } .facts { color: #666 } .failed { color: #b00 }
@media (prefers-color-scheme: dark) {
  body { background: #1b1b1b; color: #ddd } .facts { color: #999 }
}
"""


def view(
    images: Annotated[
        list[str],
        typer.Argument(help="Folders, .cai files, or other images.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Page to write: .html.")] = Path(
        "sheet.html"
    ),
    checkpoint: Checkpoint = None,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write a page with thumbnails and sizes of many images, coded ones and others."""
    if output.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"-o must name a page, .html or .htm, got {output}")
    check_output(output, overwrite)
    from compressai._files import atomic_write
    from compressai._images import image_suffixes
    from compressai.bitstream import MAX_PIXELS

    paths = local_paths(images, "view shows files of this machine")
    suffixes = [".cai", *image_suffixes()]
    chosen = plan(paths, None, suffixes=suffixes, new_suffix=".html", what="image")
    sources = [task.source for task in chosen.tasks] + [path for path, _ in chosen.failed]
    opener = _Opener(checkpoint, max_pixels or MAX_PIXELS)
    figures, reports, failed = [], [], []
    with progress_bar("view", len(sources)) as advance:
        for source in sorted(set(sources)):
            try:
                image, facts = opener.open(source)
                figures.append(_figure(source, image, facts))
                reports.append(facts)
            except EXPECTED as error:
                failed.append((source, error))
                figures.append(_failure(source, error))
            advance(source.name)
    size = sum(facts["bytes"] for facts in reports)
    page = _page(figures, len(reports), size)
    with atomic_write(output, replace=overwrite) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    if as_json:
        told = {"page": str(output), "images": reports, "failed": failures(failed)}
        print_report(told, as_json=True)
    else:
        print_line(f"{output}: {len(reports)} images, {size} bytes")
        print_failures(failed)
    if failed:
        raise typer.Exit(1)


class _Opener:
    """Makes thumbnails of coded and of other images.

    Args:
        checkpoint: weights of the coded ones, in place of those that they name.
        max_pixels: larger ones are refused.
    """

    def __init__(self, checkpoint: Path | None, max_pixels: int) -> None:
        self._checkpoint, self._max_pixels = checkpoint, max_pixels
        self._models: ModelCache | None = None
        self._told = False

    def open(self, source: Path) -> tuple[Image.Image, dict[str, Any]]:
        """The thumbnail of a file, and what is known of it."""
        image, facts = self._coded(source) if source.suffix == ".cai" else self._other(source)
        width, height = image.size
        size = source.stat().st_size
        image.thumbnail((_SIDE, _SIDE))
        known = {"file": str(source), "width": width, "height": height, "bytes": size}
        return image, {**known, "bpp": 8 * size / (width * height), **facts}

    def _coded(self, source: Path) -> tuple[Image.Image, dict[str, Any]]:
        from compressai.bitstream import decode_image, read_coded
        from compressai.bitstream.chosen import decoding_bundle

        with open_input(source) as file:
            coded = read_coded(file, max_pixels=self._max_pixels)
        net: Any = None
        if self._checkpoint is None:
            net = decoding_bundle(coded)
        if net is None:
            if self._models is None:
                # Needs torch.
                from compressai.model_choice import ModelCache

                self._models = ModelCache()
            net = self._models.model_of(coded, self._checkpoint)
        if coded.random_weights and not self._told:
            print_note(f"{source}: coded with RANDOM weights")
            self._told = True
        image = decode_image(net, coded, max_pixels=self._max_pixels).to_image()
        return image, {"model": coded.model, "quality": coded.quality}

    def _other(self, source: Path) -> tuple[Image.Image, dict[str, Any]]:
        from compressai.bitstream import read_image

        image = read_image(source, max_pixels=self._max_pixels)
        return image.to_image(), {"model": None, "quality": None}


def _figure(source: Path, image: Image.Image, facts: dict[str, Any]) -> str:
    buffer = io.BytesIO()
    # Lossless, so that no other codec is judged.
    image.save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    told = [f"{facts['width']} x {facts['height']}", f"{facts['bytes']:,} bytes"]
    told.append(f"{facts['bpp']:.3f} bpp")
    if facts["model"]:
        quality = "" if facts["quality"] is None else f" {facts['quality']:g}"
        told.append(f"{facts['model']}{quality}")
    name = html.escape(str(source))
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
        f'<figcaption>{name}<div class="facts">{html.escape(", ".join(told))}</div>'
        "</figcaption></figure>"
    )


def _failure(source: Path, error: Exception) -> str:
    return (
        f"<figure><figcaption>{html.escape(str(source))}"
        f'<div class="failed">{html.escape(explain(error))}</div></figcaption></figure>'
    )


def _page(figures: Sequence[str], count: int, size: int) -> str:
    listed = "\n".join(figures)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{count} images</title>
<style>{_STYLE}</style>
<h1>{count} images, {size:,} bytes</h1>
<main>
{listed}
</main>
</html>
"""
