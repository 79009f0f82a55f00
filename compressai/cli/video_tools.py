# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai video eval``, ``bench`` and ``plot``: the programs of ``compressai.utils.video``."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import typer

__all__ = ["add_video_tools"]

_TOOLS = {
    "eval": ("eval_model", "Evaluate a video model on a folder of raw video."),
    "bench": ("bench", "Evaluate x264, x265, VTM or HM on a folder of raw video."),
    "plot": ("plot", "Draw rate-distortion curves of what eval and bench found."),
}


def add_video_tools(app: typer.Typer) -> None:
    """Add the commands, which hand their options on.

    Args:
        app: group of commands.
    """
    for name, (module, text) in _TOOLS.items():
        # The programs have options and help of their own.
        app.command(
            name,
            help=text,
            add_help_option=False,
            context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        )(_runner(f"compressai.utils.video.{module}.__main__"))


def _runner(module: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        importlib.import_module(module).main(context.args)

    # Typer reads annotations, which are texts here, in the names of the function's module.
    run.__annotations__ = {"context": typer.Context, "return": None}
    return run
