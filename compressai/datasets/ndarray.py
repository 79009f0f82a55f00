# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Arrays in memory as a dataset."""

from __future__ import annotations

from typing import Any

from torch.utils.data import Dataset

__all__ = ["NdArrayDataset"]


class NdArrayDataset(Dataset):
    """Rows of one or more arrays that have the same length.

    Args:
        *arrays: NumPy arrays or tensors, ``(N, ...)``.
        single: give the bare row instead of a tuple of one.

    Raises:
        ValueError: no array, or ``single`` with more than one.
        AssertionError: the arrays differ in length.
    """

    def __init__(self, *arrays: Any, single: bool = False) -> None:
        if not arrays:
            raise ValueError("NdArrayDataset needs at least one array")
        if single and len(arrays) != 1:
            raise ValueError(f"single=True needs exactly one array, got {len(arrays)}")
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) != 1:
            raise AssertionError(f"arrays must have the same length, got {lengths}")
        self.arrays = arrays
        self.single = single

    def __getitem__(self, index: int) -> Any:
        """Row ``index`` of each array as a tuple, or the bare row if ``single``."""
        if self.single:
            return self.arrays[0][index]
        return tuple(array[index] for array in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])
