# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Averages of the weights over the steps of training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["moving_average"]


def moving_average(net: nn.Module, decay: float) -> AveragedModel:
    """A copy of a model that follows it: ``average = d * average + (1 - d) * weights`` each step.

    ``d`` is ``decay`` or, in the first steps, ``(1 + n) / (10 + n)`` after ``n`` of them, so that
    the average does not remember how training began.

    Args:
        net: the model, without wrappers.
        decay: in [0, 1).

    Returns:
        The average in ``.module``; call ``.update_parameters(net)`` after each step.

    Raises:
        ValueError: ``decay`` is out of range.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay must be in [0, 1), got {decay}")

    def update(averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor | int) -> None:
        steps = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(averages, weights, count)

    return AveragedModel(net, multi_avg_fn=update)
