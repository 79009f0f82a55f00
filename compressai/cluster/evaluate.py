# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Measuring codecs on a corpus of images."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from compressai.bitstream import read_image
from compressai.cluster.engine import Run
from compressai.cluster.job import Item, JobReport
from compressai.cluster.manifest import Manifest
from compressai.cluster.stores import Store, base_name, list_sources
from compressai.evaluation import Evaluation, ImageCodec, Point, evaluate_image
from compressai.evaluation.evaluate import opaque
from compressai.evaluation.image_files import SUFFIXES

__all__ = ["EvaluateWorker", "evaluate_corpus"]

MakeCodecs = Callable[[], tuple[Sequence[ImageCodec], Sequence[ImageCodec]]]


class EvaluateWorker:
    """Measures codecs on images.

    Args:
        make_codecs: makes the codecs under test, and those to compare them with.
        identities: what :func:`evaluate_corpus` found the codecs under test to be.
        lpips: also compute LPIPS.

    Raises:
        RuntimeError: they are others here, such as for other weights on this machine.
    """

    def __init__(
        self, make_codecs: MakeCodecs, identities: Sequence[Mapping[str, Any]], lpips: bool
    ) -> None:
        tested, against = make_codecs()
        here = [codec.identity() for codec in tested]
        if here != list(identities):
            raise RuntimeError(f"what is tested on this machine is {here}, not {identities}")
        self.codecs = [*tested, *against]
        self.lpips = lpips

    def __call__(self, item: Item) -> dict[str, Any]:
        """All points of an image.

        Raises:
            OSError: the image cannot be read.
            ValueError: it is no image.
        """
        with Store(item.source).open() as source:
            image = opaque(read_image(source))
        points = [
            evaluate_image(
                image,
                codec.code(image, quality),
                item.source,
                codec.name,
                quality,
                lpips=self.lpips,
            )
            for codec in self.codecs
            for quality in codec.qualities
        ]
        return {
            "width": image.width,
            "height": image.height,
            "points": [asdict(point) for point in points],
        }


def evaluate_corpus(
    sources: Sequence[str],
    make_codecs: MakeCodecs,
    manifest: str,
    *,
    settings: Mapping[str, Any],
    lpips: bool = False,
    run: Run | None = None,
) -> tuple[Evaluation, JobReport]:
    """Measure codecs on all images of some folders, on a Ray cluster.

    Args:
        sources: folders and files, paths or URLs.
        make_codecs: makes the codecs under test, and those to compare them with, here and in each
            worker; has to be picklable.
        manifest: folder that keeps what was measured; the same call again goes on from it.
        settings: JSON data that tells these codecs from others, beside what the codecs under test
            tell themselves, see :meth:`~compressai.evaluation.ImageCodec.identity`.
        lpips: also compute LPIPS.
        run: how the work is done; default: ``Run()``.

    Returns:
        The evaluation of the images that could be measured, and the report with all others.

    Raises:
        FileNotFoundError: a source does not exist.
        ValueError: there are no images, or the manifest is of other codecs.
        OSError: a folder cannot be listed, or the manifest not be written, as far as that shows
            before the work.
        RuntimeError: there is no cluster, or a worker cannot be made.
    """
    items = [Item(source) for source in list_sources(sources, SUFFIXES)]
    tested, against = make_codecs()
    identities = [codec.identity() for codec in tested]
    record = Manifest(Store(manifest), {**settings, "tested": identities, "lpips": lpips})
    known = {
        source: row
        for source, row in record.known().items()
        if row["status"] == "done" and row["result"]
    }
    for row in known.values():
        if row["settings"] != record.settings:
            raise ValueError(
                f"{manifest} is of {row['settings']}, not of {record.settings}: name another folder"
            )
    left = [item for item in items if item.source not in known]
    make_worker = functools.partial(_make_evaluator, make_codecs, identities, lpips)
    report = (run or Run()).work(left, make_worker, record)
    report.skipped = [known[item.source] for item in items if item.source in known]
    result = Evaluation(
        tested=[codec.name for codec in tested],
        against=[codec.name for codec in against],
        descriptions={codec.name: codec.description for codec in (*tested, *against)},
        points=_points(items, [*report.done, *report.skipped]),
    )
    return result, report


def _make_evaluator(
    make_codecs: MakeCodecs, identities: Sequence[Mapping[str, Any]], lpips: bool, number: int
) -> EvaluateWorker:
    return EvaluateWorker(make_codecs, identities, lpips)


def _points(items: Sequence[Item], rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    """Points in the order of the images, with file names where these tell them apart."""
    by_source = {row["source"]: json.loads(row["result"])["points"] for row in rows}
    counts = Counter(base_name(item.source) for item in items)
    points = []
    for item in items:
        base = base_name(item.source)
        name = base if counts[base] == 1 else item.source
        points += [replace(Point(**p), image=name) for p in by_source.get(item.source, ())]
    return points
