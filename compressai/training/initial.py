# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Weights to begin with: those of a finished model, or of one of fixed rate for a variable rate."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from compressai.checkpoint import load_checkpoint

__all__ = ["load_initial_weights"]

# What a model of fixed rate lacks of one of variable rate.
_OF_THE_GAIN = re.compile(r"(Gain|(QuantABCD|gayn2zqstep|scale_to_context)\..+)$")
# Bottlenecks of variable step have names of their own for the same parameters.
_OF_THE_BOTTLENECK = re.compile(r"entropy_bottleneck\.(matrices|biases|factors)\.(\d+)$")
_SINGULAR = {"matrices": "_matrix", "biases": "_bias", "factors": "_factor"}


def load_initial_weights(net: nn.Module, path: str | Path) -> None:
    """Copy the parameters of a model file into a model.

    A model of variable rate also takes those of its fixed-rate base: the parts that belong to the
    gain stay as they were built.

    Args:
        net: the model, which is changed.
        path: a self-describing checkpoint, see :mod:`compressai.checkpoint`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is of another model or size; names the parameters that do not fit.
    """
    weights = {
        _name_in(net, name): parameter.detach()
        for name, parameter in load_checkpoint(path).named_parameters()
    }
    own = dict(net.named_parameters())
    missing = own.keys() - weights.keys()
    if hasattr(net, "levels"):
        missing = {name for name in missing if not _OF_THE_GAIN.match(name)}
    sizes = {name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape}
    wrong = sorted(missing | (weights.keys() - own.keys()) | sizes)
    if wrong:
        raise ValueError(
            f"{str(path)!r} does not have the weights of this model: {len(wrong)} parameters are "
            f"missing, unknown or of another size, such as {', '.join(wrong[:3])}"
        )
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)


def _name_in(net: nn.Module, name: str) -> str:
    match = _OF_THE_BOTTLENECK.match(name)
    if match is None or not getattr(net, "vr_entbttlnck", False):
        return name
    kind, index = match.groups()
    return f"entropy_bottleneck.{_SINGULAR[kind]}{index}"
