# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models that share what they have with another one, and differ in a part."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

__all__ = ["shallow_copy"]

Module = TypeVar("Module", bound=nn.Module)


def shallow_copy(net: Module) -> Module:
    """A module with the same parameters and submodules, to which others can be given."""
    twin = copy.copy(net)
    for name, value in vars(twin).items():
        if isinstance(value, dict):
            vars(twin)[name] = value.copy()
    return twin
