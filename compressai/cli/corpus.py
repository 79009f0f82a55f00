# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``--engine ray``: what commands do on a cluster, and how they tell about it."""

from __future__ import annotations

import contextlib
import enum
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.messages import (
    RANDOM_WEIGHTS,
    Notes,
    print_error,
    print_line,
    print_note,
    print_report,
    progress_bar,
)
from compressai.cli.pipeline import one_line, size_figures
from compressai.cli.places import STANDARD, names_a_file, split_name

if TYPE_CHECKING:
    from compressai.cluster import JobReport, Run
    from compressai.evaluation import Evaluation
    from compressai.model_choice import ChosenModel

__all__ = [
    "Engine",
    "EngineName",
    "Retries",
    "Telling",
    "check_engine",
    "decode_on_ray",
    "encode_on_ray",
    "evaluate_on_ray",
]

_RETRIES = 2


class EngineName(str, enum.Enum):
    """Where files are worked on."""

    LOCAL = "local"
    RAY = "ray"


Engine = Annotated[
    EngineName, typer.Option(help="Where to work: on this machine, or on a Ray cluster.")
]
Retries = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="With --engine ray: how often a file that fails is tried again. "
        f"(default: {_RETRIES})",
    ),
]


@dataclass(frozen=True)
class Telling:
    """How much a command tells: its options ``--quiet``, ``-v`` and ``--json``."""

    quiet: bool
    verbose: bool
    as_json: bool


def check_engine(engine: EngineName, device: str, only_ray: Mapping[str, Any]) -> None:
    """Refuse options that the engine does not have.

    Args:
        engine: what was chosen.
        device: where networks are to run.
        only_ray: options of Ray's by name; ``None`` if not given.

    Raises:
        typer.BadParameter: there is such an option.
    """
    if engine is EngineName.RAY and device != "cpu":
        raise typer.BadParameter(
            f"--device {device} does not go with --engine ray: workers have one processor each"
        )
    given = [name for name, value in only_ray.items() if value is not None]
    if engine is not EngineName.RAY and given:
        raise typer.BadParameter(f"{' and '.join(given)}: only for --engine ray")


def encode_on_ray(
    sources: Sequence[str],
    output: str | None,
    choice: Sequence[Any],
    suffixes: Sequence[str],
    *,
    jobs: int | None,
    retries: int | None,
    max_pixels: int | None,
    telling: Telling,
    **how: Any,
) -> None:
    """Encode folders and files on a Ray cluster.

    Args:
        sources, output: words of the command line.
        choice: arguments of :class:`~compressai.model_choice.Chooser`, in order.
        suffixes: of the files to take from folders.
        jobs, retries, max_pixels: options of the command.
        telling: how much is told.
        how: ``overwrite`` and ``skip_existing`` of the command, and ``options`` of coding.

    Raises:
        typer.Exit: status 1, because an image failed.
    """
    folder, name = _places(sources, output)
    from compressai.bitstream import MAX_PIXELS
    from compressai.cluster import encode_corpus
    from compressai.model_choice import RANDOM_WEIGHTS_NOTE, Chooser

    random_weights = []

    def tell_model(chosen: ChosenModel) -> None:
        random_weights.append(chosen.random_weights)
        if chosen.random_weights:
            print_note(RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))

    with _Progress("encode") as progress:
        report = encode_corpus(
            sources,
            folder,
            Chooser(*choice),
            suffixes=suffixes,
            name=name,
            max_pixels=max_pixels or MAX_PIXELS,
            on_model=tell_model,
            run=progress.run(jobs, retries),
            **how,
        )
    figures = size_figures(_reports(report), telling.as_json)
    if telling.as_json:
        figures["random_weights"] = any(random_weights)
    _sum_up(report, figures, telling)


def decode_on_ray(
    sources: Sequence[str],
    output: str | None,
    suffix: str,
    checkpoint: Path | None,
    precision: str,
    *,
    jobs: int | None,
    retries: int | None,
    max_pixels: int | None,
    telling: Telling,
    options: Mapping[str, Any],
    **how: Any,
) -> None:
    """Decode folders and files on a Ray cluster.

    Args:
        sources, output: words of the command line.
        suffix: of the images.
        checkpoint, precision, jobs, retries, max_pixels: options of the command.
        telling: how much is told.
        options: of decoding.
        how: ``overwrite`` and ``skip_existing`` of the command.

    Raises:
        typer.Exit: status 1, because a file failed.
    """
    folder, name = _places(sources, output)
    from compressai.bitstream import MAX_PIXELS
    from compressai.cluster import decode_corpus

    with _Progress("decode") as progress:
        report = decode_corpus(
            sources,
            folder,
            suffix=suffix,
            name=name,
            checkpoint=checkpoint,
            precision=precision,
            run=progress.run(jobs, retries),
            options={**options, "max_pixels": max_pixels or MAX_PIXELS},
            **how,
        )
    _sum_up(report, {}, telling)


def _places(sources: Sequence[str], output: str | None) -> tuple[str, str | None]:
    """The folder of the results, and the name of the only one, if it is named."""
    if output is None:
        raise typer.BadParameter("--engine ray needs a folder for the results, as in SRC DST")
    if str(STANDARD) in (*sources, output):
        raise typer.BadParameter("--engine ray does not work on standard input or output")
    if len(sources) == 1 and not os.path.isdir(sources[0]) and names_a_file(output):
        return split_name(output)
    return output, None


class _Progress:
    """A bar that begins when the number of files is known, and notes on the files that are done.

    Args:
        title: what is being done.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._stack = contextlib.ExitStack()
        self._notes = Notes()
        self._advance: Callable[[str], None] = lambda name: None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        self._stack.__exit__(kind, *rest)
        self._notes.sum_up()
        if kind is not None and issubclass(kind, (KeyboardInterrupt, SystemExit)):
            print_note("the same command goes on")

    def run(self, jobs: int | None, retries: int | None) -> Run:
        """Work of which this tells, by options of the command."""
        from compressai.cluster import Run

        return Run(jobs, _RETRIES if retries is None else retries, self.start, self.take)

    def start(self, files: int) -> None:
        """Begin the bar."""
        self._advance = self._stack.enter_context(progress_bar(self.title, files))

    def take(self, row: Mapping[str, Any]) -> None:
        """Go on by a file, of which this is the row in the manifest."""
        self._advance(row["source"].rpartition("/")[2])
        told = json.loads(row["result"] or "{}")
        notes = [*told.get("notes", ()), *([RANDOM_WEIGHTS] if told.get("random_weights") else ())]
        for note in notes:
            self._notes.tell(row["source"], note)


def evaluate_on_ray(
    images: Sequence[str],
    manifest: str,
    make_codecs: Callable[[], Any],
    *,
    settings: Mapping[str, Any],
    lpips: bool,
    jobs: int | None,
    retries: int | None,
) -> tuple[Evaluation, Callable[[], None]]:
    """Evaluate on a Ray cluster.

    Returns:
        The evaluation, and what tells of the images that failed, to be called at the end.
    """
    from compressai.cluster import evaluate_corpus

    with _Progress("eval") as progress:
        result, report = evaluate_corpus(
            images,
            make_codecs,
            manifest,
            settings=settings,
            lpips=lpips,
            run=progress.run(jobs, retries),
        )
    if not result.points:
        _tell_failures(report)
    return result, lambda: _tell_failures(report)


def _sum_up(report: JobReport, figures: Mapping[str, Any], telling: Telling) -> None:
    summary: dict[str, Any] = {
        "done": len(report.done),
        "skipped": len(report.skipped),
        "failed": len(report.failed),
        **({"manifest_error": report.manifest_error} if report.manifest_error else {}),
        **figures,
        "seconds": report.seconds,
    }
    if report.done:
        summary["images_per_second"] = len(report.done) / report.seconds
    if telling.as_json:
        summary["failed"] = [
            {"file": row["source"], "error": row["error"]} for row in report.failed
        ]
    if telling.verbose and not (telling.quiet or telling.as_json):
        for one in _reports(report):
            print_line(one_line(one))
    if telling.as_json or not telling.quiet:
        print_report(summary, telling.as_json)
    _tell_failures(report)


def _reports(report: JobReport) -> list[dict[str, Any]]:
    """What this run did, as on one machine: of each file what the manifest holds, by name."""
    reports = []
    for row in report.done:
        one = {**row, **json.loads(row["result"] or "{}"), "file": row["target"]}
        if "source_bytes" in one:
            one["bpp"] = 8 * one["bytes"] / (one["width"] * one["height"])
        else:
            del one["bytes"]  # of the image that was decoded
        reports.append(one)
    return reports


def _tell_failures(report: JobReport) -> None:
    for row in report.failed:
        print_error(f"{row['source']}: {row['error']}")
    if report.manifest_error:
        print_error(
            f"the manifest lacks rows: {report.manifest_error}; the same command adds those that "
            "are missing"
        )
    if report.failed or report.manifest_error:
        raise typer.Exit(1)
