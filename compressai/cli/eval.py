# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai eval``."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.corpus import Engine, EngineName, Retries, check_engine, evaluate_on_ray
from compressai.cli.messages import print_note, print_report, progress_bar
from compressai.cli.options import (
    Device,
    Effort,
    Metric,
    ModelName,
    Overwrite,
    Precision,
    PrecisionName,
    parse_quality,
)
from compressai.cli.places import local_paths
from compressai.cli.published import PublishedDataset
from compressai.cli.several import STDOUT, command_with_several
from compressai.cli.tasks import check_output

if TYPE_CHECKING:
    from compressai.evaluation import Evaluation, ImageCodec, ModelCodec

__all__ = ["CLASSICAL", "SETTINGS", "evaluate"]


# As compressai.evaluation.CODECS has them; a test compares, because importing that takes long.
CLASSICAL = ("jpeg", "webp", "avif", "jxl", "jpeg2000")


def _is_anchor(word: str) -> bool:
    """Whether a word behind ``--against`` can be one more of what to compare with."""
    return word.endswith(".json") or not ("/" in word or "." in word or Path(word).exists())


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdecimal()


SETTINGS = {
    "cls": command_with_several(
        {
            "--quality": _is_number,
            "-q": _is_number,
            "--against": _is_anchor,
            "--checkpoint": bool,
        },
        alone=("--json",),
    ),
}


def evaluate(
    images: Annotated[
        list[str], typer.Argument(help="Images, or folders with images.", show_default=False)
    ],
    model: ModelName = None,
    quality: Annotated[
        list[float] | None,
        typer.Option(
            "-q",
            "--quality",
            parser=parse_quality,
            metavar="NUMBER",
            help="Qualities of the zoo, as in --quality 1 2 3 (default: all, of a scale six)",
        ),
    ] = None,
    metric: Metric = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="Files with weights in place of the zoo's, one for each point."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"What to compare with: codecs ({', '.join(CLASSICAL)}) that code the same "
            "images, models with published points on --dataset, JSON files with points.",
        ),
    ] = None,
    dataset: PublishedDataset = "kodak",
    effort: Effort = 1,
    precision: Precision = PrecisionName.FP32,
    device: Device = "cpu",
    lpips: Annotated[
        bool | None,
        typer.Option(
            "--lpips/--no-lpips",
            help="Also LPIPS (default: if the extra and AlexNet's weights are at hand)",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="[FILE]", help="Write or, without a file, print JSON."),
    ] = None,
    csv: Annotated[Path | None, typer.Option(help="Write a line for each point.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the curves: a .png, .svg or .pdf file.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page that shows the images side by side.")
    ] = None,
    engine: Engine = EngineName.LOCAL,
    manifest: Annotated[
        str | None,
        typer.Option(help="With --engine ray: folder that keeps what was measured, to go on from."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", min=1, help="With --engine ray: workers (default: all processors)"
        ),
    ] = None,
    retries: Retries = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure rate, distortion and times of a model, against classical codecs."""
    if checkpoint and metric is not None:
        raise typer.BadParameter("--metric chooses weights of the zoo, not of a file")
    if engine is EngineName.RAY and html is not None:
        raise typer.BadParameter("--html needs the images here: it does not go with --engine ray")
    check_engine(engine, device, {"--manifest": manifest, "--jobs": jobs, "--retries": retries})
    if engine is EngineName.RAY and manifest is None:
        raise typer.BadParameter("--engine ray needs --manifest, a folder to keep the figures in")
    json_file = None if json in (None, STDOUT) else Path(json)
    for file in (json_file, csv, plot, html):
        if file is not None:
            check_output(file, overwrite)
    if plot is not None or html is not None:
        from compressai.evaluation.plot import check_plot_file, require_matplotlib

        require_matplotlib()
        if plot is not None:
            check_plot_file(plot)
    from compressai import evaluation
    from compressai.evaluation.metrics import lpips_at_hand

    lpips = lpips_at_hand() if lpips is None else lpips
    wanted = dict.fromkeys(against or ())
    names = [name for name in wanted if name in CLASSICAL]
    try:
        others = [name for name in wanted if name not in CLASSICAL]
        references = [evaluation.known_curve(name, dataset=dataset) for name in others]
    except ValueError as error:
        raise typer.BadParameter(
            f"--against: {error}; {', '.join(CLASSICAL)} are measured"
        ) from error
    choice = (model, quality, metric, checkpoint or [], precision.value, device, effort)
    if engine is EngineName.RAY and manifest is not None:
        result, tell_failures = evaluate_on_ray(
            *(images, manifest, functools.partial(_codecs, choice, names)),
            settings=_settings(choice, names),
            lpips=lpips,
            jobs=jobs,
            retries=retries,
        )
    else:
        paths = local_paths(images, "give --engine ray for files elsewhere")
        files = evaluation.find_images(paths)
        tested, codecs = _codecs(choice, names)
        points = len(files) * sum(len(codec.qualities) for codec in (*tested, *codecs))
        with progress_bar("eval", points) as advance:
            result = evaluation.evaluate(
                files,
                tested,
                codecs,
                lpips=lpips,
                keep_images=html is not None,
                on_point=lambda point: advance(f"{point.image} {point.codec} {point.quality}"),
            )
    result.references = references
    _write(result, json_file, csv, plot, html, overwrite)
    if json == STDOUT:
        print_report(result.to_dict(), as_json=True)
    else:
        print(result)
    if engine is EngineName.RAY:
        tell_failures()


def _codecs(
    choice: tuple[Any, ...], against: list[str]
) -> tuple[list[ModelCodec], list[ImageCodec]]:
    """The codecs under test, and those to compare them with."""
    from compressai.evaluation import find_codec

    make, effort = _model_codec(*choice[:-1]), choice[-1]
    plain = [] if effort == 1 else [make(effort=1)]
    return [make(effort=effort)], [*plain, *(find_codec(name) for name in against)]


def _settings(choice: tuple[Any, ...], against: list[str]) -> dict[str, Any]:
    """What tells these codecs from others, as JSON data; the precision they tell themselves."""
    model, quality, metric, checkpoints, _, _, effort = choice
    hashes = [hashlib.sha256(file.read_bytes()).hexdigest() for file in checkpoints]
    return {
        "model": model,
        "quality": quality,
        "metric": metric,
        "checkpoints": hashes,
        "against": against,
        "effort": effort,
    }


def _write(
    result: Evaluation,
    json_file: Path | None,
    csv: Path | None,
    plot: Path | None,
    html: Path | None,
    overwrite: bool,
) -> None:
    if json_file is not None:
        result.to_json(json_file, replace=overwrite)
    if csv is not None:
        result.to_csv(csv, replace=overwrite)
    if plot is not None:
        result.plot(plot, replace=overwrite)
    if html is not None:
        result.to_html(html, replace=overwrite)


def _model_codec(
    model: str | None,
    quality: list[float] | None,
    metric: str | None,
    checkpoints: list[Path],
    precision: str,
    device: str,
) -> Callable[..., ModelCodec]:
    """What makes a codec of the model under test, with a network for each point."""
    from compressai import model_choice
    from compressai.bitstream.chosen import rates_of
    from compressai.evaluation import ModelCodec
    from compressai.registry import ENTRIES

    def choose(quality: float | None, file: Path | None = None) -> model_choice.ChosenModel:
        return model_choice.choose_model(
            *(model, quality, metric or model_choice.DEFAULT_METRIC, file),
            precision=precision,
            device=device,
        )

    if checkpoints:
        chosen = [choose(None, file) for file in checkpoints]
        labels: list[float | str] = [file.stem for file in checkpoints]
        if len(set(labels)) < len(labels):
            labels = [str(file) for file in checkpoints]
    else:
        model = model or model_choice.DEFAULT_MODEL
        entry = ENTRIES.get(model)
        labels = list(dict.fromkeys(quality or ()))
        if entry is not None and entry.scale:
            labels = labels[:1]  # the same weights for all
        elif not labels and entry is not None and not entry.variable_rate:
            labels = list(range(entry.qualities[0], entry.qualities[1] + 1))
        chosen = [choose(label) for label in labels or [None]]
    rates = rates_of(chosen[0].net)
    if rates is not None and (len(chosen) == 1 or not checkpoints):
        # The same weights for all rates. Six show the whole of a scale.
        shown = rates if isinstance(rates, range) else rates[:: max(1, len(rates) // 5)]
        labels = list(dict.fromkeys(quality or shown))
        chosen = [chosen[0]] * len(labels)
    elif checkpoints and quality:
        raise ValueError(
            "--quality chooses weights of the zoo, or the rates of one checkpoint of a "
            "variable-rate model"
        )
    names = {one.model for one in chosen}
    if len(names) > 1:
        raise ValueError(f"checkpoints must be of one model, got {', '.join(sorted(names))}")
    for one in dict.fromkeys(chosen):
        if one.random_weights:
            print_note(model_choice.RANDOM_WEIGHTS_NOTE.format_map(vars(one)))
    return functools.partial(
        ModelCodec,
        chosen[0].model,
        {label: one.net for label, one in zip(labels, chosen)},
        metric=chosen[0].metric,
        random_weights=any(one.random_weights for one in chosen),
        # Of module.Class the class.
        name=chosen[0].model.rpartition(".")[2],
    )
