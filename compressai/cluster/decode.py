# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Decoding a corpus of ``.cai`` files into images."""

from __future__ import annotations

import functools
import hashlib
import io
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from compressai.bitstream import (
    MAX_PIXELS,
    CodedImage,
    check_image_file,
    decode_image,
    parse_coded,
    read_content,
    save_image,
)
from compressai.cluster.corpus import plan_items, work_on_corpus
from compressai.cluster.engine import Run
from compressai.cluster.job import Item, JobReport
from compressai.cluster.stores import Store, base_name
from compressai.model_choice import ModelCache

__all__ = ["DecodeWorker", "decode_corpus"]


class DecodeWorker:
    """Decodes coded images, each with the model that it names.

    Args:
        checkpoint: file with weights, for all that were not coded with those of the zoo.
        precision: of the transforms, see :func:`compressai.inference.prepare`.
        overwrite: replace images that exist. Otherwise they count as done, if they have the size
            of the result and are no older than the source.
        max_pixels, region, best_effort: as for :func:`~compressai.bitstream.decode_image`.
    """

    def __init__(
        self,
        checkpoint: Path | None = None,
        *,
        precision: str | None = None,
        overwrite: bool = False,
        max_pixels: int = MAX_PIXELS,
        region: tuple[int, int, int, int] | None = None,
        best_effort: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.models = ModelCache(precision=precision)
        self.overwrite = overwrite
        self.max_pixels = max_pixels
        self.region = region
        self.best_effort = best_effort

    def __call__(self, item: Item) -> dict[str, Any]:
        """Decode an image, unless that is done.

        Raises:
            FileExistsError: another file has the name of the result.
            OSError: the file cannot be read, or the result not be written.
            BitstreamError: it is no coded image, or damaged, or was coded with other weights.
            ValueError: the result cannot hold the image.
        """
        with Store(item.source).open() as source:
            content = read_content(source, best_effort=self.best_effort, max_pixels=self.max_pixels)
        coded = parse_coded(content, best_effort=self.best_effort)
        target = Store(item.target)
        if not self.overwrite and target.exists():
            return self._finished(item, target, coded)
        name = base_name(item.target)
        lossy = check_image_file(name, coded.mode)
        image = decode_image(
            self.models.model_of(coded, self.checkpoint),
            coded,
            max_pixels=self.max_pixels,
            region=self.region,
            best_effort=self.best_effort,
            workers=1,
        )
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder, f"image{Path(name).suffix}")
            save_image(image, draft)
            encoded = draft.read_bytes()
        self.write(item, encoded)
        notes = [lossy.partition(":")[0]] if lossy else []
        return _result(
            coded, image.size, encoded, [*notes, *(f"damaged: {note}" for note in image.notes)]
        )

    def write(self, item: Item, content: bytes) -> None:
        """Write an image."""
        Store(item.target).write(content, replace=self.overwrite)

    def _finished(self, item: Item, target: Store, coded: CodedImage) -> dict[str, Any]:
        size = (coded.width, coded.height) if self.region is None else self.region[2:]
        made, read = target.modified(), Store(item.source).modified()
        content = target.read()
        try:
            with Image.open(io.BytesIO(content)) as image:
                same = image.size == tuple(size)
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
            same = False
        if not same or (made is not None and read is not None and made < read):
            raise FileExistsError(
                f"{item.target} exists and is older than {item.source}, or another image; give "
                "--overwrite to replace it, or --skip-existing to keep it"
            )
        return _result(coded, size, content, [])


def _result(
    coded: CodedImage, size: Sequence[int], content: bytes, notes: list[str]
) -> dict[str, Any]:
    return {
        "bytes": len(content),
        "width": size[0],
        "height": size[1],
        "mode": coded.mode,
        "model": coded.model,
        "quality": coded.quality,
        "metric": coded.metric,
        "random_weights": coded.random_weights,
        "notes": notes,
    }


def decode_corpus(
    sources: Sequence[str],
    destination: str,
    *,
    suffix: str = ".png",
    suffixes: Collection[str] = (".cai",),
    name: str | None = None,
    checkpoint: Path | None = None,
    precision: str | None = None,
    run: Run | None = None,
    overwrite: bool = False,
    skip_existing: bool = False,
    options: Mapping[str, Any] | None = None,
    make_decoder: Callable[..., DecodeWorker] = DecodeWorker,
) -> JobReport:
    """Decode all coded images of some folders on a Ray cluster.

    The results have the paths of their sources, with another suffix, below ``destination``; what
    became of each is in ``_manifest`` there.

    Args:
        sources: folders and files, paths or URLs.
        destination: folder, path or URL; of all machines the same.
        suffix: kind of the images.
        suffixes: of the files to take from folders, in lower case and with the dot.
        name: of the result, where the only source is a file; default: that of the source, with
            ``suffix``.
        checkpoint, precision: as for :class:`DecodeWorker`.
        run: how the work is done; default: ``Run()``.
        overwrite: replace images that exist, instead of taking them as done.
        skip_existing: take images that exist as done, whatever they are.
        options: ``max_pixels``, ``region`` and ``best_effort`` of :class:`DecodeWorker`.
        make_decoder: makes the workers.

    Returns:
        The report. Files that failed are in it, and in the manifest.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: there are no coded images, two would have the same result, a folder would
            become the file ``name``, or the destination holds what was decoded otherwise.
        OSError: a folder cannot be listed, the checkpoint not be read, or the manifest not be
            written, as far as that shows before the work.
        RuntimeError: there is no cluster, or a worker cannot be made.
    """
    store = Store(destination)
    items = plan_items(sources, store, suffixes, name, new_suffix=suffix)
    options = {"max_pixels": MAX_PIXELS, "region": None, "best_effort": False, **(options or {})}
    weights = None if checkpoint is None else hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    make_worker = functools.partial(
        _make_decoder,
        make_decoder,
        checkpoint,
        {"precision": precision, "overwrite": overwrite, **options},
    )
    return work_on_corpus(
        items,
        store,
        {"decoded": {"checkpoint": weights, "precision": precision, **options}},
        make_worker,
        run=run or Run(),
        overwrite=overwrite,
        skip_existing=skip_existing,
    )


def _make_decoder(
    make_decoder: Callable[..., DecodeWorker],
    checkpoint: Path | None,
    options: Mapping[str, Any],
    number: int,
) -> DecodeWorker:
    return make_decoder(checkpoint, **options)
