# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The transform registry under the name that image pipelines import it by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compressai.registry import transforms
from compressai.registry.transforms import register_transform

__all__ = ["TRANSFORMS", "register_transform"]

TRANSFORMS: dict[str, Callable[..., Any]]  # made by __getattr__


def __getattr__(name: str) -> Any:
    if name == "TRANSFORMS":
        return transforms.TRANSFORMS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
