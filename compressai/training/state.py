# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The state of a run, written and restored so that a resumed run equals one that never stopped."""

from __future__ import annotations

import copy
import json
import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compressai._files import atomic_write
from compressai._weight_files import read_weights, shown
from compressai.checkpoint import save_checkpoint as save_model
from compressai.models._build import why_not

__all__ = [
    "load_training_state",
    "random_states",
    "save_checkpoint",
    "save_epoch",
    "set_random_states",
]


def save_checkpoint(
    state: dict[str, Any], is_best: bool, filename: str | Path = "checkpoint.pth.tar"
) -> None:
    """Write the state of training, and copy it if it is the best so far; each atomically."""
    with atomic_write(filename) as unfinished:
        torch.save(state, unfinished)
    if is_best:
        best = Path(filename).with_name("checkpoint_best_loss.pth.tar")
        with atomic_write(best) as unfinished:
            shutil.copyfile(filename, unfinished)


def save_epoch(
    folder: Path,
    state: Mapping[str, Any],
    stateful: Mapping[str, Any],
    net: nn.Module,
    *,
    metadata: Mapping[str, Any],
    is_best: bool,
    steps: int,
    best_net: nn.Module | None = None,
) -> str:
    """Write what an epoch ends with: a checkpoint to resume from, and the model if it is the best.

    Args:
        folder: where ``checkpoint.pth.tar`` and ``checkpoint_best.safetensors`` go.
        state: ``epoch``, ``loss``, ``best_loss``, and what else the checkpoint holds.
        stateful: optimizers and schedulers, by their key in the checkpoint.
        net: the model, without wrappers.
        metadata: description of ``net``, see :func:`compressai.checkpoint.describe`.
        is_best: whether its test loss is the best so far.
        steps: batches of an epoch.
        best_net: the model that was tested, if it is another one, such as an average.

    Returns:
        The path of the checkpoint.
    """
    path = str(folder / "checkpoint.pth.tar")
    content = {
        **state,
        "state_dict": net.state_dict(),
        **{name: item.state_dict() for name, item in stateful.items()},
        "random_states": random_states(),
        "compressai": metadata,
    }
    save_checkpoint(content, is_best, path)
    if is_best:
        finished = copy.deepcopy(net if best_net is None else best_net)
        finished.update(force=True)
        told = {key: metadata[key] for key in ("architecture", "arguments", "lmbda", "metric")}
        epoch, loss = state["epoch"], float(state["loss"])
        extra = {"epoch": epoch, "step": (epoch + 1) * steps, "loss": loss, **metadata["extra"]}
        save_model(folder / "checkpoint_best.safetensors", finished, **told, extra=extra)
    return path


def random_states(cuda: bool = True) -> dict[str, Any]:
    """States of all generators that training draws from, as plain data and tensors.

    Args:
        cuda: those of the GPUs, too.
    """
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 (the global one)
    numpy_state["state"]["key"] = numpy_state["state"]["key"].tolist()
    return {
        "python": random.getstate(),
        "numpy": numpy_state,
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if cuda and torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Continue the generators where :func:`random_states` found them."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def load_training_state(
    path: str | Path,
    net: nn.Module,
    stateful: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> tuple[int, float, int | None]:
    """Load a training checkpoint into everything that has a state, random generators last.

    Args:
        path: file written by :func:`save_checkpoint`. Files of other programs may lack
            ``random_states``, ``best_loss`` and ``compressai``; resuming is not exact then.
        net: the model, without wrappers.
        stateful: optimizers and schedulers, by their key in the checkpoint.
        metadata: description of ``net``, which that of the file must agree with.

    Returns:
        The next epoch, the best test loss so far, and the seed of
        :class:`~.SeededSamples` or ``None``.

    Raises:
        ValueError: no training checkpoint, or one of another model.
    """
    file = read_weights(path)
    checkpoint = file.content
    missing = {"epoch", "state_dict", "loss", *stateful} - set(checkpoint)
    if missing:
        raise ValueError(f"{str(path)!r} is no training checkpoint, it lacks {sorted(missing)}")
    written = metadata if file.description is None else file.description
    for key in ("architecture", "arguments", "extra"):
        found, wanted = (
            json.dumps(told.get(key) if isinstance(told, Mapping) else None, sort_keys=True)
            for told in (written, metadata)
        )
        if found != wanted:
            found, wanted = (repr(json.loads(text))[:200] for text in (found, wanted))
            raise ValueError(f"{str(path)!r} has {key} {found}, not {wanted}")

    try:
        net.load_state_dict(checkpoint["state_dict"])
        for name, item in stateful.items():
            item.load_state_dict(checkpoint[name])
        if "random_states" in checkpoint:
            set_random_states(checkpoint["random_states"])
        epoch, seed = int(checkpoint["epoch"]), checkpoint.get("picture_seed")
        best_loss = float(checkpoint.get("best_loss", checkpoint["loss"]))
        if epoch < 0 or not (seed is None or isinstance(seed, int)):
            raise ValueError(f"epoch and seed must be numbers, got {epoch} and {shown(seed)}")
    # Each of those fails in as many ways as a file can be written.
    except Exception as error:
        raise ValueError(f"{str(path)!r} does not fit this run: {why_not(error)}") from error
    return epoch + 1, best_loss, seed
