# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The uniform noise that stands in for rounding in training, and what it depends on.

Noise comes from the default generator of torch, a whole batch at once. A run that is spread over
processes, or that goes through a batch in parts, needs more: noise of an item that depends on
nothing but the item. :func:`noise_per_item` gives that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["noise_per_item", "uniform_noise"]

_generators: ContextVar[tuple[torch.Generator, ...] | None] = ContextVar("generators", default=None)


@contextlib.contextmanager
def noise_per_item(generators: Sequence[torch.Generator]) -> Iterator[None]:
    """Draw the noise of each item of a batch from a generator of its own, for calls in this thread.

    The noise of an item then is the same in whatever batch, part of a batch or process it is.

    Args:
        generators: one for each item, on the device of the model; they go on from call to call.
    """
    token = _generators.set(tuple(generators))
    try:
        yield
    finally:
        _generators.reset(token)


# An operator of its own: a compiler calls it as it is, so that compiled and eager training draw
# the same random numbers. (`torch.compiler.disable` would do, but its import takes seconds.)
@torch.library.custom_op("compressai::uniform_noise", mutates_args=())
def _uniform_noise(like: Tensor, item_axis: int) -> Tensor:
    noise = torch.empty_like(like)
    generators = _generators.get()
    if generators is None:
        return noise.uniform_(-0.5, 0.5)
    if len(generators) != like.size(item_axis):
        raise ValueError(
            f"noise_per_item was given {len(generators)} generators, but axis {item_axis} of "
            f"values of shape {tuple(like.shape)} holds the items"
        )
    for i, generator in enumerate(generators):
        item = noise.select(item_axis, i)
        # Drawn apart: what is drawn in place depends on the layout of the batch.
        item.copy_(
            torch.empty(item.shape, dtype=item.dtype, device=item.device).uniform_(
                -0.5, 0.5, generator=generator
            )
        )
    return noise


@_uniform_noise.register_fake
def _(like: Tensor, item_axis: int) -> Tensor:
    return torch.empty_like(like)


def uniform_noise(like: Tensor, item_axis: int = 0) -> Tensor:
    """Noise drawn uniformly from [-0.5, 0.5), of the shape, type and layout of ``like``.

    Args:
        like: any shape.
        item_axis: the axis that :func:`noise_per_item` takes for the items of the batch.
    """
    return _uniform_noise(like.detach(), item_axis)
