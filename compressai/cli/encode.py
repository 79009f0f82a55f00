# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai encode``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.corpus import EngineName, Retries, Telling, check_engine, encode_on_ray
from compressai.cli.engines import (
    ENGINE_HELP,
    CodingEngine,
    check_runtime,
    encoding_bundle,
    encoding_bundles,
    engine_name,
)
from compressai.cli.messages import Notes, no_notes, print_note, share_bar
from compressai.cli.options import (
    AnyQuality,
    AsJson,
    Checkpoint,
    Device,
    Effort,
    Jobs,
    MaxPixels,
    Metric,
    ModelName,
    Multiplier,
    Overwrite,
    Precision,
    PrecisionName,
    Quiet,
    SkipExisting,
    SyncSafe,
    Verbose,
    debugging,
)
from compressai.cli.pipeline import Stages, run, threads_each
from compressai.cli.places import STANDARD, check_last_word, local_paths, split_places
from compressai.cli.tasks import Skip, Task, open_input, plan, write_output

if TYPE_CHECKING:
    from compressai.bitstream import CodedImage, ImageData
    from compressai.bitstream.chosen import ChosenModel, Ladder
    from compressai.targets import Target

__all__ = ["encode"]

# Single precision of three colours, and what Pillow has of them while they are read.
_BYTES_HELD = 16


def encode(
    context: typer.Context,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IN",
            help="Images of any kind that Pillow reads, folders with images, or - for stdin; "
            "then, unless -o names it, the output.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="File, folder for the results, or - for stdout. (default: beside each image, "
            "with suffix .cai)",
        ),
    ] = None,
    model: ModelName = None,
    quality: AnyQuality = None,
    metric: Metric = None,
    checkpoint: Checkpoint = None,
    precision: Precision = PrecisionName.AUTO,
    device: Device = "cpu",
    jobs: Jobs = None,
    tile: Annotated[
        str,
        typer.Option(
            metavar="auto|none|SIZE",
            help="Side of the tiles that an image is cut into, which bound the memory that coding "
            "takes; auto cuts images above three megapixels.",
        ),
    ] = "auto",
    keep_metadata: Annotated[
        bool,
        typer.Option(
            "--keep-metadata",
            help="Keep EXIF, and the colour profile with the colours as they are.",
        ),
    ] = False,
    sync_safe: SyncSafe = None,
    target_bytes: Annotated[
        int | None,
        typer.Option(help="Code with the best quality whose file has at most so many bytes."),
    ] = None,
    target_bpp: Annotated[
        float | None, typer.Option(help="The same in bits for each pixel of the image.")
    ] = None,
    target_psnr: Annotated[
        float | None, typer.Option(help="Code with the lowest quality that has so many dB.")
    ] = None,
    target_ms_ssim: Annotated[
        float | None, typer.Option(help="Code with the lowest quality that has so much MS-SSIM.")
    ] = None,
    effort: Effort = 1,
    lmbda: Multiplier = None,
    max_pixels: MaxPixels = None,
    engine: Annotated[CodingEngine, typer.Option(help=ENGINE_HELP)] = CodingEngine.AUTO,
    retries: Retries = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Compress images into .cai files: encode IN OUT."""
    context.with_resource(no_notes(quiet))
    tile_size = _tile_size(tile)
    if checkpoint is not None and metric is not None:
        raise typer.BadParameter("--metric chooses weights of the zoo, not of a file")
    on_ray = engine is CodingEngine.RAY
    check_engine(EngineName.RAY if on_ray else EngineName.LOCAL, device, {"--retries": retries})
    check_runtime(engine, checkpoint, device, precision)
    if lmbda is not None and effort == 1:
        raise typer.BadParameter("--lambda: only for --effort 2 to 9")
    target = _target(target_bytes, target_bpp, target_psnr, target_ms_ssim)
    if target is not None and quality is not None:
        raise typer.BadParameter(f"--quality and --target-{target.kind} contradict each other")
    # What only torch can do.
    needs_torch = effort > 1 or target_ms_ssim is not None
    if engine is CodingEngine.RUNTIME and needs_torch:
        raise typer.BadParameter("--engine runtime has neither --effort nor --target-ms-ssim")
    from compressai._images import buffer_image, image_suffixes, read_size

    suffixes = image_suffixes()
    check_last_word(images, output, result_suffixes=[".cai"], example=".cai")
    sources, output = split_places(
        images, output, source_suffixes=suffixes, result_suffixes=[".cai"]
    )
    choice = (model, quality, metric, checkpoint, precision.value, device)
    if on_ray:
        options = {"tile": tile_size, "sync_safe": sync_safe, "keep_metadata": keep_metadata}
        if effort > 1:
            options |= {"effort": effort, "lmbda": lmbda}
        if target is not None:
            options["target"] = [target.kind, target.value]
        encode_on_ray(
            *(sources, output, choice, suffixes),
            max_pixels=max_pixels,
            telling=Telling(quiet, verbose, as_json),
            jobs=jobs,
            retries=retries,
            overwrite=overwrite,
            skip_existing=skip_existing,
            options=options,
        )
        return
    named = sources if output is None else [*sources, output]
    paths = local_paths(named, "give --engine ray for files elsewhere")
    chosen_plan = plan(
        paths[: len(sources)], output, suffixes=suffixes, new_suffix=".cai", what="image"
    )
    # After everything that can be wrong with the command line, because this takes long.
    from compressai.bitstream import (
        MAX_PIXELS,
        BitstreamError,
        encode_image,
        encoding_bytes,
        read_coded,
        read_image,
    )
    from compressai.bitstream.finished import is_up_to_date

    bundle: ChosenModel | None = None
    may_be_bundle = checkpoint is None and device == "cpu" and precision is not PrecisionName.BF16
    bundles: Ladder | None = None
    if engine is not CodingEngine.TORCH and may_be_bundle and not needs_torch:
        how: dict[str, Any] = {
            "needed": engine is CodingEngine.RUNTIME,
            "plain": sync_safe is False,
            "threads": threads_each(chosen_plan, jobs),
        }
        if target is None:
            bundle = encoding_bundle(model, quality, metric, **how)
        else:
            bundles = encoding_bundles(model, metric, **how)
            bundle = bundles and bundles.choose(bundles.qualities[-1])
    notes = Notes()
    progress: Callable[[float], None] | None = None
    most_pixels = max_pixels or MAX_PIXELS
    chosen: ChosenModel
    ladder: Ladder

    def read(task: Task) -> ImageData:
        if not overwrite and task.target.exists():
            keep_or_refuse(task)
        task.check_target(overwrite)
        source: Any = task.source
        if source == STANDARD:
            with open_input(STANDARD) as stream:
                source = buffer_image(stream, most_pixels)
        image = read_image(
            source,
            keep_metadata=keep_metadata,
            max_pixels=most_pixels,
            as_array=bundle is not None,
        )
        for note in image.notes:
            notes.tell(task.source, note)
        return image

    def keep_or_refuse(task: Task) -> None:
        if skip_existing:
            raise Skip
        if not (chosen_plan.is_job and task.source.is_file() and task.target.is_file()):
            return
        options = {"keep_metadata": keep_metadata, "tile": tile_size, "sync_safe": sync_safe}
        rate = chosen if target is None else of_file(task.target)
        if rate is not None and is_up_to_date(task.target, task.source, **options, **vars(rate)):
            raise Skip
        raise FileExistsError(
            f"{task.target} exists and is older than the image, or was coded otherwise; give "
            "--overwrite to replace it, or --skip-existing to keep it"
        )

    def of_file(path: Path) -> ChosenModel | None:
        try:
            return ladder.of_image(read_coded(path))
        except BitstreamError:
            return None

    def code(task: Task, image: ImageData) -> tuple[CodedImage, bytes, float]:
        start = time.perf_counter()
        options: dict[str, Any] = {
            "max_pixels": most_pixels,
            "tile": tile_size,
            "sync_safe": sync_safe,
            "effort": effort,
            "lmbda": lmbda,
            "progress": progress,
        }
        if target is None:
            coded = encode_image(image=image, **vars(chosen), **options)
        else:
            from compressai.targets import encode_to_target

            coded = encode_to_target(image, target, ladder, **options)
        return coded, coded.to_bytes(), time.perf_counter() - start

    def write(task: Task, result: tuple[CodedImage, bytes, float]) -> dict[str, Any]:
        coded, content, seconds = result
        write_output(task.target, content, replace=overwrite)
        return {
            "source": str(task.source),
            "file": str(task.target),
            "bytes": len(content),
            "source_bytes": None if task.source == STANDARD else task.source.stat().st_size,
            "bpp": 8 * len(content) / (coded.width * coded.height),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "tiles": len(coded.tiles),
            "sync_safe": coded.sync_safe,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "engine": engine_name(chosen.net),
            "seconds": seconds,
        }

    def held(task: Task) -> int:
        width, height = read_size(task.source)
        return _BYTES_HELD * width * height

    def needed(task: Task, image: ImageData) -> int:
        return encoding_bytes(
            chosen.net, image, quality=chosen.quality, tile=tile_size, effort=effort
        )

    def load() -> ChosenModel:
        nonlocal ladder
        if bundle is not None:
            if bundles is not None:
                ladder = bundles
            return bundle
        # Needs torch.
        from compressai import model_choice

        chooser = model_choice.Chooser(*choice)
        if target is None:
            chosen = chooser()
        else:
            ladder = chooser.ladder()
            chosen = ladder.choose(ladder.qualities[-1])
        if chosen.random_weights:
            print_note(model_choice.RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
        return chosen

    def read_and_load(task: Task) -> ImageData:
        nonlocal chosen
        # Before the weights are loaded, which may take longer than all the rest.
        image = read(task)
        chosen = load()
        return image

    if chosen_plan.is_job:
        chosen = load()
        stages = Stages(read, code, write, held, needed)
    else:
        stages = Stages(read_and_load, code, write)
    with contextlib.ExitStack() as stack:
        if effort > 1 and not chosen_plan.is_job:
            progress = stack.enter_context(share_bar("encode"))
        run(
            chosen_plan,
            stages,
            jobs=jobs,
            title="encode",
            as_json=as_json,
            debug=debugging(context),
            notes=notes,
            quiet=quiet,
            verbose=verbose,
        )


def _target(
    size: int | None, bpp: float | None, decibels: float | None, similarity: float | None
) -> Target | None:
    """The only one of these that is given.

    Raises:
        typer.BadParameter: several are.
    """
    values = {"bytes": size, "bpp": bpp, "psnr": decibels, "ms-ssim": similarity}
    given = {kind: value for kind, value in values.items() if value is not None}
    if not given:
        return None
    if len(given) > 1:
        names = " and ".join(f"--target-{kind}" for kind in given)
        raise typer.BadParameter(f"{names} contradict each other: give one of them")
    from compressai.targets import Target

    [(kind, value)] = given.items()
    try:
        return Target(kind, value)
    except ValueError as error:
        raise typer.BadParameter(f"--target-{kind}: {error}") from error


def _tile_size(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    if not text.isdecimal() or not int(text):
        raise typer.BadParameter(f"--tile must be auto, none, or a number of pixels, got {text!r}")
    return int(text)
