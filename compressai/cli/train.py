# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai train``."""

from __future__ import annotations

import typer

__all__ = ["SETTINGS", "train"]

# The options are those of `compressai.training`, which examples/train.py and torchrun use as well.
SETTINGS = {
    "add_help_option": False,
    "context_settings": {
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    },
}


def train(ctx: typer.Context) -> None:
    """Train an image model of the zoo on a folder of images."""
    from compressai.training import main

    main(ctx.args, program="compressai train")
