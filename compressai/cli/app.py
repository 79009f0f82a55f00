# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The ``compressai`` program: what all commands share, and the list of them.

A command is a function in a file of its own, which imports what takes long when it is called, and
a line in the list below. Its file is imported when the command is asked for, or all are listed.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_group

from compressai.cli.messages import EXPECTED, print_error
from compressai.cli.plain_values import take_plain_values
from compressai.cores import wait_passively
from compressai.version import __version__

__all__ = ["app", "main"]


# Files of this package, in the order in which commands are listed. In each is what has the name of
# the command, a function or a group of commands, and in some ``SETTINGS`` for ``Typer.command``.
_COMMANDS = (
    *("encode", "decode", "info", "view", "explain", "eval", "plot", "published", "bench"),
    *("models", "convert", "export", "weights", "video", "train"),
)


class _Program(TyperGroup):
    """Loads commands one by one, and tells errors of the library in one line, with status 1."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        # Typer suggests names from here, and takes commands by get_command.
        self.commands: Any = dict.fromkeys(_COMMANDS)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        take_plain_values(self, ctx)
        return super().parse_args(ctx, args)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            return None
        if self.commands[cmd_name] is None:
            self.commands[cmd_name] = _load(cmd_name)
            take_plain_values(self.commands[cmd_name], ctx)
        return self.commands[cmd_name]

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


# Boxes around help take longer to draw than all the rest.
_STYLE: dict[str, Any] = {"rich_markup_mode": None, "pretty_exceptions_enable": False}

app = typer.Typer(
    name="compressai",
    cls=_Program,
    help="Learned image compression.",
    no_args_is_help=True,
    add_completion=True,
    **_STYLE,
)


def _load(name: str) -> Any:
    """The command of a name, from its file."""
    module = importlib.import_module(f"compressai.cli.{name}")
    # In its file, eval is still what Python calls so.
    command = getattr(module, "evaluate" if name == "eval" else name)
    alone = typer.Typer(**_STYLE)
    if isinstance(command, typer.Typer):
        alone.add_typer(command)
    else:
        alone.command(name, **getattr(module, "SETTINGS", {}))(command)
    return get_group(alone).commands[name]


def _print_version(value: bool) -> None:
    if value:
        print(f"compressai {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    context: typer.Context,
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
    if not modules and context.invoked_subcommand == "info":
        # What it prints is in files. To look for installed extensions takes as long as all of it.
        return
    from compressai.extensions import import_models, load_extensions

    if modules:
        import_models(modules)
    # A bundle codes without them, and where torch has to, the choice of a model loads them.
    load_extensions(installed=context.invoked_subcommand not in ("encode", "decode"))


def main(arguments: list[str] | None = None) -> None:
    """Run the program.

    Ends the process with status 0, 1 for an error, or 2 for a wrong command line.

    Args:
        arguments: command line without the program's name; ``None`` takes that of the process.
    """
    _open_closed_streams()
    # Here, since it is too late once a command has imported torch.
    wait_passively()
    own = arguments is None
    if arguments is None:
        # So that what is unfinished is cleared away, as on Ctrl-C.
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
        arguments = sys.argv[1:]
        # This process is the program's own, so its memory is too.
        from compressai._freed_memory import keep_freed_memory

        keep_freed_memory()
    if not arguments:
        # Click before 8.2 would call it no mistake to ask for nothing.
        with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
            app(["--help"])
        sys.exit(2)
    try:
        app(list(arguments))
    finally:
        if own:
            # At its end Python would look for cycles in all that is loaded, a tenth of the time of
            # decoding a photo, only to give memory back that the system takes anyway.
            gc.freeze()


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
