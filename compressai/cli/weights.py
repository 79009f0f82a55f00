# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Getting the model that the user, or a coded picture, asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn as nn

import compressai
from compressai.bitstream import CodedPicture, UnsupportedFileError, WrongWeightsError
from compressai.checkpoint import read_metadata
from compressai.zoo import image_models

__all__ = ["ChosenModel", "choose_model", "model_of"]

# Random weights are those of this seed, so that a decoder can make them again.
_SEED = 0


@dataclass(frozen=True)
class ChosenModel:
    """A model that is ready to code, and what a file says about it; see ``CodedPicture``."""

    net: nn.Module
    model: str
    quality: int | None
    metric: str | None
    random_weights: bool = False


def choose_model(
    model: str | None, quality: int, metric: str, checkpoint: Path | None
) -> ChosenModel:
    """The model for encoding: a checkpoint, else published weights, else random ones.

    Args:
        model: name in the zoo; may be ``None`` if ``checkpoint`` tells.
        quality, metric: which weights of the zoo.
        checkpoint: file with weights, in place of the zoo's.

    Returns:
        The model with tables, in evaluation mode.

    Raises:
        ValueError: unknown model, quality or metric, or a checkpoint that does not fit.
    """
    if checkpoint is not None:
        metadata = read_metadata(checkpoint)
        described = metadata is not None
        name = model or (metadata["architecture"] if described else None)
        net = compressai.load(checkpoint, architecture=None if described else model)
        return ChosenModel(net, name or type(net).__name__, None, (metadata or {}).get("metric"))
    if model not in image_models:
        raise ValueError(f"model must be one of {', '.join(image_models)}, got {model!r}")
    try:
        net = image_models[model](quality, metric, pretrained=True)
        random_weights = False
    except RuntimeError:
        net = _random(model, quality, metric)
        random_weights = True
    net.eval().update()
    return ChosenModel(net, model, quality, metric, random_weights)


def model_of(coded: CodedPicture, checkpoint: Path | None) -> nn.Module:
    """The model that a coded picture needs.

    Args:
        coded: the coded picture.
        checkpoint: file with weights; needed unless the picture was coded with the zoo's.

    Returns:
        The model with tables, in evaluation mode.

    Raises:
        WrongWeightsError: the weights are not at hand.
        UnsupportedFileError: the zoo has no such model.
    """
    if checkpoint is not None:
        described = read_metadata(checkpoint) is not None
        return compressai.load(checkpoint, architecture=None if described else coded.model)
    if coded.quality is None:
        raise WrongWeightsError(
            f"the picture was coded with a checkpoint of {coded.model}: name that file with "
            "--checkpoint"
        )
    if coded.model not in image_models:
        raise UnsupportedFileError(
            f"the picture was coded with {coded.model}, which this version does not know: update it"
        )
    metric = coded.metric or "mse"
    try:
        if coded.random_weights:
            net = _random(coded.model, coded.quality, metric)
        else:
            net = image_models[coded.model](coded.quality, metric, pretrained=True)
    except RuntimeError as error:
        raise WrongWeightsError(str(error)) from error
    except ValueError as error:
        raise UnsupportedFileError(f"the file names weights that do not exist: {error}") from error
    net.eval().update()
    return net


def _random(model: str, quality: int, metric: str) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(_SEED)
        return image_models[model](quality, metric)
