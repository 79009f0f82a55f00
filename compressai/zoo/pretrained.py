# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Renaming the parameters of old published weights to what the models expect."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["load_pretrained", "rename_key"]

_OLD_BOTTLENECK = re.compile(r"(entropy_bottleneck\.)_(biases|matrices|factors)\.(?:.*\.)?(\d+)$")
_SINGULAR = {"biases": "bias", "matrices": "matrix", "factors": "factor"}
# Only the skip connections of residual blocks: STF has modules called `downsample` that stay.
_OLD_SKIP = re.compile(r"\.downsample\.(weight|bias)$")


def rename_key(key: str) -> str:
    """The present name of a parameter in an old state dict.

    Args:
        key: a name; a leading ``module.`` is removed.

    Returns:
        The name after renaming ``*.downsample.weight`` to ``*.skip.weight`` and the lists of old
        bottlenecks (``_matrices.0``) to ``_matrix0``, at any depth.
    """
    key = key.removeprefix("module.")
    if _OLD_SKIP.search(key):
        return key.replace("downsample", "skip")
    return _OLD_BOTTLENECK.sub(lambda m: f"{m[1]}_{_SINGULAR[m[2]]}{m[3]}", key)


def load_pretrained(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict with every name passed through :func:`rename_key`, values untouched."""
    return {rename_key(key): value for key, value in state_dict.items()}
