# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``compressai`` program: what all commands share, and the list of them.

A command is a function in a file of its own, which imports what takes long when it is called, and
a line in the list below.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from compressai.cli.bench import bench
from compressai.cli.convert import convert
from compressai.cli.decode import decode
from compressai.cli.encode import encode
from compressai.cli.eval import EvalCommand, evaluate
from compressai.cli.explain import explain
from compressai.cli.export import export
from compressai.cli.info import info
from compressai.cli.messages import print_error
from compressai.cli.models import models
from compressai.cli.pipeline import EXPECTED
from compressai.cli.plain_values import take_plain_values
from compressai.cli.plot import PlotCommand, plot
from compressai.cli.published import published
from compressai.cli.train import TRAIN_SETTINGS, train
from compressai.cli.video import video
from compressai.cli.view import view
from compressai.cli.weights import weights
from compressai.cores import wait_passively
from compressai.version import __version__

__all__ = ["app", "main"]


class _Program(TyperGroup):
    """Ends with one line on stderr and status 1 where the library raises an error."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        take_plain_values(self, ctx)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None:
            take_plain_values(command, ctx)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except EXPECTED as error:
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
    # Boxes around help take longer to draw than all the rest.
    rich_markup_mode=None,
)


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
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Module or .py file that registers models of your own; before the command, "
            "more than once for several. COMPRESSAI_IMPORT names some, too.",
        ),
    ] = None,
) -> None:
    # _Program and _print_version use these.
    del debug, version
    from compressai.extensions import import_models, load_extensions

    if modules:
        import_models(modules)
    load_extensions()


# In the order in which they are listed.
app.command()(encode)
app.command()(decode)
app.command()(info)
app.command()(view)
app.command()(explain)
app.command("eval", cls=EvalCommand)(evaluate)
app.command(cls=PlotCommand)(plot)
app.command()(published)
app.command()(bench)
app.command()(models)
app.command()(convert)
app.command()(export)
app.add_typer(weights)
app.add_typer(video)
app.command(**TRAIN_SETTINGS)(train)


def main(arguments: list[str] | None = None) -> None:
    """Run the program.

    Ends the process with status 0, 1 for an error, or 2 for a wrong command line.

    Args:
        arguments: command line without the program's name; ``None`` takes that of the process.
    """
    _open_closed_streams()
    # Here, since it is too late once a command has imported torch.
    wait_passively()
    if arguments is None:
        # So that what is unfinished is cleared away, as on Ctrl-C.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        arguments = sys.argv[1:]
        # This process is the program's own, so its memory is too.
        from compressai._freed_memory import keep_freed_memory

        keep_freed_memory()
    app(list(arguments))


def _open_closed_streams() -> None:
    """Let no file that is opened later get the number of a standard stream that is closed.

    Whatever is printed would go into it. ``sys.stdin`` and ``sys.stdout`` stay ``None``, which
    tells commands that there are none.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # for as long as the process
