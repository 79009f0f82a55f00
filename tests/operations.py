# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Multiplications of a model, as the tables of the published models count them."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["operations"]


def operations(net: nn.Module, *leave_out: str, whole: type[nn.Module] | None = None) -> float:
    """Multiply-accumulate operations a pixel of ``forward`` on an image of 256x256.

    Args:
        net: on the device ``meta``.
        leave_out: operations that do not count (``"bmm"``), and names of modules that do not.
        whole: modules of this class have no operations to leave out. torch 2.10 takes ``bmm`` for a
            linear layer whose input has gaps, where later ones take ``mm``.
    """
    net.train().requires_grad_(False)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        net(torch.empty(1, 3, 256, 256, device="meta"))
    counts = counter.get_flop_counts()
    kinds = {str(kind).rpartition(".")[2]: value for kind, value in counts["Global"].items()}
    total = sum(value for kind, value in kinds.items() if kind not in leave_out)
    for path, parts in counts.items():
        if path.rpartition(".")[2] in leave_out:
            total -= sum(parts.values())
        if whole is not None and isinstance(net.get_submodule(path.partition(".")[2]), whole):
            total += sum(v for k, v in parts.items() if str(k).rpartition(".")[2] in leave_out)
    return total / 2 / 256**2
