# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai decode``."""

from __future__ import annotations

import enum
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.corpus import EngineName, Retries, Telling, check_engine, decode_on_ray
from compressai.cli.engines import (
    ENGINE_HELP,
    CodingEngine,
    check_runtime,
    engine_name,
)
from compressai.cli.messages import RANDOM_WEIGHTS, Notes, no_notes
from compressai.cli.options import (
    AsJson,
    Checkpoint,
    CodedFiles,
    Device,
    Jobs,
    MaxPixels,
    Overwrite,
    Precision,
    PrecisionName,
    Quiet,
    SkipExisting,
    Verbose,
    debugging,
)
from compressai.cli.pipeline import Stages, run, threads_each
from compressai.cli.places import STANDARD, check_last_word, local_paths, split_places
from compressai.cli.tasks import Skip, Task, open_input, plan, write_output

if TYPE_CHECKING:
    from compressai.bitstream import CodedImage, ImageData
    from compressai.model_choice import ModelCache

__all__ = ["decode"]


# Single precision of three colours, and the 8-bit images that are made of them to be written.
_BYTES_HELD = 24


class Format(str, enum.Enum):
    """Kinds of image files, by their suffixes."""

    PNG = "png"
    TIFF = "tiff"
    WEBP = "webp"
    BMP = "bmp"
    PPM = "ppm"
    JPEG = "jpg"


def decode(
    context: typer.Context,
    files: CodedFiles,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="Image, folder for the images, or - for stdout. (default: beside each file)",
        ),
    ] = None,
    format_: Annotated[
        Format,
        typer.Option("--format", help="Kind of image where no name of an output tells it."),
    ] = Format.PNG,
    checkpoint: Checkpoint = None,
    precision: Precision = PrecisionName.AUTO,
    device: Device = "cpu",
    engine: Annotated[
        CodingEngine,
        typer.Option(help=ENGINE_HELP),
    ] = CodingEngine.AUTO,
    jobs: Jobs = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y,WIDTH,HEIGHT",
            help="Decode a part only, of tiled images with no more work than the part takes.",
        ),
    ] = None,
    best_effort: Annotated[
        bool,
        typer.Option(
            "--best-effort", help="Decode what is left of damaged files; says what is not."
        ),
    ] = False,
    max_pixels: MaxPixels = None,
    retries: Retries = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: AsJson = False,
) -> None:
    """Decompress coded images: decode IN OUT."""
    context.with_resource(no_notes(quiet))
    box = _region(region)
    on_ray = engine is CodingEngine.RAY
    check_engine(EngineName.RAY if on_ray else EngineName.LOCAL, device, {"--retries": retries})
    check_runtime(engine, checkpoint, device, precision)
    suffix = f".{format_.value}"
    from compressai.bitstream import IMAGE_SUFFIXES

    check_last_word(files, output, result_suffixes=IMAGE_SUFFIXES, example=".png")
    sources, output = split_places(
        files, output, source_suffixes=[".cai", ".bin"], result_suffixes=IMAGE_SUFFIXES
    )
    if on_ray:
        decode_on_ray(
            *(sources, output, suffix, checkpoint, precision.value),
            max_pixels=max_pixels,
            telling=Telling(quiet, verbose, as_json),
            jobs=jobs,
            retries=retries,
            overwrite=overwrite,
            skip_existing=skip_existing,
            options={"region": box, "best_effort": best_effort},
        )
        return
    named = sources if output is None else [*sources, output]
    paths = local_paths(named, "give --engine ray for files elsewhere")
    chosen_plan = plan(
        paths[: len(sources)],
        output,
        suffixes=[".cai"],
        new_suffix=suffix,
        what="coded image",
    )
    # After everything that can be wrong with the command line, because this takes long.
    from compressai.bitstream import (
        MAX_PIXELS,
        check_image_file,
        decode_image,
        decoding_bytes,
        read_coded,
        save_image,
    )
    from compressai.bitstream.chosen import decoding_bundle

    models: ModelCache | None = None
    threads = threads_each(chosen_plan, jobs)
    # Half precision is something that only torch has.
    may_be_bundle = checkpoint is None and device == "cpu" and precision is not PrecisionName.BF16
    lock = threading.Lock()

    def model_of(coded: CodedImage) -> Any:
        nonlocal models
        if engine is not CodingEngine.TORCH and may_be_bundle:
            needed = engine is CodingEngine.RUNTIME
            found = decoding_bundle(coded, needed=needed, threads=threads)
            if found is not None:
                return found
        with lock:
            if models is None:
                # Needs torch.
                from compressai.model_choice import ModelCache

                models = ModelCache(precision=precision.value, device=device)
        return models.model_of(coded, checkpoint)

    notes = Notes()

    def named(target: Path) -> Path:
        return Path(f"stdout{suffix}") if target == STANDARD else target

    def read(task: Task) -> CodedImage:
        there = not overwrite and task.target.exists()
        if there and skip_existing:
            raise Skip
        # Beside its file, an image may be the original.
        may_be_ours = there and chosen_plan.is_job and task.mirrored
        if not may_be_ours:
            task.check_target(overwrite)
        with open_input(task.source) as source:
            coded = read_coded(source, best_effort=best_effort, max_pixels=max_pixels or MAX_PIXELS)
        if may_be_ours:
            size = (coded.width, coded.height) if box is None else box[2:]
            if _is_image_of(task, size):
                raise Skip
            raise FileExistsError(
                f"{task.target} exists and is older than {task.source}, or another image; give "
                "--overwrite to replace it, or --skip-existing to keep it"
            )
        lossy = check_image_file(named(task.target), coded.mode)
        if lossy:
            notes.tell(task.target, lossy.partition(":")[0])
        if coded.random_weights:
            notes.tell(task.source, RANDOM_WEIGHTS)
        return coded

    def code(task: Task, coded: CodedImage) -> tuple[Any, Any, ImageData, float]:
        net = model_of(coded)
        start = time.perf_counter()
        image = decode_image(
            net,
            coded,
            max_pixels=max_pixels or MAX_PIXELS,
            region=box,
            best_effort=best_effort,
        )
        seconds = time.perf_counter() - start
        for note in image.notes:
            notes.tell(task.source, f"damaged: {note}")
        return net, coded, image, seconds

    def write(task: Task, result: tuple[Any, Any, ImageData, float]) -> dict[str, Any]:
        net, coded, image, seconds = result
        if task.target == STANDARD:
            with tempfile.TemporaryDirectory() as folder:
                draft = Path(folder) / named(task.target)
                save_image(image, draft)
                write_output(STANDARD, draft.read_bytes())
        else:
            save_image(image, task.target, replace=overwrite)
        return {
            "source": str(task.source),
            "file": str(task.target),
            "width": image.size[0],
            "height": image.size[1],
            "mode": image.mode,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "engine": engine_name(net),
            "complete": not image.notes,
            "seconds": seconds,
        }

    def held(task: Task) -> int:
        # Coded images are small: reading one twice costs nothing beside decoding it.
        with open_input(task.source) as source:
            coded = read_coded(source, best_effort=best_effort, max_pixels=max_pixels or MAX_PIXELS)
        width, height = (coded.width, coded.height) if box is None else box[2:]
        return _BYTES_HELD * width * height

    def needed(task: Task, coded: CodedImage) -> int:
        return decoding_bytes(model_of(coded), coded)

    stages = Stages(read, code, write, held, needed)
    run(
        chosen_plan,
        stages,
        jobs=jobs,
        title="decode",
        as_json=as_json,
        debug=debugging(context),
        notes=notes,
        quiet=quiet,
        verbose=verbose,
    )


def _is_image_of(task: Task, size: Sequence[int]) -> bool:
    """Whether the target is an image of that size, and no older than the source."""
    from PIL import Image, UnidentifiedImageError

    if task.target.stat().st_mtime_ns < task.source.stat().st_mtime_ns:
        return False
    try:
        with Image.open(task.target) as image:
            return image.size == tuple(size)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return False


def _region(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    numbers = text.split(",")
    if len(numbers) != 4 or not all(number.strip().isdecimal() for number in numbers):
        raise typer.BadParameter(f"--region must be four numbers X,Y,WIDTH,HEIGHT, got {text!r}")
    return tuple(map(int, numbers))
