# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Finding the weights in what people save: checkpoints, wrapped models, other prefixes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

__all__ = ["clean_state_dict", "entry_size", "unwrap_checkpoint"]

# Where training scripts keep the weights in a checkpoint.
_WEIGHT_ENTRIES = ("model_state_dict", "state_dict", "network", "model")
# What DataParallel and torch.compile put in front of the names of what they wrap.
_WRAPPERS = frozenset({"module", "_orig_mod"})


def unwrap_checkpoint(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict inside a training checkpoint, or the argument itself if it is one.

    Args:
        checkpoint: a state dict, or a mapping that holds one (at any depth) under
            ``"state_dict"``, ``"network"``, ``"model_state_dict"`` or ``"model"``.

    Returns:
        The state dict.

    Raises:
        TypeError: ``checkpoint`` is no mapping.
    """
    if not isinstance(checkpoint, Mapping):
        raise TypeError(f"expected a state dict or checkpoint, got {type(checkpoint).__name__}")
    for name in _WEIGHT_ENTRIES:
        if isinstance(checkpoint.get(name), Mapping):
            return unwrap_checkpoint(checkpoint[name])
    return checkpoint


def clean_state_dict(
    checkpoint: Mapping[str, Any], known: Collection[str] = ()
) -> dict[str, Tensor]:
    """A state dict without what wrappers added to it.

    Args:
        checkpoint: see :func:`unwrap_checkpoint`.
        known: names to leave alone, whatever they contain.

    Returns:
        New dict; path components ``module`` and ``_orig_mod`` are removed from the names.
    """
    state_dict = unwrap_checkpoint(checkpoint)
    return {
        key if key in known else ".".join(p for p in key.split(".") if p not in _WRAPPERS): value
        for key, value in state_dict.items()
    }


def entry_size(state_dict: Mapping[str, Tensor], key: str, dim: int, model: type) -> int:
    """Size of one axis of an entry, from which a constructor argument is inferred.

    Raises:
        ValueError: there is no such entry, so the state dict is of another model.
    """
    if key not in state_dict:
        raise ValueError(
            f"this state dict is not of {model.__name__}: it has no {key!r}, but "
            f"{sorted(state_dict)[:3]} ..."
        )
    return state_dict[key].size(dim)
