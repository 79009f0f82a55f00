# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``--engine ray``: what commands do on a cluster, and how they tell about it."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.messages import print_error, print_note, print_report
from compressai.cli.places import STANDARD, names_a_file, split_name

if TYPE_CHECKING:
    from compressai.cluster import JobReport
    from compressai.evaluation import Evaluation
    from compressai.model_choice import ChosenModel

__all__ = [
    "Engine",
    "EngineName",
    "Retries",
    "check_engine",
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
    overwrite: bool,
    skip_existing: bool,
    max_pixels: int | None,
    options: Mapping[str, Any],
    as_json: bool,
) -> None:
    """Encode folders and files on a Ray cluster.

    Args:
        sources, output: words of the command line.
        choice: arguments of :class:`~compressai.model_choice.Chooser`, in order.
        suffixes: of the files to take from folders.
        jobs, retries, overwrite, skip_existing, max_pixels, as_json: options of the command.
        options: of coding.

    Raises:
        typer.Exit: status 1, because an image failed.
    """
    if output is None:
        raise typer.BadParameter("--engine ray needs a folder for the results, as in SRC DST")
    if str(STANDARD) in (*sources, output):
        raise typer.BadParameter("--engine ray does not work on standard input or output")
    name = None
    if len(sources) == 1 and not os.path.isdir(sources[0]) and names_a_file(output):
        output, name = split_name(output)
    from compressai.bitstream import MAX_PIXELS
    from compressai.cluster import encode_corpus
    from compressai.model_choice import RANDOM_WEIGHTS_NOTE, Chooser

    random_weights = []
    finished: list[Mapping[str, Any]] = []

    def tell_model(chosen: ChosenModel) -> None:
        random_weights.append(chosen.random_weights)
        if chosen.random_weights:
            print_note(RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))

    try:
        report = encode_corpus(
            sources,
            output,
            Chooser(*choice),
            suffixes=suffixes,
            name=name,
            workers=jobs,
            retries=_RETRIES if retries is None else retries,
            overwrite=overwrite,
            skip_existing=skip_existing,
            max_pixels=max_pixels or MAX_PIXELS,
            options=options,
            on_model=tell_model,
            on_row=finished.append,
        )
    except (KeyboardInterrupt, SystemExit):
        done = sum(row["status"] == "done" for row in finished)
        print_note(f"encode: interrupted, {done} images are done; the same command goes on")
        raise
    size = sum(row["bytes"] for row in report.done)
    pixels = sum(row["width"] * row["height"] for row in report.done)
    figures: dict[str, Any] = {"bytes": size, "bpp": 8 * size / pixels} if pixels else {}
    if as_json:
        figures["random_weights"] = any(random_weights)
    _print_summary(report, figures, as_json)
    _tell_failures(report)


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

    result, report = evaluate_corpus(
        images,
        make_codecs,
        manifest,
        settings=settings,
        lpips=lpips,
        workers=jobs,
        retries=_RETRIES if retries is None else retries,
    )
    if not result.points:
        _tell_failures(report)
    return result, lambda: _tell_failures(report)


def _print_summary(report: JobReport, figures: Mapping[str, Any], as_json: bool) -> None:
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
    if as_json:
        summary["failed"] = [
            {"file": row["source"], "error": row["error"]} for row in report.failed
        ]
    print_report(summary, as_json)


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
