# SPDX-License-Identifier: BSD-3-Clause-Clear
"""From a configuration section and named parameters to an optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from compressai.registry import OPTIMIZERS

__all__ = ["build_optimizer", "trainable_parameters"]


def trainable_parameters(net: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters that take gradients, sorted by name.

    The order is part of a saved optimizer's state, hence independent of definition order.
    """
    return {
        name: parameter
        for name, parameter in sorted(net.named_parameters(), key=lambda item: item[0])
        if parameter.requires_grad
    }


def build_optimizer(
    parameters: Mapping[str, nn.Parameter], conf: Mapping[str, Any], section: str
) -> optim.Optimizer:
    """Make the optimizer that ``conf[section]`` describes.

    Args:
        parameters: what it optimizes, in order.
        conf: sections, each with ``type`` (a name in ``OPTIMIZERS``) and keyword arguments.
        section: the section to use.

    Raises:
        KeyError: the section, its ``type`` or the named optimizer does not exist.
        ValueError: no parameters.
    """
    if section not in conf:
        raise KeyError(f"conf needs the section {section!r}, got {sorted(conf)}")
    arguments = dict(conf[section])
    if "type" not in arguments:
        raise KeyError(f"conf[{section!r}] needs 'type', got {sorted(arguments)}")
    kind = arguments.pop("type")
    if kind not in OPTIMIZERS:
        raise KeyError(
            f"conf[{section!r}]['type'] must be one of {sorted(OPTIMIZERS)}, got {kind!r}"
        )
    if not parameters:
        raise ValueError(f"the model has no trainable parameters for the optimizer {section!r}")
    return OPTIMIZERS[kind](list(parameters.values()), **arguments)
