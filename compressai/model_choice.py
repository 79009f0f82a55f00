# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Getting the model that the user, or a coded image or video, asks for."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn

import compressai
from compressai.bitstream import (
    CodedImage,
    UnknownModelError,
    VideoHeader,
    WrongWeightsError,
)
from compressai.bitstream._nets import rate_level
from compressai.bitstream.chosen import ChosenModel, Ladder
from compressai.checkpoint import read_metadata
from compressai.extensions import load_extensions
from compressai.inference import prepare
from compressai.models.base import ModelIdentity
from compressai.registry import ENTRIES, MODELS
from compressai.zoo import image_models
from compressai.zoo.defaults import DEFAULT_METRIC, DEFAULT_MODEL, DEFAULT_QUALITY
from compressai.zoo.installed import enter_installed
from compressai.zoo.weights import weights_at_hand

__all__ = [
    "DEFAULT_METRIC",
    "DEFAULT_MODEL",
    "DEFAULT_QUALITY",
    "RANDOM_WEIGHTS_NOTE",
    "ChosenModel",
    "Chooser",
    "Ladder",
    "ModelCache",
    "choose_model",
    "default_quality",
    "model_of",
]

RANDOM_WEIGHTS_NOTE = (
    "no trained weights of {model} (quality {quality}, {metric}) are at hand: coding with RANDOM "
    "ones, the result will not be recognisable. Give --checkpoint, or put published weights into "
    "the weights folder (see the documentation)"
)

Zoo = Mapping[str, Callable[..., nn.Module]]
Coded = CodedImage | VideoHeader

# Random weights are those of this seed, so that a decoder can make them again.
_SEED = 0


def choose_model(
    model: str | None,
    quality: float | None,
    metric: str,
    checkpoint: Path | None,
    zoo: Zoo = image_models,
    *,
    level: float | None = None,
    precision: str | None = None,
    device: str = "cpu",
) -> ChosenModel:
    """The model for encoding: a checkpoint, else published weights, else random ones.

    Random weights are chosen only where published ones were never put: files that are damaged or
    of the wrong kind are errors.

    Args:
        model: name in the zoo; may be ``None`` if ``checkpoint`` tells.
        quality, metric: which weights of the zoo, or which number on the scale of its model;
            ``None`` is the model's default. A checkpoint has its own.
        checkpoint: file with weights, in place of the zoo's.
        zoo: the models to choose from, by name.
        level: of a variable-rate model in a checkpoint: the quality to code with, from 1, ``None``
            is the highest; or a number on the model's scale, ``None`` is the model's default.
        precision: of the transforms, see :func:`compressai.inference.prepare`; ``None`` leaves the
            model as it is.
        device: where it goes.

    Returns:
        The model with tables, in evaluation mode.

    Raises:
        ValueError: unknown model, quality, metric or level, or a checkpoint that does not fit.
        RuntimeError: the published weights are damaged.
        OSError: the checkpoint cannot be read, or weights cannot be fetched.
    """
    load_extensions()
    enter_installed()
    if checkpoint is not None:
        chosen = _from_checkpoint(model, checkpoint)
        if level is not None:
            if rate_level(chosen.net, None) is None:
                raise ValueError(
                    f"quality must not be given with {checkpoint}, which has one of its own"
                )
            rate_level(chosen.net, level)
            chosen = dataclasses.replace(chosen, quality=level)
    elif model not in zoo:
        raise ValueError(f"model must be one of {', '.join(zoo)}, got {model!r}")
    else:
        if quality is None:
            quality = default_quality(model)
        random_weights = not weights_at_hand(model, metric, quality)
        make = _random if random_weights else _published
        net = make(zoo[model], _weights_quality(model, quality), metric)
        rate_level(net, quality)
        chosen = ChosenModel(net, model, quality, metric, random_weights)
    return dataclasses.replace(chosen, net=_ready(chosen.net, precision, device))


def default_quality(model: str | None) -> float:
    """The quality that a model of the zoo is taken with where nobody names one.

    Args:
        model: its name; ``None`` is the default model.

    Returns:
        A whole number from 1, :data:`DEFAULT_QUALITY` for a name without a row; or a number on
        the scale of a model that has one.
    """
    entry = ENTRIES.get(model or DEFAULT_MODEL)
    return DEFAULT_QUALITY if entry is None else entry.default_quality


def _weights_quality(model: str | None, quality: float | None) -> float | None:
    """What to call a zoo function with: nothing where a quality is a number on a scale."""
    entry = ENTRIES.get(model) if model else None
    return None if entry is not None and entry.scale else quality


@dataclass(frozen=True)
class Chooser:
    """What a user said about the model, to load it here or in another process.

    Attributes are arguments of :func:`choose_model`; ``None`` for those that were not given.
    """

    model: str | None = None
    quality: float | None = None
    metric: str | None = None
    checkpoint: Path | None = None
    precision: str | None = None
    device: str = "cpu"

    def __call__(self) -> ChosenModel:
        """Load the model. Errors as of :func:`choose_model`."""
        return self._load(self.quality)

    def ladder(self) -> Ladder:
        """All rates of the model.

        Raises:
            ValueError: it has only one, or as of :func:`choose_model`.
        """
        if self.checkpoint is not None:
            return Ladder(self._load, None)
        entry = ENTRIES.get(self.model or DEFAULT_MODEL)
        if entry is None or entry.variable_rate:
            return Ladder(self._load, None)
        return Ladder(self._load, range(entry.qualities[0], entry.qualities[1] + 1))

    def _load(self, quality: float | None) -> ChosenModel:
        model = self.model
        if model is None and self.checkpoint is None:
            model = DEFAULT_MODEL
        return choose_model(
            model,
            quality,
            DEFAULT_METRIC if self.metric is None else self.metric,
            self.checkpoint,
            level=quality if self.checkpoint is not None else None,
            precision=self.precision,
            device=self.device,
        )


def _from_checkpoint(model: str | None, checkpoint: Path) -> ChosenModel:
    metadata = read_metadata(checkpoint)
    if metadata is None:
        if model is None:
            raise ValueError(f"{checkpoint} does not say which model it is of: give --model")
        return ChosenModel(compressai.load(checkpoint, architecture=model), model, None, None)
    architecture = metadata["architecture"]
    if model not in (None, architecture):
        raise ValueError(f"model must be {architecture!r}, as {checkpoint} says, got {model!r}")
    metric = metadata.get("metric")
    return ChosenModel(
        compressai.load(checkpoint),
        architecture,
        None,
        metric if metric in ("mse", "ms-ssim") else None,
    )


def model_of(
    coded: Coded,
    checkpoint: Path | None,
    zoo: Zoo = image_models,
    *,
    precision: str | None = None,
    device: str = "cpu",
) -> nn.Module:
    """The model that a coded image or video needs.

    Args:
        coded: the coded image, or what a coded video says about itself.
        checkpoint: file with weights; needed unless it was coded with the zoo's.
        zoo: the models to choose from, by name.
        precision, device: as for :func:`choose_model`.

    Returns:
        The model with tables, in evaluation mode.

    Raises:
        WrongWeightsError: the weights are not at hand.
        UnknownModelError: the zoo has no such model.
        ValueError: the checkpoint does not fit the model.
        OSError: the checkpoint cannot be read, or weights cannot be fetched.
    """
    load_extensions()
    enter_installed()
    net = _from_zoo(coded, zoo) if checkpoint is None else _of_checkpoint(coded, checkpoint, zoo)
    return _ready(net, precision, device)


def _of_checkpoint(coded: Coded, checkpoint: Path, zoo: Zoo) -> nn.Module:
    if read_metadata(checkpoint) is not None:
        return compressai.load(checkpoint)
    # The name comes from a file that anybody may have made: nothing is imported for it.
    if coded.model not in zoo and coded.model not in MODELS:
        raise UnknownModelError(
            f"the file was coded with {coded.model}, which this version does not know, and "
            f"{checkpoint} does not say how to build it"
        )
    return compressai.load(checkpoint, architecture=coded.model)


def _from_zoo(coded: Coded, zoo: Zoo) -> nn.Module:
    if coded.quality is None:
        raise WrongWeightsError(
            f"the file was coded with a checkpoint of {coded.model}: name that file with "
            "--checkpoint"
        )
    if coded.model not in zoo:
        raise UnknownModelError(
            f"the file was coded with {coded.model}, which this version does not know: update it"
        )
    make = _random if coded.random_weights else _published
    try:
        quality = _weights_quality(coded.model, coded.quality)
        return make(zoo[coded.model], quality, coded.metric or DEFAULT_METRIC)
    except RuntimeError as error:
        raise WrongWeightsError(str(error)) from error
    except ValueError as error:
        raise UnknownModelError(f"the file names weights that do not exist: {error}") from error


def _ready(net: nn.Module, precision: str | None, device: str) -> nn.Module:
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device must be cpu, this PyTorch finds no CUDA device, got {device!r}")
    net = net.eval().to(device)
    net.update()
    # Models of other people may have no such transforms, for which there is nothing to choose.
    has_transforms = hasattr(net, "g_a") and hasattr(net, "g_s")
    if precision is None or (precision == "auto" and not has_transforms):
        return net
    return prepare(net, precision)


class ModelCache:
    """Keeps the models that were used last, for those who code one image after the other.

    May be used by several threads at the same time. A checkpoint that changed is read again.

    Args:
        size: number of models to keep.
        precision, device: as for :func:`choose_model`.
    """

    def __init__(self, size: int = 4, *, precision: str | None = None, device: str = "cpu") -> None:
        self._size = size
        self._how = {"precision": precision, "device": device}
        self._models: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self._lock = threading.Lock()

    def choose_model(
        self,
        model: str | None,
        quality: float | None,
        metric: str,
        checkpoint: Path | None,
        level: float | None = None,
    ) -> ChosenModel:
        """As the function :func:`choose_model`."""
        if checkpoint is None and quality is None:
            quality = default_quality(model)
        which = _weights_quality(model, quality)
        key = (model, _version_of(checkpoint), level) if checkpoint else (model, which, metric)
        chosen = self._get(
            ("encode", *key),
            lambda: choose_model(model, quality, metric, checkpoint, level=level, **self._how),
        )
        if checkpoint is not None or which == quality:
            return chosen
        # The same weights serve the whole scale.
        rate_level(chosen.net, quality)
        return dataclasses.replace(chosen, quality=quality)

    def model_of(self, coded: CodedImage, checkpoint: Path | None) -> nn.Module:
        """As the function :func:`model_of`."""
        key: tuple[Hashable, ...] = (coded.model, _version_of(checkpoint))
        if checkpoint is None:
            which = _weights_quality(coded.model, coded.quality)
            key = (coded.model, which, coded.metric, coded.random_weights)
        return self._get(("decode", *key), lambda: model_of(coded, checkpoint, **self._how))

    def _get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        # Held while loading, so that threads that want the same model load it once.
        with self._lock:
            if key not in self._models:
                self._models[key] = load()
                if len(self._models) > self._size:
                    self._models.popitem(last=False)
            self._models.move_to_end(key)
            return self._models[key]


def _version_of(path: Path | None) -> Hashable:
    """What changes when a file does, ``None`` for none."""
    if path is None:
        return None
    status = path.stat()
    return (str(path.resolve()), status.st_mtime_ns, status.st_size)


def _published(make: Callable[..., nn.Module], quality: float | None, metric: str) -> nn.Module:
    return make(quality, metric, pretrained=True)


def _random(make: Callable[..., nn.Module], quality: float | None, metric: str) -> nn.Module:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(_SEED)
        net = make(quality, metric)
    known = getattr(net, "identity", None)
    if known is not None:
        net.identity = ModelIdentity(known.model, quality, metric, random_weights=True)
    return net
