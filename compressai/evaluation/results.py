# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What an evaluation found, and the forms that it can take: text, JSON, CSV, plot, page."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import statistics
from collections.abc import Hashable
from dataclasses import asdict, dataclass, field
from typing import Any

from compressai._files import atomic_write
from compressai.evaluation._text import format_table
from compressai.evaluation.bjontegaard import bd_rate
from compressai.evaluation.metrics import LPIPS, MS_SSIM, PSNR
from compressai.version import __version__

__all__ = ["BdRate", "EmbeddedImage", "Evaluation", "Point", "finite_json"]

AVERAGE = "average curve"


@dataclass(frozen=True)
class Point:
    """One image through one codec at one quality.

    Attributes:
        image, codec, quality: what was coded, by what, at which setting.
        width, height: size in pixels.
        bytes: length of the coded file.
        psnr: decibels, infinite if nothing was lost.
        ms_ssim: similarity up to 1, or ``None`` if the image is too small for it.
        lpips: perceptual distance, or ``None`` if it was not asked for.
        encode_seconds, decode_seconds: wall clock, of one run.
    """

    image: str
    codec: str
    quality: Any
    width: int
    height: int
    bytes: int
    psnr: float
    ms_ssim: float | None
    lpips: float | None
    encode_seconds: float
    decode_seconds: float

    @property
    def bpp(self) -> float:
        """Bits per pixel of the whole file."""
        return 8 * self.bytes / (self.width * self.height)


@dataclass(frozen=True)
class EmbeddedImage:
    """An image for a page.

    Attributes:
        media_type: such as ``image/png``.
        content: the file.
    """

    media_type: str
    content: bytes


@dataclass(frozen=True)
class BdRate:
    """A Bjøntegaard delta rate of PSNR.

    Attributes:
        image: which image, or ``"average curve"``.
        codec, anchor: what is compared with what.
        percent: bits more (or, below 0, less) than the anchor, or ``None``.
        problem: why there is no figure.
    """

    image: str
    codec: str
    anchor: str
    percent: float | None
    problem: str | None = None


@dataclass
class Evaluation:
    """The figures of an evaluation, which shows itself: ``print`` it, or call a ``to_`` method.

    Attributes:
        tested, against: names of the codecs under test and of those to compare with.
        descriptions: what each codec is.
        points: one for each image, codec and quality.
        embedded: if they were kept, originals under ``(image, None, None)`` and decoded ones under
            ``(image, codec, quality)``.
        references: curves that were not measured here, such as those of papers: ``name`` and
            ``results`` of each, as of :meth:`curves`. They compare if the images are the same.
    """

    tested: list[str]
    against: list[str]
    descriptions: dict[str, str]
    points: list[Point] = field(default_factory=list)
    embedded: dict[tuple[str, str | None, Hashable], EmbeddedImage] = field(
        default_factory=dict, repr=False
    )
    references: list[dict[str, Any]] = field(default_factory=list)

    @property
    def pictures(self) -> dict[tuple[str, str | None, Hashable], EmbeddedImage]:
        """What :attr:`embedded` was called at first."""
        return self.embedded

    @property
    def images(self) -> list[str]:
        """Names of the images."""
        return list(dict.fromkeys(point.image for point in self.points))

    def curve(self, codec: str, image: str | None = None) -> list[Point]:
        """Points of a codec and an image, or of all images."""
        return [p for p in self.points if p.codec == codec and image in (None, p.image)]

    def curves(self) -> list[dict[str, Any]]:
        """Curves of averages over the images, in CompressAI's form.

        Returns:
            For each codec ``name``, ``description`` and ``results``: lists with a value for each
            quality of ``quality``, ``bpp``, ``psnr-rgb``, ``ms-ssim-rgb`` and ``lpips`` (where
            there are any), ``encoding_time`` and ``decoding_time`` (seconds).
        """
        return [
            {
                "name": codec,
                "description": self.descriptions[codec],
                "results": self._averages(codec),
            }
            for codec in [*self.tested, *self.against]
        ]

    def _averages(self, codec: str) -> dict[str, list[Any]]:
        groups: dict[Any, list[Point]] = {}
        for point in self.curve(codec):
            groups.setdefault(point.quality, []).append(point)
        values = {
            "bpp": "bpp",
            PSNR: "psnr",
            MS_SSIM: "ms_ssim",
            LPIPS: "lpips",
            "encoding_time": "encode_seconds",
            "decoding_time": "decode_seconds",
        }
        results: dict[str, list[Any]] = {"quality": list(groups)}
        for key, name in values.items():
            columns = [[getattr(point, name) for point in group] for group in groups.values()]
            if not any(value is None for column in columns for value in column):
                results[key] = [statistics.fmean(column) for column in columns]
        return results

    def bd_rates(self) -> list[BdRate]:
        """Every tested codec against every other one: of each image, and of the averages."""
        rates = []
        for codec in self.tested:
            for anchor in self.against:
                for image in self.images:
                    pair = [
                        [(p.bpp, p.psnr) for p in self.curve(name, image)]
                        for name in (anchor, codec)
                    ]
                    rates.append(_bd_rate(image, codec, anchor, *pair))
                averages = [self._averages(name) for name in (anchor, codec)]
                pair = [list(zip(average["bpp"], average[PSNR])) for average in averages]
                rates.append(_bd_rate(AVERAGE, codec, anchor, *pair))
        return rates

    def reference_bd_rates(self) -> list[BdRate]:
        """The average curve of every tested codec against every reference."""
        rates = []
        for codec in self.tested:
            averages = self._averages(codec)
            mine = list(zip(averages["bpp"], averages[PSNR]))
            for reference in self.references:
                results = reference["results"]
                known = list(zip(results.get("bpp", ()), results.get(PSNR, ())))
                rates.append(_bd_rate(AVERAGE, codec, reference["name"], known, mine))
        return rates

    def mean_bd_rate(self, codec: str, anchor: str) -> float | None:
        """Mean of the delta rates of the images that have one, in percent; ``None`` without."""
        percents = [
            rate.percent
            for rate in self.bd_rates()
            if (rate.codec, rate.anchor) == (codec, anchor)
            and rate.image != AVERAGE
            and rate.percent is not None
        ]
        return statistics.fmean(percents) if percents else None

    def __str__(self) -> str:
        tables = (self._curve_table(), self._bd_table(), self._reference_table())
        return "\n\n".join(filter(None, tables))

    def _curve_table(self) -> str:
        rows = []
        for curve in self.curves():
            results = curve["results"]
            for i, quality in enumerate(results["quality"]):
                value = {key: values[i] for key, values in results.items()}
                rows.append(
                    [
                        curve["name"] if i == 0 else "",
                        str(quality),
                        f"{value['bpp']:.3f}",
                        f"{value[PSNR]:.2f}",
                        _number(value.get(MS_SSIM), ".4f"),
                        _number(value.get(LPIPS), ".4f"),
                        f"{1000 * value['encoding_time']:.0f}",
                        f"{1000 * value['decoding_time']:.0f}",
                    ]
                )
        header = ["codec", "quality", "bpp", "PSNR", "MS-SSIM", "LPIPS", "enc. ms", "dec. ms"]
        if all(row[5] == "" for row in rows):
            header, rows = (  # type: ignore[assignment]
                [*header[:5], *header[6:]],
                [[*row[:5], *row[6:]] for row in rows],
            )
        count = len(self.images)
        title = self.images[0] if count == 1 else f"averages of {count} images"
        return format_table(title, header, rows)

    def _bd_table(self) -> str:
        if not self.against:
            return ""
        rates = {(r.codec, r.image, r.anchor): r for r in self.bd_rates()}
        single = [name for name in (*self.tested, *self.against) if self._is_one_point(name)]
        rows, notes = [], []
        if single:
            notes.append(
                f"No BD-rate where a curve is one point, as that of {', '.join(single)}. Give "
                "several qualities or checkpoints."
            )
        if all({rate.codec, rate.anchor} & {*single} for rate in rates.values()):
            return "\n".join(notes)
        for codec in self.tested:
            for image in [*self.images, AVERAGE]:
                if image == AVERAGE and len(self.images) == 1:
                    continue
                cells = []
                for anchor in self.against:
                    rate = rates[codec, image, anchor]
                    cells.append("-" if rate.percent is None else f"{rate.percent:+.1f} %")
                    if rate.problem and not {codec, anchor} & {*single}:
                        notes.append(f"{image}, {codec} against {anchor}: {rate.problem}")
                rows.append([codec, image, *cells])
            if len(self.images) > 1:
                means = [self.mean_bd_rate(codec, anchor) for anchor in self.against]
                rows.append([codec, "mean of images", *(_number(m, "+.1f", " %") for m in means)])
        title = "BD-rate (PSNR), bits more than"
        table = format_table(title, ["codec", "image", *self.against], rows)
        return "\n".join([table, *(f"- {note}" for note in notes)])

    def _reference_table(self) -> str:
        if not self.references:
            return ""
        rows = [
            [
                rate.codec,
                rate.anchor,
                rate.problem or "-" if rate.percent is None else f"{rate.percent:+.1f} %",
            ]
            for rate in self.reference_bd_rates()
        ]
        title = "BD-rate (PSNR) against points that were not measured here: of the same images?"
        return format_table(title, ["codec", "points", "bits more"], rows)

    def _is_one_point(self, codec: str) -> bool:
        return len({point.quality for point in self.points if point.codec == codec}) == 1

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data, without images. PSNR without loss is ``None``."""
        return {
            "compressai": __version__,
            "tested": self.tested,
            "against": self.against,
            "curves": [_finite(curve) for curve in self.curves()],
            "bd_rates": [asdict(rate) for rate in self.bd_rates()],
            "references": [_finite(curve) for curve in self.references],
            "reference_bd_rates": [asdict(rate) for rate in self.reference_bd_rates()],
            "points": [_finite({**asdict(p), "bpp": p.bpp}) for p in self.points],
        }

    def to_json(self, path: str | os.PathLike[str] | None = None, *, replace: bool = True) -> str:
        """:meth:`to_dict` as JSON, which ``compressai plot`` reads.

        Args:
            path: also write it into this file.
            replace: whether the file is replaced if it exists.

        Returns:
            The text.

        Raises:
            FileExistsError: the file exists and is not to be replaced.
        """
        return _written(finite_json(self.to_dict()) + "\n", path, replace)

    def to_csv(self, path: str | os.PathLike[str] | None = None, *, replace: bool = True) -> str:
        """A line for each point, after a line of names.

        Args:
            path: also write it into this file.
            replace: whether the file is replaced if it exists.

        Returns:
            The text.

        Raises:
            FileExistsError: the file exists and is not to be replaced.
        """
        buffer = io.StringIO()
        names = [*Point.__dataclass_fields__, "bpp"]
        writer = csv.DictWriter(buffer, names, lineterminator="\n")
        writer.writeheader()
        for point in self.points:
            writer.writerow({**asdict(point), "bpp": point.bpp})
        return _written(buffer.getvalue(), path, replace)

    def plot(
        self, path: str | os.PathLike[str], metric: str = PSNR, *, replace: bool = True
    ) -> None:
        """Draw the curves of averages, around those under test.

        Args:
            path: file to write; its suffix (``.png``, ``.svg``, ``.pdf``) is the format.
            metric: ``psnr-rgb``, ``ms-ssim-rgb`` or ``lpips``.
            replace: whether the file is replaced if it exists.

        Raises:
            FileExistsError: the file exists and is not to be replaced.
            ImportError: the extra ``plot`` is not installed.
            ValueError: there are no values of this metric, or an unknown suffix.
        """
        # Of the extra plot.
        from compressai.evaluation.plot import close_up, curves_of, save_plot

        references = [curve for curve in self.references if metric in curve["results"]]
        curves = curves_of([*self.curves(), *references], metric)
        limits = close_up(curves, self.tested)
        save_plot(curves, metric, path, limits=limits, replace=replace)

    def to_html(self, path: str | os.PathLike[str], *, replace: bool = True) -> None:
        """Write a page with figures, curves, and the images side by side with a slider.

        The page needs no other file and no network. Codecs to compare with are shown at the
        setting whose file is nearest in size to that of each point under test. JPEG, WebP and AVIF
        files are embedded as they are, other images as decoded, without loss.

        Args:
            path: file to write.
            replace: whether the file is replaced if it exists.

        Raises:
            FileExistsError: the file exists and is not to be replaced.
            ImportError: the extra ``plot`` is not installed.
            ValueError: the images were not kept.
        """
        # Of the extra plot.
        from compressai.evaluation.page import save_page

        save_page(self, path, replace=replace)


def _bd_rate(
    image: str,
    codec: str,
    anchor: str,
    anchor_curve: list[tuple[float, float]],
    curve: list[tuple[float, float]],
) -> BdRate:
    finite = [[p for p in points if math.isfinite(p[1])] for points in (anchor_curve, curve)]
    try:
        return BdRate(image, codec, anchor, bd_rate(*finite))
    except ValueError as error:
        return BdRate(image, codec, anchor, None, str(error))


def finite_json(data: Any) -> str:
    """Indented JSON; numbers that JSON does not have, such as a PSNR without loss, are ``null``."""
    return json.dumps(_finite(data), indent=2, allow_nan=False)


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def _written(text: str, path: str | os.PathLike[str] | None, replace: bool) -> str:
    if path is not None:
        with atomic_write(path, replace=replace) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return text
