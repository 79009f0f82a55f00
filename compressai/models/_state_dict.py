# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Finding the weights in what people save: checkpoints, wrapped models, other prefixes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

__all__ = [
    "CleanStateDict",
    "NativeStateDict",
    "clean_state_dict",
    "entry_size",
    "unwrap_checkpoint",
]

# Where training scripts keep the weights in a checkpoint.
_WEIGHT_ENTRIES = (
    *("model_state_dict", "state_dict", "network", "model"),
    *("net", "module", "weights", "params"),
)
# What wrappers put into the names of what they wrap: DataParallel, torch.compile, fully sharded
# training, activation checkpointing.
_WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# How many models ``torch.optim.swa_utils.AveragedModel`` has averaged, beside the model.
_AVERAGES = "n_averaged"


class CleanStateDict(dict[str, Tensor]):
    """Weights that were cleaned, so that nobody on their way cleans them again."""


class NativeStateDict(CleanStateDict):
    """Clean weights in the layout of this library, so that nobody converts them again."""


def unwrap_checkpoint(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The state dict inside a training checkpoint, or the argument itself if it is one.

    Args:
        checkpoint: a state dict, or a mapping that holds one (at any depth) under
            ``"state_dict"``, ``"network"``, ``"model_state_dict"``, ``"model"``, ``"net"``,
            ``"module"``, ``"weights"`` or ``"params"``, or as the only mapping from names to
            tensors.

    Returns:
        The state dict.

    Raises:
        TypeError: ``checkpoint`` is no mapping.
        ValueError: it holds itself.
    """
    if not isinstance(checkpoint, Mapping):
        raise TypeError(f"expected a state dict or checkpoint, got {type(checkpoint).__name__}")
    seen: set[int] = set()
    while True:
        if id(checkpoint) in seen:
            raise ValueError("the checkpoint holds itself where its weights should be")
        seen.add(id(checkpoint))
        inner = _inner_checkpoint(checkpoint)
        if inner is None:
            return checkpoint
        checkpoint = inner


def _inner_checkpoint(checkpoint: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for name in _WEIGHT_ENTRIES:
        if isinstance(inner := checkpoint.get(name), Mapping):
            return inner
    if any(isinstance(value, Tensor) for value in checkpoint.values()):
        return None
    found = [value for value in checkpoint.values() if _is_state_dict(value)]
    return found[0] if len(found) == 1 else None


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )


def clean_state_dict(
    checkpoint: Mapping[str, Any], known: Collection[str] = (), *, any_prefix: bool = True
) -> dict[str, Tensor]:
    """A state dict without what wrappers added to it.

    Args:
        checkpoint: see :func:`unwrap_checkpoint`; clean ones come back as they are.
        known: names of the model. These are left alone, whatever they contain, and prefixes are
            removed only where that leads to such names.
        any_prefix: also remove prefixes that are not of a known wrapper.

    Returns:
        New dict. Path components ``module`` and ``_orig_mod`` (and those of sharded training) are
        removed from the names, then a prefix that is common to all of them, such as the attribute
        under which a Lightning module keeps the model; ``n_averaged`` beside an averaged model is
        left out.

    Raises:
        TypeError: ``checkpoint`` is no mapping.
        ValueError: a name is no string, or two entries would have one name.
    """
    if isinstance(checkpoint, CleanStateDict):
        return checkpoint
    state_dict = unwrap_checkpoint(checkpoint)
    for key in state_dict:
        if not isinstance(key, str):
            raise ValueError(f"names of weights must be strings, not of type {type(key).__name__}")
    names = {
        key: key if key in known else ".".join(p for p in key.split(".") if p not in _WRAPPERS)
        for key in state_dict
        if key in known or not _is_count_of_averages(key, state_dict)
    }
    prefix = _common_prefix(names.values(), known) if any_prefix else ""
    cleaned = {name[len(prefix) :]: state_dict[key] for key, name in names.items()}
    if len(cleaned) != len(names):
        raise ValueError(
            "several weights have the same name when the parts of their names that wrappers add "
            f"({', '.join(sorted(_WRAPPERS))}) are left out"
        )
    # Who kept the prefix leaves it to others to remove it.
    return CleanStateDict(cleaned) if any_prefix else cleaned


def _is_count_of_averages(key: str, names: Collection[str]) -> bool:
    parent, _, last = key.rpartition(_AVERAGES)
    if last or (parent and not parent.endswith(".")) or not key.endswith(_AVERAGES):
        return False
    return any(name.startswith(f"{parent}module.") for name in names)


def _common_prefix(names: Collection[str], known: Collection[str]) -> str:
    """What all names begin with, up to a dot, if the model's names are behind it."""
    prefix = ""
    while True:
        rest = [name[len(prefix) :] for name in names]
        if any(name in known for name in rest):
            return prefix
        first = {name.partition(".")[0] for name in rest}
        behind = {name.partition(".")[2] for name in rest}
        # Layers in a sequence have numbers, what is directly below a model has a name.
        in_layer = any(name.partition(".")[0].isdigit() for name in behind)
        if len(first) != 1 or "" in behind or (in_layer and not known):
            return "" if known else prefix
        prefix += f"{first.pop()}."


def entry_size(state_dict: Mapping[str, Tensor], key: str, dim: int, model: type) -> int:
    """Size of one axis of an entry, from which a constructor argument is inferred.

    Raises:
        ValueError: there is no such entry, or it has fewer axes, so the state dict is of another
            model.
    """
    if key not in state_dict:
        raise ValueError(
            f"this state dict is not of {model.__name__}: it has no {key!r}, but "
            f"{sorted(state_dict)[:3]} ..."
        )
    value = state_dict[key]
    if value.dim() <= dim:
        raise ValueError(
            f"this state dict is not of {model.__name__}: its {key!r} has the shape "
            f"{tuple(value.shape)}"
        )
    return value.size(dim)
