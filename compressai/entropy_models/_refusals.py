# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Refusing numbers that went wrong, by name: which latent, which channel, which value, what helps.

An entropy model does not know what it is called in a model. The errors made here remember it, and
:func:`named` lets whoever knows the model add the name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn as nn
from torch import Tensor

__all__ = ["check_codable", "check_finite", "named", "refused"]

_LIMIT = 2.0**31 - 1


class _Refused(ValueError):
    """A ValueError that knows the entropy model it is about."""

    def __init__(self, message: str, source: Any) -> None:
        super().__init__(message)
        self.source = source


def refused(source: Any, message: str) -> ValueError:
    """The error that ``source``, an entropy model or a name, refuses something with."""
    label = source if isinstance(source, str) else type(source).__name__
    return _Refused(f"{label}: {message}", source)


@contextmanager
def named(net: nn.Module) -> Iterator[None]:
    """Within, errors of :func:`refused` begin with the name that the entropy model has in ``net``.

    Raises:
        ValueError: with that name.
    """
    try:
        yield
    except _Refused as error:
        for name, module in net.named_modules():
            if module is error.source and name:
                raise ValueError(f"{name}, {error}") from error
        raise


def check_finite(source: Any, values: Tensor, what: str) -> None:
    """Refuse values that are infinite or NaN.

    Args:
        source: who refuses.
        values: ``(N, C, ...)`` or any other shape.
        what: what they are, for the message.

    Raises:
        ValueError: there are such values.
    """
    # A sum is finite where all values are, but for sums beyond the type: one pass mostly.
    if values.is_floating_point() and not math.isfinite(float(values.detach().float().sum())):
        _refuse_first(source, values, values.isfinite().logical_not(), what)


def check_codable(source: Any, values: Tensor, means: Tensor | None = None) -> None:
    """Refuse values that are no int32 after rounding.

    Args:
        source: who refuses.
        values: ``(N, C, ...)``, with means already subtracted where symbols are meant.
        means: must be finite, too.

    Raises:
        ValueError: there are such values.
    """
    if means is not None:
        check_finite(source, means, "means")
    # NaN fails the comparison, too.
    if values.numel() and not bool(values.detach().abs().amax() < _LIMIT):
        _refuse_first(source, values, (values.abs() < _LIMIT).logical_not(), "values")


def _refuse_first(source: Any, values: Tensor, bad: Tensor, what: str) -> None:
    positions = bad.nonzero()
    if not len(positions):
        return
    first = positions[0].tolist()
    where = f"channel {first[1]}" if len(first) > 1 else f"position {first}"
    rule = "not finite" if what != "values" else "no int32 after rounding"
    raise refused(
        source,
        f"got {what} that are {rule}, the first {float(values[tuple(first)]):g} in {where} "
        f"({len(positions)} in all): the network has diverged or the input is not finite; "
        "check the image, and load earlier weights",
    )
