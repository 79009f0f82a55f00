# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Several datasets side by side as one."""

from __future__ import annotations

from typing import Any, TypeVar

from torch.utils.data import Dataset

__all__ = ["StackDataset"]

T = TypeVar("T")


class StackDataset(Dataset):
    """Items of datasets of equal length, joined by index.

    Args:
        *args: datasets; an item is the tuple of their items.
        **kwargs: datasets; an item is the dictionary of their items under the same names.

    Raises:
        ValueError: positional and named datasets together, none at all, or lengths differ.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            raise ValueError(
                "StackDataset needs either positional or named datasets, "
                f"got {len(args)} positional and {len(kwargs)} named"
            )
        self.datasets: tuple[Any, ...] | dict[str, Any] = args or kwargs
        lengths = [len(dataset) for dataset in (args or tuple(kwargs.values()))]
        if len(set(lengths)) != 1:
            raise ValueError(f"datasets must have the same length, got {lengths}")
        self._length = lengths[0]

    def __getitem__(self, index: int) -> Any:
        """Item ``index`` of each dataset, as a tuple or a dictionary."""
        if isinstance(self.datasets, dict):
            return {name: dataset[index] for name, dataset in self.datasets.items()}
        return tuple(dataset[index] for dataset in self.datasets)

    def __len__(self) -> int:
        return self._length
