# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The parts taken from timm, imported when a block that has them is built and not before.

timm is the optional extra ``attn``. Blocks without a feed-forward network or stochastic depth do
not need it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from torch import nn

from compressai._distribution import install_command

__all__ = ["make_drop_path", "make_mlp"]


def _timm_layers() -> ModuleType:
    try:
        return importlib.import_module("timm.layers")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "timm":
            raise
        raise ImportError(
            f"this block is built from timm, which is not installed: {install_command('attn')}"
        ) from error


def make_mlp(in_features: int, hidden: int, out_features: int, drop: float = 0.0) -> nn.Module:
    """Return two linear layers, ``fc1`` and ``fc2``, with an exact GELU between.

    Raises:
        ImportError: timm is not installed; names the command that installs it.
    """
    return _timm_layers().Mlp(in_features, hidden, out_features, act_layer=nn.GELU, drop=drop)


def make_drop_path(rate: float) -> nn.Module:
    """Return stochastic depth: in training the branch of a sample is zeroed with this probability.

    Raises:
        ValueError: ``rate`` outside [0, 1).
        ImportError: ``rate`` above 0 and timm is not installed; names the installing command.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"drop_path must be in [0, 1), got drop_path={rate}")
    return nn.Identity() if rate == 0 else _timm_layers().DropPath(rate)
