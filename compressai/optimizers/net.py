# SPDX-License-Identifier: BSD-3-Clause-Clear
"""One optimizer for the whole network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from compressai.optimizers._build import build_optimizer, trainable_parameters
from compressai.registry import OPTIMIZERS, register_optimizer

__all__ = ["OPTIMIZERS", "net_optimizer"]


@register_optimizer("net")
def net_optimizer(net: nn.Module, conf: Mapping[str, Any]) -> dict[str, optim.Optimizer]:
    """One optimizer over every trainable parameter, in order of their names.

    Args:
        net: the model; frozen parameters are left out.
        conf: ``{"net": {"type": name in OPTIMIZERS, **keyword arguments}}``; not modified.

    Returns:
        ``{"net": optimizer}``.

    Raises:
        KeyError: the section ``net``, its ``type``, or that optimizer does not exist.
        ValueError: nothing is trainable.
    """
    return {"net": build_optimizer(trainable_parameters(net), conf, "net")}
