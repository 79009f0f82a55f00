# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Commands of the ``compressai`` program."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from compressai.version import __version__

__all__ = ["app", "main"]

app = typer.Typer(
    name="compressai",
    help="Learned image compression.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
_out = Console()
_messages = Console(stderr=True)

Checkpoint = Annotated[
    Path | None, typer.Option(help="File with weights, such as one of examples/train.py.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


def _print_version(value: bool) -> None:
    if value:
        print(f"compressai {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = debug


@app.command()
def encode(
    picture: Annotated[Path, typer.Argument(help="Picture of any kind that Pillow reads.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: PICTURE with suffix .cai.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name in the model zoo.")] = None,
    quality: Annotated[int, typer.Option("-q", "--quality", help="Quality in the zoo.")] = 3,
    metric: Annotated[str, typer.Option(help="What the weights were trained for.")] = "mse",
    checkpoint: Checkpoint = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Compress a picture into a .cai file."""
    from compressai.bitstream import encode_picture, read_picture
    from compressai.cli.weights import choose_model

    target = output or picture.with_suffix(".cai")
    _refuse_existing(target, overwrite)
    source = read_picture(picture)
    for note in source.notes:
        _note(f"{picture}: {note}")
    if model is None and checkpoint is None:
        model = "mbt2018-mean"
    chosen = choose_model(model, quality, metric, checkpoint)
    if chosen.random_weights:
        _note(
            f"no trained weights of {chosen.model} (quality {quality}, {metric}) are at hand: "
            "coding with RANDOM ones, the picture will not be recognisable. Give --checkpoint, or "
            "put published weights into the weights folder (see the documentation)"
        )
    start = time.perf_counter()
    coded = encode_picture(
        chosen.net,
        source,
        model=chosen.model,
        quality=chosen.quality,
        metric=chosen.metric,
        random_weights=chosen.random_weights,
    )
    seconds = time.perf_counter() - start
    content = coded.to_bytes()
    _write(target, content)
    width, height = source.size
    _report(
        {
            "file": str(target),
            "bytes": len(content),
            "bpp": 8 * len(content) / (width * height),
            "width": width,
            "height": height,
            "model": coded.model,
            "quality": coded.quality,
            "random_weights": coded.random_weights,
            "seconds": seconds,
        },
        as_json,
    )


@app.command()
def decode(
    file: Annotated[Path, typer.Argument(help="A .cai file.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: FILE with suffix .png.")
    ] = None,
    checkpoint: Checkpoint = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decompress a .cai file into a picture."""
    from compressai.bitstream import CodedPicture, decode_picture
    from compressai.cli.weights import model_of

    target = output or file.with_suffix(".png")
    _refuse_existing(target, overwrite)
    coded = CodedPicture.from_bytes(file.read_bytes())
    net = model_of(coded, checkpoint)
    start = time.perf_counter()
    picture = decode_picture(net, coded)
    seconds = time.perf_counter() - start
    _save_image(picture.to_image(), target)
    _report(
        {
            "file": str(target),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "model": coded.model,
            "quality": coded.quality,
            "random_weights": coded.random_weights,
            "seconds": seconds,
        },
        as_json,
    )


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="A .cai file.")],
    as_json: AsJson = False,
) -> None:
    """Show what a .cai file says about itself."""
    from compressai.bitstream import CodedPicture

    content = file.read_bytes()
    coded = CodedPicture.from_bytes(content)
    _report(
        {
            "file": str(file),
            "bytes": len(content),
            "bpp": 8 * len(content) / (coded.width * coded.height),
            "width": coded.width,
            "height": coded.height,
            "mode": coded.mode,
            "model": coded.model,
            "quality": coded.quality,
            "metric": coded.metric,
            "random_weights": coded.random_weights,
            "fingerprint": coded.fingerprint.hex(),
            "shape": coded.shape,
            "string_bytes": [len(string) for string in coded.strings],
            "alpha_bytes": len(coded.alpha),
        },
        as_json,
    )


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; give --overwrite to replace it")


def _write(target: Path, content: bytes) -> None:
    from compressai._files import atomic_write

    with atomic_write(target) as unfinished:
        unfinished.write_bytes(content)


def _save_image(image, target: Path) -> None:
    from PIL import Image

    from compressai._files import atomic_write

    Image.init()
    kind = Image.EXTENSION.get(target.suffix.lower())
    if kind is None or kind not in Image.SAVE:
        raise ValueError(
            f"{target}: cannot write pictures with suffix {target.suffix!r}; use .png, .webp, ..."
        )
    with atomic_write(target) as unfinished:
        image.save(unfinished, format=kind)


def _note(text: str) -> None:
    _messages.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)


def _report(values: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(values))
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in values.items():
        text = f"{value:.3f}" if isinstance(value, float) else str(value)
        table.add_row(name.replace("_", " "), escape(text), style=None)
    _out.print(table)


def main(arguments: list[str] | None = None) -> None:
    """Run the program.

    Ends the process with status 0, 1 for an error, or 2 for a wrong command line.

    Args:
        arguments: command line without the program's name; ``None`` takes that of the process.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        app(arguments, standalone_mode=True)
    except (OSError, ValueError, RuntimeError) as error:
        if "--debug" in arguments:
            raise
        _messages.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(1) from None
