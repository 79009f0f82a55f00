# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The checkerboard of MLIC: anchors are the positions whose row + column is odd.

A half of a map ``(N, C, H, W)`` is held in two ways: as a map of the same size with zeros at the
positions of the other half, or squeezed to ``(N, C, H, W / 2)``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressai.latent_codecs.checkerboard import embed, unembed
from compressai.layers.attn.windows import relative_position_index as build_position_index

__all__ = [
    "PARITY",
    "build_position_index",
    "checkerboard_anchor",
    "checkerboard_merge",
    "checkerboard_nonanchor",
    "checkerboard_split",
    "squeeze_anchor",
    "squeeze_nonanchor",
    "unsqueeze_anchor",
    "unsqueeze_nonanchor",
]

PARITY = "odd"


def squeeze_anchor(x: Tensor) -> Tensor:
    """The anchors of a map of even width, ``(N, C, H, W / 2)``."""
    return unembed(x, PARITY)[0]


def squeeze_nonanchor(x: Tensor) -> Tensor:
    """The other positions, ``(N, C, H, W / 2)``."""
    return unembed(x, PARITY)[1]


def unsqueeze_anchor(half: Tensor) -> Tensor:
    """A map ``(N, C, H, W)`` of its anchors ``(N, C, H, W / 2)``, 0 elsewhere."""
    return embed(torch.stack((half, torch.zeros_like(half))), PARITY)


def unsqueeze_nonanchor(half: Tensor) -> Tensor:
    """The same of the other positions, 0 at the anchors."""
    return embed(torch.stack((torch.zeros_like(half), half)), PARITY)


def checkerboard_anchor(x: Tensor) -> Tensor:
    """A map with zeros in place of all but the anchors."""
    return unsqueeze_anchor(squeeze_anchor(x))


def checkerboard_nonanchor(x: Tensor) -> Tensor:
    """A map with zeros in place of the anchors."""
    return unsqueeze_nonanchor(squeeze_nonanchor(x))


def checkerboard_split(x: Tensor) -> tuple[Tensor, Tensor]:
    """Both: anchors, and the rest, each with zeros at the positions of the other."""
    return checkerboard_anchor(x), checkerboard_nonanchor(x)


def checkerboard_merge(anchors: Tensor, rest: Tensor) -> Tensor:
    """The map of its two halves; inverse of :func:`checkerboard_split`."""
    return anchors + rest
