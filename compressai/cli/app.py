# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Commands of the ``compressai`` program."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from compressai.cli.convert import convert
from compressai.cli.messages import print_error, print_note, print_report
from compressai.version import __version__

__all__ = ["app", "main"]


class _Program(TyperGroup):
    """Ends with one line on stderr and status 1 where the library raises an error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except (ImportError, OSError, ValueError, RuntimeError, MemoryError) as error:
            if ctx.params["debug"]:
                raise
            print_error(error)
            raise typer.Exit(1) from None


app = typer.Typer(
    name="compressai",
    cls=_Program,
    help="Learned image compression.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)

Checkpoint = Annotated[
    Path | None, typer.Option(help="File with weights, such as one of examples/train.py.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
MaxPixels = Annotated[
    int | None,
    typer.Option("--max-pixels", min=1, help="Refuse larger pictures.  [default: 134217728]"),
]
CodedFile = Annotated[Path, typer.Argument(help="A .cai file, or a .bin file of CompressAI 1.2.")]


def _print_version(value: bool) -> None:
    if value:
        print(f"compressai {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks of errors; before the command.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    # _Program and _print_version use these.
    del debug, version


@app.command()
def encode(
    picture: Annotated[Path, typer.Argument(help="Picture of any kind that Pillow reads.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: PICTURE with suffix .cai.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Name in the model zoo.  [default: mbt2018-mean]")
    ] = None,
    quality: Annotated[
        int | None, typer.Option("-q", "--quality", help="Quality in the zoo.  [default: 3]")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What the zoo's weights were trained for.  [default: mse]")
    ] = None,
    checkpoint: Checkpoint = None,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compress a picture into a .cai file."""
    if checkpoint is not None and (quality, metric) != (None, None):
        raise typer.BadParameter("--quality and --metric choose weights of the zoo, not of a file")
    from compressai._files import atomic_write
    from compressai.bitstream import MAX_PIXELS, encode_picture, read_picture
    from compressai.cli import weights

    target = output or picture.with_suffix(".cai")
    _check_target(target, picture, overwrite)
    source = read_picture(picture)
    for note in source.notes:
        print_note(f"{picture}: {note}")
    if model is None and checkpoint is None:
        model = weights.DEFAULT_MODEL
    chosen = weights.choose_model(
        model,
        weights.DEFAULT_QUALITY if quality is None else quality,
        weights.DEFAULT_METRIC if metric is None else metric,
        checkpoint,
    )
    if chosen.random_weights:
        print_note(weights.RANDOM_WEIGHTS_NOTE.format_map(vars(chosen)))
    start = time.perf_counter()
    coded = encode_picture(
        chosen.net,
        source,
        model=chosen.model,
        quality=chosen.quality,
        metric=chosen.metric,
        random_weights=chosen.random_weights,
        max_pixels=max_pixels or MAX_PIXELS,
    )
    seconds = time.perf_counter() - start
    content = coded.to_bytes()
    with atomic_write(target) as unfinished:
        unfinished.write_bytes(content)
    print_report(
        {
            "file": str(target),
            "bytes": len(content),
            "bpp": 8 * len(content) / (coded.width * coded.height),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "seconds": seconds,
        },
        as_json,
    )


@app.command()
def decode(
    file: CodedFile,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: FILE with suffix .png.")
    ] = None,
    checkpoint: Checkpoint = None,
    max_pixels: MaxPixels = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decompress a coded picture."""
    from compressai.bitstream import (
        MAX_PIXELS,
        check_picture_file,
        decode_picture,
        read_coded,
        save_picture,
    )
    from compressai.cli.weights import model_of

    target = output or file.with_suffix(".png")
    _check_target(target, file, overwrite)
    coded = read_coded(file)
    note = check_picture_file(target, coded.mode)
    if note:
        print_note(note)
    if coded.random_weights:
        print_note(f"{file} was coded with RANDOM weights: the picture will not be recognisable")
    net = model_of(coded, checkpoint)
    start = time.perf_counter()
    picture = decode_picture(net, coded, max_pixels=max_pixels or MAX_PIXELS)
    seconds = time.perf_counter() - start
    save_picture(picture, target)
    print_report(
        {
            "file": str(target),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "seconds": seconds,
        },
        as_json,
    )


@app.command()
def info(file: CodedFile, as_json: AsJson = False) -> None:
    """Show what a coded picture says about itself."""
    from compressai.bitstream import CodedPicture, read_coded

    coded = read_coded(file)
    size = file.stat().st_size
    print_report(
        {
            "file": str(file),
            "format": "cai 1" if isinstance(coded, CodedPicture) else "CompressAI 1.2",
            "bytes": size,
            "bpp": 8 * size / (coded.width * coded.height),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "fingerprint": coded.fingerprint.hex() or None,
            "shape": coded.shape,
            "string_bytes": [len(string) for string in coded.strings],
            "alpha_bytes": len(coded.alpha),
        },
        as_json,
    )


app.command()(convert)


def _check_target(target: Path, source: Path, overwrite: bool) -> None:
    """Refuse before the work what could not be written after it."""
    from compressai._files import check_writable

    check_writable(target)
    if target.exists():
        if source.exists() and target.samefile(source):
            raise ValueError(f"{target} is the input: name another output with -o")
        if not overwrite:
            raise FileExistsError(f"{target} exists; give --overwrite to replace it")


def main(arguments: list[str] | None = None) -> None:
    """Run the program.

    Ends the process with status 0, 1 for an error, or 2 for a wrong command line.

    Args:
        arguments: command line without the program's name; ``None`` takes that of the process.
    """
    app(sys.argv[1:] if arguments is None else list(arguments))
