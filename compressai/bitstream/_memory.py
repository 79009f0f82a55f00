# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How much memory a model takes to code a tile, found out on a small one before a large one is."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
from torch.overrides import TorchFunctionMode

from compressai.bitstream._nets import padding_multiple
from compressai.bitstream._parallel import default_workers
from compressai.bitstream.tiling import Tiling, padded_side

__all__ = ["coding_bytes", "tiles_bytes"]

# Two sizes, so that what does not grow with the image drops out.
_SIDES = (128, 256)
_lock = threading.Lock()
_known: weakref.WeakKeyDictionary[nn.Module, int] = weakref.WeakKeyDictionary()


def coding_bytes(net: nn.Module, area: int, rate: Mapping[str, Any]) -> int:
    """About how many bytes the activations take while a tile is coded or decoded.

    Args:
        net: a model with tables.
        area: pixels of the padded tile.
        rate: arguments of ``compress`` and ``decompress`` that the model needs.
    """
    with _lock:
        if net not in _known:
            _known[net] = max(1, _bytes_a_pixel(net, rate))
        return area * _known[net]


def _bytes_a_pixel(net: nn.Module, rate: Mapping[str, Any]) -> int:
    multiple = padding_multiple(net)
    sides = [padded_side(side, multiple) for side in _SIDES]
    parameter = next(net.parameters())
    peaks = []
    for side in (sides[0], *sides):  # once more: at first, some things are made to stay
        x = parameter.new_zeros((1, 3, side, side))
        with _LiveBytes() as coding:
            out = net.compress(x, **rate)
        with _LiveBytes() as decoding:
            net.decompress(out["strings"], out["shape"], **rate)
        peaks.append(max(coding.peak, decoding.peak))
    return -(-(peaks[2] - peaks[1]) // (sides[1] ** 2 - sides[0] ** 2))


def tiles_bytes(net: nn.Module, tiling: Tiling, rate: Mapping[str, Any]) -> int:
    """About how many bytes the activations take while an image is coded or decoded in this thread.

    Args:
        net: a model with tables.
        tiling: the image's tiles.
        rate: arguments of ``compress`` and ``decompress`` that the model needs.
    """
    multiple, box = padding_multiple(net), tiling[0]
    area = padded_side(box.width, multiple) * padded_side(box.height, multiple)
    return coding_bytes(net, area, rate) * min(tiling.count, default_workers())


class _LiveBytes(TorchFunctionMode):
    """Counts the bytes of tensors that are made inside, in this thread, until they are freed.

    Attributes:
        peak: the most that there were at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._sizes: dict[int, int] = {}

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage.data_ptr()
        if key and key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self._live += storage.nbytes()
            self.peak = max(self.peak, self._live)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self._live -= self._sizes.pop(key)
