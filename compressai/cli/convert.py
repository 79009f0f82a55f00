# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai convert``, and the command line of ``examples/convert_*_checkpoint.py``."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressai.cli.messages import print_note, print_report
from compressai.cli.tasks import check_output

if TYPE_CHECKING:
    from torch import nn

    from compressai.convert import Conversion

__all__ = ["convert", "facts", "run_script"]


def convert(
    checkpoint: Annotated[Path, typer.Argument(help="The authors' .pth or .pth.tar file.")],
    output: Annotated[
        Path | None,
        typer.Argument(help="File to write: .safetensors, or .pth for a bare state dict."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Program of the authors, as compressai models names it; found out if left out.",
        ),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Put it where pretrained=True finds it.")
    ] = False,
    quality: Annotated[
        int | None,
        typer.Option("-q", "--quality", help="Rate point in the zoo; needed by --install."),
    ] = None,
    metric: Annotated[str, typer.Option(help="What the weights were trained for.")] = "mse",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace weights that exist.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Convert a checkpoint that the authors of a model published."""
    if output is None and not install:
        raise typer.BadParameter("name a file to write, or give --install")
    if install and quality is None:
        raise typer.BadParameter("--install needs the --quality that the weights are for")
    from compressai.convert import (
        check_by_coding,
        convert_checkpoint,
        other_lambda,
        save,
        training_recipe,
    )
    from compressai.convert import install as put_into_zoo

    if output is not None:
        check_output(output, overwrite, makes_folder=True)
    conversion = convert_checkpoint(checkpoint, source)
    recipe = {}
    if quality is not None:
        recipe = training_recipe(conversion.architecture, quality, metric)
        note = other_lambda(checkpoint.name, conversion.architecture, quality, metric)
        if note:
            print_note(note)
    check = check_by_coding(conversion.net)
    files = []
    if output is not None:
        save(conversion, output, quality=quality, metric=metric, replace=overwrite)
        files.append(str(output))
    if install:
        files.append(str(put_into_zoo(conversion, quality, metric, overwrite=overwrite)))
    if not as_json:
        _print_names(conversion)
    print_report(
        {
            "files": files if as_json else ", ".join(files),
            "from": conversion.source,
            "model": conversion.architecture,
            **({"quality": quality, "metric": metric, **recipe} if recipe else {}),
            **facts(conversion.net),
            "entries_read": len(conversion.names),
            "entries_written": conversion.entries_written,
            "self_check_psnr": check.psnr,
            "self_check_bpp": check.coded_bpp,
        },
        as_json,
    )


def facts(net: nn.Module) -> dict[str, Any]:
    """Sizes of a converted model, by its constructor's arguments, and its number of parameters."""
    names = inspect.signature(type(net)).parameters
    sizes = {name: getattr(net, name) for name in names if hasattr(net, name)}
    return {**sizes, "parameters": sum(parameter.numel() for parameter in net.parameters())}


def _print_names(conversion: Conversion) -> None:
    for (old, new), count in conversion.summary().items():
        print(f"{count:5}  {old}" + (f"  ->  {new}" if new != old else ""))


def run_script(
    description: str,
    sources: Sequence[str],
    argv: Sequence[str] | None = None,
    *,
    option: str = "--arch",
) -> None:
    """Convert as a script's command line says: ``--src``, ``--dst``, ``--smoke``, ``--arch``.

    Ends the process with a message if the file is missing or does not fit.

    Args:
        description: what the script is for.
        sources: programs to choose from with ``--arch``; with one there is no such option.
        argv: command line; ``None`` takes that of the process.
        option: what ``--arch`` is called.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--src", type=Path, required=True, help="checkpoint of the authors")
    parser.add_argument("--dst", type=Path, help="file to write: .pth or .safetensors")
    parser.add_argument("--smoke", action="store_true", help="code an image, print its quality")
    parser.add_argument("--smoke-size", type=int, default=256, help="side of that image")
    if len(sources) > 1:
        parser.add_argument(option, dest="arch", choices=sources, help="default: found out")
    args = parser.parse_args(argv)
    if not args.src.is_file():
        sys.exit(f"checkpoint not found: {args.src}")
    _exit_on_error(lambda: _run(args, sources))


def _run(args: argparse.Namespace, sources: Sequence[str]) -> None:
    from compressai.convert import check_by_coding, convert_checkpoint, save

    conversion = convert_checkpoint(args.src, getattr(args, "arch", None))
    if conversion.source not in sources:
        raise ValueError(f"{args.src} is of {conversion.source}, not of {' or '.join(sources)}")
    print(f"original keys: {len(conversion.names)}")
    print(f"converted keys: {conversion.entries_written}")
    print_report(facts(conversion.net), as_json=False)
    if args.dst is not None:
        save(conversion, args.dst)
        print(f"saved: {args.dst}")
    if args.smoke:
        check = check_by_coding(conversion.net, args.smoke_size)
        print(
            f"PSNR {check.psnr:.2f} dB, y {check.y_bpp:.4f} bpp, z {check.z_bpp:.4f} bpp, "
            f"total {check.y_bpp + check.z_bpp:.4f} bpp"
        )


def _exit_on_error(action: Callable[[], None]) -> None:
    try:
        action()
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
