# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Two optimizers: the network, and the quantiles that only the auxiliary loss may move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn, optim

from compressai.optimizers._build import build_optimizer, trainable_parameters
from compressai.registry import OPTIMIZERS, register_optimizer

__all__ = ["OPTIMIZERS", "net_aux_optimizer"]


@register_optimizer("net_aux")
def net_aux_optimizer(net: nn.Module, conf: Mapping[str, Any]) -> dict[str, optim.Optimizer]:
    """One optimizer for the network and one for the quantiles of its entropy bottlenecks.

    Parameters whose name ends in ``.quantiles`` go to ``aux``, all others to ``net``, each list in
    order of names. Frozen parameters are left out, so part of a model can be fine-tuned.

    Args:
        net: the model.
        conf: ``{"net": {"type": name in OPTIMIZERS, **keyword arguments}, "aux": {...}}``; not
            modified.

    Returns:
        ``{"net": optimizer, "aux": optimizer}``.

    Raises:
        KeyError: a section, its ``type``, or that optimizer does not exist.
        ValueError: no trainable quantiles, or nothing else that is trainable.

    Source: Ballé et al. 2018, appendix 6.1 (the quantiles have their own objective).
    """
    parameters = trainable_parameters(net)
    aux = {name: p for name, p in parameters.items() if name.endswith(".quantiles")}
    main = {name: p for name, p in parameters.items() if name not in aux}
    return {
        "net": build_optimizer(main, conf, "net"),
        "aux": build_optimizer(aux, conf, "aux"),
    }
