# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Stopping before a NaN reaches the weights, and naming the images it came from."""

from __future__ import annotations

import math

from torch import Tensor
from torch.utils.data import DataLoader

__all__ = ["NonFiniteLoss", "check_finite"]


class NonFiniteLoss(RuntimeError):
    """The loss is NaN or infinite, so the next step would destroy the model."""


def _batch_names(loader: DataLoader, batch: int) -> str:
    """The files, or else the dataset indices, of a batch of the epoch that is running."""
    history = getattr(loader.batch_sampler, "history", ())
    if batch >= len(history):
        return f"batch {batch}"
    samples = getattr(loader.dataset, "samples", None)
    return ", ".join(str(samples[i] if samples else f"item {i}") for i in history[batch])


def check_finite(loss: Tensor, name: str, epoch: int, batch: int, loader: DataLoader) -> None:
    """Raise unless a number of the running epoch is finite.

    Args:
        loss: 0-d tensor.
        name: what it is, for the message.
        epoch: number of the epoch.
        batch: number of the batch in the epoch.
        loader: where the batch comes from; one with a :class:`~.RecordingBatchSampler` lets the
            message name its files (or indices, if the dataset has no ``samples``).

    Raises:
        NonFiniteLoss: it is NaN or infinite.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        step = epoch * len(loader) + batch
        raise NonFiniteLoss(
            f"{name} is {value} in epoch {epoch}, step {step}, batch {batch} "
            f"({_batch_names(loader, batch)})"
        )
