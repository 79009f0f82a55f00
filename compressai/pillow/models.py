# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The models that the plugin uses: kept between calls, found by what a file says of its weights."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from torch import nn

from compressai.bitstream import CodedImage, fingerprint
from compressai.model_choice import (
    DEFAULT_METRIC,
    DEFAULT_MODEL,
    ChosenModel,
    ModelCache,
)

__all__ = [
    "configure",
    "model_to_decode",
    "model_to_encode",
    "remember_checkpoint",
    "use_checkpoint",
]

_lock = threading.Lock()
_cache = ModelCache(precision="auto")
# Checkpoints by the fingerprint of their weights, with the names of models that they need.
_checkpoints: dict[bytes, tuple[Path, str | None]] = {}


def configure(*, precision: str = "auto", device: str = "cpu", models: int = 4) -> None:
    """Choose how images are coded from now on.

    Args:
        precision: of the transforms, see :func:`compressai.inference.prepare`.
        device: where networks run.
        models: number of models to keep in memory.
    """
    global _cache
    _cache = ModelCache(models, precision=precision, device=device)


def use_checkpoint(path: str | os.PathLike[str], model: str | None = None) -> None:
    """Let files be opened that were coded with the weights in a checkpoint.

    Files say which weights they need. Saving with ``checkpoint=`` does the same.

    Args:
        path: the checkpoint.
        model: name of the model, if the checkpoint does not say it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or does not fit the model.
    """
    net = _cache.choose_model(model, None, DEFAULT_METRIC, Path(path)).net
    remember_checkpoint(fingerprint(net), path, model)


def remember_checkpoint(
    weights: bytes, path: str | os.PathLike[str], model: str | None = None
) -> None:
    """Note where weights are, by their fingerprint."""
    with _lock:
        _checkpoints[weights] = (Path(path), model)


def model_to_encode(
    model: str | None,
    quality: int | None,
    metric: str | None,
    checkpoint: str | os.PathLike[str] | None,
) -> ChosenModel:
    """The model for saving.

    Raises:
        ValueError: arguments contradict each other, or there is no such model.
        OSError: the checkpoint cannot be read, or no trained weights are at hand.
    """
    if checkpoint is not None:
        if metric is not None:
            raise ValueError("metric chooses weights of the zoo, not of a checkpoint")
        return _cache.choose_model(model, None, DEFAULT_METRIC, Path(checkpoint), level=quality)
    chosen = _cache.choose_model(
        model or DEFAULT_MODEL,
        quality,
        metric or DEFAULT_METRIC,
        None,
    )
    if chosen.random_weights:
        raise OSError(
            f"no trained weights of {chosen.model} (quality {chosen.quality}, {chosen.metric}) are "
            "at hand: give checkpoint=, or put published weights into the weights folder"
        )
    return chosen


def model_to_decode(coded: CodedImage) -> nn.Module:
    """The model for opening.

    Raises:
        BitstreamError: the weights are not at hand, or unknown.
        OSError: the checkpoint cannot be read any more.
    """
    with _lock:
        checkpoint, model = _checkpoints.get(coded.fingerprint, (None, None))
    if checkpoint is None:
        return _cache.model_of(coded, None)
    return _cache.choose_model(model, None, DEFAULT_METRIC, checkpoint).net
