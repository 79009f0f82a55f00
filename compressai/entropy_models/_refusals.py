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

__all__ = [
    "PARAMETER_LIMIT",
    "check_codable",
    "check_finite",
    "check_parameters",
    "named",
    "refused",
]

_LIMIT = 2.0**31 - 1
# Scales, means and quantiles of a network that works are far below. From here on, single precision
# cannot tell neighbouring integers apart.
PARAMETER_LIMIT = 2.0**24


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
    _check_range(source, values, what, math.inf, "not finite")


def check_parameters(source: Any, values: Tensor, what: str) -> None:
    """Refuse predicted scales or means that are not finite or beyond :data:`PARAMETER_LIMIT`.

    Args:
        source, values, what: as in :func:`check_finite`.

    Raises:
        ValueError: there are such values.
    """
    _check_range(source, values, what, PARAMETER_LIMIT, "not finite or beyond 2**24")


def _check_range(source: Any, values: Tensor, what: str, limit: float, rule: str) -> None:
    if not values.is_floating_point() or not values.numel():
        return
    low, high = map(float, values.detach().aminmax())
    # NaN fails the comparison, too.
    if not (-limit < low and high < limit):
        _refuse_first(source, values, (values.abs() < limit).logical_not(), what, rule)


def check_codable(source: Any, values: Tensor, means: Tensor | None = None) -> None:
    """Refuse values that are no int32 after rounding.

    Args:
        source: who refuses.
        values: ``(N, C, ...)``, with means already subtracted where symbols are meant.
        means: refused as by :func:`check_parameters`.

    Raises:
        ValueError: there are such values.
    """
    if means is not None:
        check_parameters(source, means, "means")
    # NaN fails the comparison, too.
    if values.numel() and not bool(values.detach().abs().amax() < _LIMIT):
        bad = (values.abs() < _LIMIT).logical_not()
        _refuse_first(source, values, bad, "values", "no int32 after rounding")


def _refuse_first(source: Any, values: Tensor, bad: Tensor, what: str, rule: str) -> None:
    positions = bad.nonzero()
    first = positions[0].tolist()
    where = f"channel {first[1]}" if len(first) > 1 else f"position {first}"
    raise refused(
        source,
        f"got {what} that are {rule}, the first {float(values[tuple(first)]):g} in {where} "
        f"({len(positions)} in all): the network has diverged or the input is not finite; "
        "check the image, and load earlier weights",
    )
