# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How often the blocks of a deep network are left out in training."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["drop_path_rates"]


def drop_path_rates(highest: float, depths: Sequence[int]) -> list[list[float]]:
    """Rates that ascend evenly from 0, block by block, through consecutive stages.

    Args:
        highest: rate of the last block.
        depths: number of blocks of each stage.

    Returns:
        For each stage the rates of its blocks.

    Source: Huang et al. 2016, "Deep networks with stochastic depth", section 3.
    """
    last = max(sum(depths) - 1, 1)
    ramp = iter(range(sum(depths)))
    return [[highest * next(ramp) / last for _ in range(depth)] for depth in depths]
