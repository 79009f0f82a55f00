# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Datasets that are prepared once and then read from memory-mapped files."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset

__all__ = ["CacheDataset"]

_INFO = "info.json"


def _removeprefix(s: str, prefix: str) -> str:
    return s.removeprefix(prefix)


class CacheDataset(Dataset):
    """Base of datasets whose samples are computed once and cached as raw arrays.

    A subclass gives :meth:`_get_items` and :meth:`_load_item` and calls :meth:`_ensure_cache` at
    the end of its constructor.

    The cache directory holds one file ``{key}.npy`` for each key of a sample, raw samples
    ``(N, ...)`` without any header, and ``info.json`` with the ``dtype`` and ``shape`` of each.
    ``info.json`` is written last and atomically: an interrupted generation leaves no cache that
    looks complete. Files whose size contradicts ``info.json`` count as missing.

    Args:
        cache_root: directory of the cache.
        pre_transform: applied to a loaded sample before it is cached; its result is a mapping of
            names to arrays, tensors or numbers, of the same shapes for all samples.
        transform: applied to a cached sample when it is read.
    """

    def __init__(
        self,
        cache_root: str | os.PathLike[str] | None = None,
        pre_transform: Callable[[Any], Any] | None = None,
        transform: Callable[[dict[str, np.ndarray]], Any] | None = None,
    ) -> None:
        super().__init__()
        self.cache_root = None if cache_root is None else Path(cache_root)
        self.pre_transform = pre_transform
        self.transform = transform
        self._store: dict[str, np.memmap] = {}

    def __getitem__(self, index: int) -> Any:
        """A dictionary of copies of row ``index``, or what the transform makes of it."""
        item = {key: np.array(rows[index]) for key, rows in self._store.items()}
        return item if self.transform is None else self.transform(item)

    def __len__(self) -> int:
        return len(next(iter(self._store.values())))

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map is a copy of the file: a spawned loader worker opens its own.
        return {**self.__dict__, "_store": bool(self._store)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._store = self._load_cache("r") if state["_store"] else {}

    def _get_items(self) -> Sequence[Any]:
        """What :meth:`_load_item` is called with, one entry a sample."""
        raise NotImplementedError(f"{type(self).__name__} must define _get_items")

    def _load_item(self, item: Any) -> Mapping[str, Any]:
        """The sample that ``item`` stands for."""
        raise NotImplementedError(f"{type(self).__name__} must define _load_item")

    def _directory(self) -> Path:
        if self.cache_root is None:
            raise ValueError("cache_root must be a directory to make or read a cache, got None")
        return Path(self.cache_root)

    def _ensure_cache(self) -> None:
        """Open the cache; generate it first where it is missing or incomplete."""
        if not self._is_complete():
            self._generate_cache()
        self._store = self._load_cache("r")

    def _read_info(self) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
        info = json.loads((self._directory() / _INFO).read_text(encoding="utf-8"))
        return {
            key: (np.dtype(_removeprefix(entry["dtype"], "torch.")), tuple(entry["shape"]))
            for key, entry in info.items()
        }

    def _is_complete(self) -> bool:
        directory = self._directory()
        if not (directory / _INFO).is_file():
            return False
        for key, (dtype, shape) in self._read_info().items():
            path = directory / f"{key}.npy"
            if not path.is_file() or path.stat().st_size != dtype.itemsize * int(np.prod(shape)):
                return False
        return True

    def _load_cache(self, mode: str) -> dict[str, np.memmap]:
        directory = self._directory()
        return {
            key: np.memmap(directory / f"{key}.npy", dtype=dtype, mode=mode, shape=shape)
            for key, (dtype, shape) in self._read_info().items()
        }

    def _sample(self, item: Any) -> dict[str, np.ndarray]:
        data = self._load_item(item)
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        return {key: np.asarray(value) for key, value in data.items()}

    def _generate_cache(self, verbose: bool = True) -> None:
        """Compute every sample and write the cache.

        Raises:
            ValueError: no samples, or a sample has other keys, dtypes or shapes than the first.
        """
        directory = self._directory()
        items = self._get_items()
        if len(items) == 0:
            raise ValueError(f"{type(self).__name__} has no items to cache in {str(directory)!r}")
        if verbose:
            print(f"Generating cache in {directory}")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / _INFO).unlink(missing_ok=True)

        with tempfile.TemporaryDirectory(dir=directory, prefix=".generating-") as unfinished:
            rows: dict[str, np.memmap] = {}
            first: dict[str, np.ndarray] = {}
            for index, item in enumerate(_track(items) if verbose else items):
                data = self._sample(item)
                if index == 0:
                    first = data
                    rows = {
                        key: np.memmap(
                            Path(unfinished) / f"{key}.npy",
                            dtype=value.dtype,
                            mode="w+",
                            shape=(len(items), *value.shape),
                        )
                        for key, value in data.items()
                    }
                _check_like(first, data, index)
                for key, value in data.items():
                    rows[key][index] = value
            for key, array in rows.items():
                array.flush()
                os.replace(Path(unfinished) / f"{key}.npy", directory / f"{key}.npy")
        self._write_cache_info(len(items), first)

    def _write_cache_info(self, num_samples: int, data: Mapping[str, Any]) -> None:
        info = {
            key: {
                "dtype": _removeprefix(str(value.dtype), "torch."),
                "shape": [num_samples, *value.shape],
            }
            for key, value in data.items()
        }
        path = self._directory() / _INFO
        unfinished = path.with_name(f".{_INFO}.{os.getpid()}")
        unfinished.write_text(json.dumps(info, indent=2), encoding="utf-8")
        os.replace(unfinished, path)


def _check_like(first: dict[str, np.ndarray], data: dict[str, np.ndarray], index: int) -> None:
    def describe(sample: dict[str, np.ndarray]) -> dict[str, str]:
        return {key: f"{value.dtype} {value.shape}" for key, value in sample.items()}

    if describe(first) != describe(data):
        raise ValueError(
            f"all samples must have the same keys, dtypes and shapes: sample 0 has "
            f"{describe(first)}, sample {index} has {describe(data)}"
        )


def _track(items: Sequence[Any]) -> Any:
    # Slow to import, and needed for bars only.
    from rich.console import Console
    from rich.progress import track

    return track(items, description="caching", console=Console(stderr=True), transient=True)
