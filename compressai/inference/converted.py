# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A converted copy of a network, which knows the weights that it was made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from compressai.inference.layouts import in_channels_last, in_default_layout

__all__ = ["ConvertedNetwork"]


class ConvertedNetwork:
    """A converted network, from float32 in the default layout to the same.

    Args:
        network: what does the work.
        sources: modules that its weights were taken from.
        dtype: what it takes.

    Attributes:
        network: as given.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        sources: list[nn.Module],
        dtype: torch.dtype,
    ) -> None:
        self.network = network
        self._sources = sources
        self._dtype = dtype
        self._state = _state(sources)

    def __call__(self, *maps: Tensor) -> Tensor:
        if any(source.training for source in self._sources):
            raise ValueError("a prepared model cannot be trained: train the one it was made of")
        if _state(self._sources) != self._state:
            raise ValueError("weights changed or moved since prepare(): call prepare() again")
        with torch.no_grad():
            # Most convolutions are faster in this layout, and the kernels know no other.
            out = self.network(*(in_channels_last(x.to(self._dtype)) for x in maps))
        # One layout for all that follows: kernels, and with them the last digits, depend on it.
        return in_default_layout(out.to(torch.float32))


def _state(sources: list[nn.Module]) -> list[tuple[int, int]]:
    """Changes when weights do: where they are, and how often they were written to."""
    return [
        (tensor.data_ptr(), -1 if tensor.is_inference() else tensor._version)
        for source in sources
        for tensor in (*source.parameters(), *source.buffers())
    ]
