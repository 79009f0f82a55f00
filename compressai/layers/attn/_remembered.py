# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Remembering what follows from small weights for as long as they do not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["Remembered"]

_MOST = 4


class Remembered:
    """The latest few results of a computation, with the tensors that they follow from.

    Tensors are compared by value: programs that write to ``parameter.data`` leave no other trace.
    Copies and pickles are empty.
    """

    def __init__(self) -> None:
        self._results: list[tuple[list[Tensor], Tensor]] = []

    def get(self, compute: Callable[[], Tensor], sources: Sequence[Tensor]) -> Tensor:
        """The result of ``compute``, from memory if ``sources`` have values that it knows.

        It is computed anew where gradients are to pass, where a compiler traces, and on devices
        that would have to be waited for to compare.
        """
        trained = torch.is_grad_enabled() and any(source.requires_grad for source in sources)
        on_cpu = all(source.device.type == "cpu" for source in sources)
        traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if traced or trained or not on_cpu:
            return compute()
        for known, result in self._results:
            if len(known) == len(sources) and all(map(_same, known, sources)):
                return result
        # No inference tensors: those who come later may want gradients of other operands.
        with torch.inference_mode(False), torch.no_grad():
            copies = [source.clone() for source in sources]
            result = compute()
            result = result.clone() if result.is_inference() else result
        self._results = [(copies, result), *self._results[: _MOST - 1]]
        return result

    def __deepcopy__(self, memo: object) -> Remembered:
        return Remembered()

    def __reduce__(self) -> tuple[type[Remembered], tuple[()]]:
        return Remembered, ()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)
