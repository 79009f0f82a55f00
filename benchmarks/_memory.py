# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How much memory coding takes, in tensors and in the whole process."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["peak_memory", "peak_tensor_memory"]


def peak_tensor_memory(function: Callable[[], Any]) -> int:
    """Bytes of the tensors that a call makes and that live at the same time, at most.

    The same in every run. What operations take for themselves is not in it; see
    :func:`peak_memory` for that.

    Args:
        function: is called once; its result counts, too.
    """
    count = _LiveBytes()
    with count:
        function()
    return count.peak


class _LiveBytes(TorchDispatchMode):
    """Counts the memory of the tensors that operations give."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_key(tensor) for tensor in _tensors((args, kwargs))}
        result = operation(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            # Views and results in place have the memory of what was given.
            if _key(tensor) not in given | self._known:
                self._add(_key(tensor), tensor)
        return result

    def _add(self, key: int, tensor: torch.Tensor) -> None:
        size = tensor.nbytes if tensor.is_mkldnn else tensor.untyped_storage().nbytes()
        self._known.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)

        def remove() -> None:
            self._known.discard(key)
            self._live -= size

        weakref.finalize(tensor if tensor.is_mkldnn else tensor.untyped_storage(), remove)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _key(tensor: torch.Tensor) -> int:
    # Tensors in oneDNN's layout have no storage, and so no views.
    return id(tensor) if tensor.is_mkldnn else tensor.untyped_storage()._cdata


def peak_memory(function: Callable[[], Any]) -> tuple[int, int | None]:
    """What a call takes at most: :func:`peak_tensor_memory`, and bytes of the whole process.

    The latter are above what the process has before, and ``None`` where the kernel does not keep
    the highest figure, as that of Linux does.
    """
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    try:
        reset.write_text("5")
        before = _kilobytes(status, "VmRSS")
    except OSError:
        return peak_tensor_memory(function), None
    tensors = peak_tensor_memory(function)
    return tensors, 1024 * (_kilobytes(status, "VmHWM") - before)


def _kilobytes(status: Path, key: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])
