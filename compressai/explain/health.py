# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What is wrong with the weights of a model, before any image: quantiles, numbers that are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from compressai.entropy_models import EntropyModel
from compressai.entropy_models._factorized_density import FactorizedDensity

__all__ = ["Health", "QuantileState", "health_of", "weights_not_finite"]

# Probabilities at a median that is found, and mass that may lie beyond the outer quantiles: a
# table with such quantiles costs less than a thousandth more than the best.
_MEDIAN_RANGE = (0.4, 0.6)
_MOST_OUTSIDE = 1e-3


@dataclass(frozen=True)
class QuantileState:
    """How well the quantiles of one factorized prior are solved.

    Attributes:
        name: of the module.
        channels: how many there are.
        auxiliary_loss: what is left of it, 0 where quantiles are exact.
        worst_median: the cumulative at the median that is furthest from 0.5.
        most_outside: the largest mass beyond the outer quantiles of a channel.
        unsolved: channels whose median or outer quantiles are off.
        symbols: fewest and most symbols of a table.
    """

    name: str
    channels: int
    auxiliary_loss: float
    worst_median: float
    most_outside: float
    unsolved: tuple[int, ...]
    symbols: tuple[int, int]


@dataclass(frozen=True)
class Health:
    """What can be said of a model without an image.

    Attributes:
        quantiles: of each factorized prior.
        not_finite: names of weights that hold NaN or infinity.
    """

    quantiles: tuple[QuantileState, ...]
    not_finite: tuple[str, ...]


def weights_not_finite(weights: Mapping[str, Any]) -> list[str]:
    """Names of tensors that hold NaN or infinity.

    Args:
        weights: a state dict, or a checkpoint that holds some; other values are passed over.
    """
    found = []
    for name, value in weights.items():
        if isinstance(value, Mapping):
            found += [f"{name}.{inner}" for inner in weights_not_finite(value)]
        elif (
            isinstance(value, Tensor)
            and value.is_floating_point()
            and not bool(torch.isfinite(value).all())
        ):
            found.append(str(name))
    return found


@torch.no_grad()
def health_of(net: nn.Module) -> Health:
    """Look at the weights of a model with tables.

    Args:
        net: the model.
    """
    return Health(
        tuple(
            _quantile_state(name, module)
            for name, module in net.named_modules()
            if isinstance(module, FactorizedDensity)
        ),
        tuple(weights_not_finite(net.state_dict())),
    )


def _quantile_state(name: str, prior: FactorizedDensity) -> QuantileState:
    logits = prior._logits_cumulative(prior.quantiles, stop_gradient=True)[:, 0, :].double()
    low, median, _ = torch.sigmoid(logits).unbind(-1)
    outside = low + torch.sigmoid(-logits[:, 2])
    off = (median < _MEDIAN_RANGE[0]) | (median > _MEDIAN_RANGE[1]) | ~(outside <= _MOST_OUTSIDE)
    worst = int((median - 0.5).abs().argmax())
    lengths = prior.cdf_length if isinstance(prior, EntropyModel) else torch.empty(0)
    return QuantileState(
        name,
        len(median),
        prior.loss().item(),
        float(median[worst]),
        float(outside.max()),
        tuple(off.nonzero()[:, 0].tolist()),
        # Beside the symbols, a row has its end and the escape.
        (int(lengths.min()) - 2, int(lengths.max()) - 2) if lengths.numel() else (0, 0),
    )
