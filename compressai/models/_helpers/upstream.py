# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Renaming weights of the authors' programs: the rules that their layouts have in common.

A layout is a table of ``(pattern, replacement)`` pairs of regular expressions; what a model adds
to these is in its own file. The functions take partial state dicts and do not look at values.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from compressai.models._helpers.sizes import numbers_after

__all__ = [
    "COMMON_ROOTS",
    "HYPER_RULES",
    "has_names",
    "has_root",
    "rename",
    "replicate",
    "slice_rules",
    "strip_wrapper",
    "swap_leading_inputs",
]

Rules = Sequence[tuple[str, str]]

STACK = "latent_codec.y"
HYPER_RULES: Rules = (
    (r"^h_a\.", "latent_codec.h_a."),
    (r"^(h_mean_s|h_scale_s)\.", r"latent_codec.h_s.\1."),
    (r"^(?:z_)?entropy_bottleneck\.", "latent_codec.z.entropy_bottleneck."),
)


# First components that no name of this library has.
COMMON_ROOTS = frozenset(
    {
        "entropy_bottleneck",
        "gaussian_conditional",
        "h_a",
        "h_mean_s",
        "h_scale_s",
        "lrp_transforms",
    }
)


def slice_rules(heads: Mapping[str, str], stack: str = STACK) -> Rules:
    """Rules for lists of networks, one a slice.

    Args:
        heads: the authors' name of a list, and that of the network in ``MeanScaleContextHead``.
        stack: name of the slice codec.
    """
    return (
        *(
            (rf"^{old}\.(\d+)\.", rf"{stack}.channel_context.y\1.{new}.")
            for old, new in heads.items()
        ),
        (r"^lrp_transforms\.(\d+)\.", rf"{stack}.latent_codec.y\1.lrp_transform."),
    )


def strip_wrapper(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without a leading ``module.``, which DataParallel adds."""
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def has_root(state_dict: Mapping[str, Tensor], roots: Collection[str]) -> bool:
    """Whether the first component of any name is among ``roots``."""
    return any(key.partition(".")[0] in roots for key in state_dict)


def has_names(state_dict: Collection[str], start: str, part: str = "") -> bool:
    """Whether any name begins with ``start`` and contains ``part``."""
    return any(key.startswith(start) and part in key for key in state_dict)


def swap_leading_inputs(weight: Tensor, width: int) -> Tensor:
    """A weight whose first two blocks of ``width`` input channels have changed places.

    Args:
        weight: ``(out, in, ...)``; returned as it is with fewer than ``2 * width`` inputs.
        width: channels of a block.
    """
    if weight.dim() < 2 or weight.size(1) < 2 * width:
        return weight
    first, second, rest = weight.tensor_split((width, 2 * width), dim=1)
    return torch.cat((second, first, rest), dim=1)


def rename(state_dict: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """Apply every rule to every name, in order.

    Raises:
        ValueError: two entries end up under one name.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        new = key
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new in renamed:
            raise ValueError(f"{key!r} and another entry of the state dict are both {new!r}")
        renamed[new] = value
    return renamed


def replicate(
    state_dict: Mapping[str, Tensor], counted: str, stack: str = STACK
) -> dict[str, Tensor]:
    """Give every slice its own copy of the ``gaussian_conditional`` that the authors share.

    Args:
        state_dict: weights before any renaming.
        counted: list of networks whose numbers tell how many slices there are.
        stack: name of the slice codec.
    """
    slices = numbers_after(state_dict, f"{counted}.")
    copies: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        if slices and key.startswith("gaussian_conditional."):
            names = [f"{stack}.latent_codec.y{k}.{key}" for k in slices]
            copies.update({name: value.clone() for name in names})
        else:
            copies[key] = value
    return copies
