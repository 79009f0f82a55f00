# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How the networks of the MLIC family are wired to the containers of slices.

The side information of slice ``k`` is ``[H | P | I | C]``: that of the hyperprior (scales, means),
the earlier slices, the context of all their positions (if there is one), and that of their
channels. Heads take parts of it in the order of the authors' program.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn as nn
from torch import Tensor

from compressai.models._helpers.mlic import EntropyParameters

__all__ = ["OrderedHead", "PreviousSlice", "SliceContext", "correction_input"]


class SliceContext(nn.Module):
    """From ``[H | P]`` to ``[H | P | I | C]``.

    Args:
        side_split: ``M``, half the width of ``H``.
        channel_part: network from ``P`` to ``C``; ``None`` for slice 0.
        global_inter_part: network from ``P`` to ``I``, if there is one.
    """

    def __init__(
        self,
        side_split: int,
        channel_part: nn.Module | None = None,
        global_inter_part: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.side_split = side_split
        self.channel_part = channel_part
        self.global_inter_part = global_inter_part

    def forward(self, params: Tensor) -> Tensor:
        support = params[:, 2 * self.side_split :]
        networks = (self.global_inter_part, self.channel_part)
        contexts = [network(support) for network in networks if network is not None]
        return torch.cat((params, *contexts), dim=1)


class OrderedHead(EntropyParameters):
    """A head that takes parts of its input, in an order.

    Args:
        parts: first and last channel of each part.
        out_dim: channels of the output.
    """

    def __init__(self, parts: Sequence[tuple[int, int]], out_dim: int) -> None:
        super().__init__(sum(last - first for first, last in parts), out_dim)
        self.parts = tuple(parts)

    def forward(self, params: Tensor) -> Tensor:
        parts = [params[:, first:last] for first, last in self.parts]
        return super().forward(torch.cat(parts, dim=1))


class PreviousSlice:
    """Mixed into a network of the slice before and the anchors: it gets side information instead.

    Attributes:
        first, last: channels of the side information that are the slice before.
    """

    first: int
    last: int

    def forward(self, side_params: Tensor, anchors: Tensor) -> Tensor:
        return super().forward(side_params[:, self.first : self.last], anchors)  # type: ignore[misc]


def correction_input(
    side_params: Tensor, params: Tensor, y_hat: Tensor, *, first: int, last: int
) -> Tensor:
    """What predicts the rounding error: means of the hyperprior, earlier slices, and this one."""
    return torch.cat((side_params[:, first:last], y_hat), dim=1)
