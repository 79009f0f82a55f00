# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Sizes of the transforms of MambaVC and MambaIC, read off their weights."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from torch import Tensor

__all__ = ["infer_vss_block_kwargs", "infer_vss_depths"]

_SCANS = ".op.A_logs"


def infer_vss_depths(state_dict: Mapping[str, Tensor]) -> tuple[int, int, int, int]:
    """Blocks of the three stages of the analysis, and of the one of the hyper analysis.

    A stage lies between two convolutions and may be empty.

    Args:
        state_dict: weights of a model, whose hyper analysis is ``h_a`` or ``latent_codec.h_a``.

    Raises:
        ValueError: there are other numbers of stages.
    """
    native = any(key.startswith("latent_codec.h_a.") for key in state_dict)
    hyper = "latent_codec.h_a" if native else "h_a"
    analysis, side = (_stages(state_dict, name) for name in ("g_a", hyper))
    if len(analysis) != 3 or len(side) != 1:
        raise ValueError(
            f"g_a and {hyper} have {len(analysis)} and {len(side)} stages in place of 3 and 1"
        )
    a, b, c = analysis
    return a, b, c, side[0]


def infer_vss_block_kwargs(state_dict: Mapping[str, Tensor]) -> dict[str, int | float]:
    """Arguments of the blocks: ``ssm_d_state``, ``ssm_ratio`` and ``ssm_conv``.

    Args:
        state_dict: weights of a model; those of its first block are read.

    Returns:
        By name; 16, 2.0 and 3 where there is no block.

    Raises:
        ValueError: an entry of the block is missing, or has other dimensions.
    """
    first = next((k.removesuffix(_SCANS) for k in state_dict if k.endswith(_SCANS)), None)
    if first is None:
        return {"ssm_d_state": 16, "ssm_ratio": 2.0, "ssm_conv": 3}

    def size(name: str, axis: int) -> int:
        entry = state_dict.get(f"{first}.{name}")
        if entry is None or entry.dim() <= axis:
            found = "none" if entry is None else f"one of {entry.dim()} dimensions"
            raise ValueError(f"a block needs an entry {first}.{name}, there is {found}")
        return entry.size(axis)

    return {
        "ssm_d_state": size("op.A_logs", 1),
        "ssm_ratio": size("op.out_proj.weight", 1) / size("norm.weight", 0),
        "ssm_conv": size("op.conv2d.weight", 3) if f"{first}.op.conv2d.weight" in state_dict else 1,
    }


def _stages(state_dict: Mapping[str, Tensor], transform: str) -> list[int]:
    """Numbers of blocks between the convolutions of a transform."""
    start = f"{transform}."
    places = sorted(
        int(number)
        for key in state_dict
        if key.startswith(start)
        and key.endswith(".weight")
        and (number := key.removeprefix(start).removesuffix(".weight")).isdecimal()
    )
    return [b - a - 1 for a, b in pairwise(places)]
