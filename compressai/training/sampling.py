# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which images a batch has, which of them are this process's, and what randomness they see.

With :class:`SeededSamples`, the crop and the noise of an image depend on the seed, the epoch and
the image, and on nothing else: not on the processes that share a batch, not on the parts that it
is cut into, not on the loader's workers.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from compressai.entropy_models.noise import noise_per_item
from compressai.training.state import random_states, set_random_states

__all__ = ["RecordingBatchSampler", "SeededSamples", "begin_epoch", "item_noise"]

_CROP, _NOISE = 0, 1


class RecordingBatchSampler(BatchSampler):
    """Batch sampler that remembers this epoch's batches, and gives a process its part of each.

    Args:
        sampler: gives the indices of an epoch, the same in every process.
        batch_size: number of items of a batch, all processes together.
        drop_last: leave out the last batch if it is smaller.
        rank, processes: this process and their number.

    Attributes:
        history: the batches of this epoch so far, whole.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool,
        rank: int = 0,
        processes: int = 1,
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        self.rank = rank
        self.processes = processes
        self.history: Sequence[list[int]] = ()

    def __iter__(self) -> Iterator[list[int]]:
        history: list[list[int]] = []
        self.history = history
        for batch in super().__iter__():
            history.append(batch)
            # A process without a part computes something all the same, to keep in step.
            yield self.part(batch) or batch[:1]

    def part(self, batch: list[int]) -> list[int]:
        """The items of a batch that are this process's; none, if there are too few."""
        return batch[self.rank :: self.processes]

    def weight(self, number: int) -> float:
        """Which part of a batch of this epoch is this process's, from 0 to 1."""
        batch = self.history[number]
        return len(self.part(batch)) / len(batch)


class SeededSamples(Dataset):
    """A dataset whose items draw random numbers that depend on seed, epoch and index alone.

    Args:
        dataset: draws from the default generators of torch, Python and NumPy.
        seed: of the run.

    Attributes:
        samples: those of ``dataset``.
        epoch: number of the epoch.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset = dataset
        self.samples = getattr(dataset, "samples", None)
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        states = random_states(cuda=False)
        seed = self._seed(index, _CROP)
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (the global one)
        try:
            return self.dataset[index]
        finally:
            set_random_states(states)

    def noise_generators(self, indices: Sequence[int], device: torch.device) -> list[Any]:
        """Generators for the noise of items, see :func:`~.noise_per_item`."""
        return [torch.Generator(device).manual_seed(self._seed(index, _NOISE)) for index in indices]

    def _seed(self, index: int, purpose: int) -> int:
        sequence = np.random.SeedSequence([self.seed, self.epoch, index, purpose])
        return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def begin_epoch(loader: DataLoader, epoch: int) -> None:
    """Tell samplers and datasets that care which epoch begins."""
    sampler = getattr(loader.batch_sampler, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    if isinstance(loader.dataset, SeededSamples):
        loader.dataset.epoch = epoch


def item_noise(
    loader: DataLoader, number: int, part: slice, device: torch.device
) -> contextlib.AbstractContextManager[None]:
    """Noise for some items of this process's part of a batch, as its dataset wants it.

    Args:
        loader: where the batch comes from.
        number: number of the batch in the epoch.
        part: which items of this process's part.
        device: where the model is.
    """
    if not isinstance(loader.dataset, SeededSamples):
        return contextlib.nullcontext()
    sampler = loader.batch_sampler
    batch = sampler.history[number]
    indices = (sampler.part(batch) or batch[:1])[part]
    return noise_per_item(loader.dataset.noise_generators(indices, device))
