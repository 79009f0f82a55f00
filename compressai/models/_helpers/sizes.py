# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Reading constructor arguments off the names and shapes of a state dict."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile
from math import isqrt

from torch import Tensor

__all__ = ["consecutive", "hidden_widths", "numbers_after", "window_size"]


def consecutive(state_dict: Mapping[str, Tensor], name: str) -> int:
    """How many of ``name.format(0)``, ``name.format(1)``, ... there are before the first gap."""
    return sum(1 for _ in takewhile(lambda i: name.format(i) in state_dict, count()))


def numbers_after(state_dict: Mapping[str, Tensor], prefix: str) -> list[int]:
    """The distinct numbers that follow ``prefix`` in the names, ascending."""
    found = {key[len(prefix) :].partition(".")[0] for key in state_dict if key.startswith(prefix)}
    return sorted(int(number) for number in found if number.isdigit())


def hidden_widths(state_dict: Mapping[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Hidden widths of a predictor of ``make_entropy_transform`` under ``prefix``."""
    places = numbers_after(state_dict, f"{prefix}.")
    return tuple(state_dict[f"{prefix}.{place}.weight"].size(0) for place in places[:-1])


def window_size(relative_position_bias_table: Tensor) -> int:
    """Side of the attention windows that a table ``((2 w - 1) ** 2, heads)`` is for."""
    return (isqrt(relative_position_bias_table.size(0)) + 1) // 2
