# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The models that the plugin uses: kept between calls, found by what a file says of its weights."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressai.bitstream import CodedImage
from compressai.bitstream.chosen import ChosenModel, chosen_bundle, decoding_bundle
from compressai.cores import Cores
from compressai.zoo.defaults import DEFAULT_METRIC, DEFAULT_MODEL, DEFAULT_QUALITY

if TYPE_CHECKING:
    from compressai.model_choice import ModelCache

__all__ = [
    "configure",
    "hold_cores",
    "model_to_decode",
    "model_to_encode",
    "remember_checkpoint",
    "use_checkpoint",
]

_lock = threading.Lock()
_settings: dict[str, Any] = {"precision": "auto", "device": "cpu"}
_cache: ModelCache | None = None
_cores = Cores()
# Checkpoints by the fingerprint of their weights, with the names of models that they need.
_checkpoints: dict[bytes, tuple[Path, str | None]] = {}


def configure(
    *, precision: str = "auto", device: str = "cpu", models: int = 4, cores: int | None = None
) -> None:
    """Choose how images are coded from now on.

    Args:
        precision: of the transforms, see :func:`compressai.inference.prepare`; bf16 needs torch.
        device: where networks run; others than the CPU need torch.
        models: number of models to keep in memory.
        cores: that the threads of this process share out among their images, see
            :class:`compressai.cores.Cores`; ``None`` takes those that the process may use.

    Raises:
        ValueError: ``cores`` is less than 1.
    """
    global _cache, _cores
    shared = Cores(cores)
    with _lock:
        _settings.update(size=models, precision=precision, device=device)
        _cache = None
        _cores = shared


@contextlib.contextmanager
def hold_cores() -> Iterator[int | None]:
    """Wait for cores to code an image with; gives the threads for a bundle: one, or ``None`` for
    all that there are."""
    cores = _cores
    with cores.hold() as threads:
        # Not any number between: each would keep a model of its own in memory.
        yield None if threads == cores.count > 1 else 1


def _torch_models() -> ModelCache:
    """Models that torch runs."""
    global _cache
    # Slow to import, and not needed where there are bundles.
    from compressai.model_choice import ModelCache

    with _lock:
        if _cache is None:
            _cache = ModelCache(**_settings)
        return _cache


def _takes_bundles() -> bool:
    return _settings["device"] == "cpu" and _settings["precision"] != "bf16"


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
    # Needs torch, as checkpoints do.
    from compressai.bitstream import fingerprint

    net = _torch_models().choose_model(model, None, DEFAULT_METRIC, Path(path)).net
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
    *,
    plain: bool = False,
    threads: int | None = None,
) -> ChosenModel:
    """The model for saving: of a bundle where there is one.

    Args:
        model, quality, metric, checkpoint: keywords of ``Image.save``.
        plain: whether files are to be coded without synchrony.
        threads: as :func:`hold_cores` gives them.

    Raises:
        ValueError: arguments contradict each other, or there is no such model.
        OSError: the checkpoint cannot be read, or no trained weights are at hand.
    """
    if checkpoint is not None:
        if metric is not None:
            raise ValueError("metric chooses weights of the zoo, not of a checkpoint")
        return _torch_models().choose_model(
            model, None, DEFAULT_METRIC, Path(checkpoint), level=quality
        )
    name, metric = model or DEFAULT_MODEL, metric or DEFAULT_METRIC
    if _takes_bundles():
        try:
            bundle = chosen_bundle(
                *(name, quality, metric),
                default_quality=DEFAULT_QUALITY,
                plain=plain,
                threads=threads,
            )
        except ImportError:
            bundle = None
        if bundle is not None:
            return bundle
    chosen = _torch_models().choose_model(
        name,
        quality,
        metric,
        None,
    )
    if chosen.random_weights:
        raise OSError(
            f"no trained weights of {chosen.model} (quality {chosen.quality}, {chosen.metric}) are "
            "at hand: give checkpoint=, or put published weights into the weights folder"
        )
    return chosen


def model_to_decode(coded: CodedImage, *, threads: int | None = None) -> Any:
    """The model for opening: of a bundle where there is one.

    Args:
        coded: what is opened.
        threads: as :func:`hold_cores` gives them.

    Raises:
        BitstreamError: the weights are not at hand, or unknown.
        OSError: the checkpoint cannot be read any more.
    """
    with _lock:
        checkpoint, model = _checkpoints.get(coded.fingerprint, (None, None))
    if checkpoint is None:
        bundle = decoding_bundle(coded, threads=threads) if _takes_bundles() else None
        return bundle or _torch_models().model_of(coded, None)
    return _torch_models().choose_model(model, None, DEFAULT_METRIC, checkpoint).net
