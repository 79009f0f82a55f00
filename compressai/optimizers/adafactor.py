# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Adafactor for networks of convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn, optim

from compressai.registry import register_optimizer

__all__ = ["MatrixAdafactor"]


@register_optimizer("MatrixAdafactor")
class MatrixAdafactor(optim.Adafactor):
    """:class:`torch.optim.Adafactor` that takes the weights of a convolution for a matrix.

    Adafactor keeps a number for each row and each column in place of one for each weight. That of
    torch means the last two dimensions, which are the taps of a convolution: with 1x1 taps it keeps
    two numbers a weight, as Adam does. Here a row is all that an output (of a transposed
    convolution, an input) is computed from.

    Args:
        params, kwargs: as of :class:`torch.optim.Adafactor`.

    Source: Shazeer and Stern 2018, "Adafactor: adaptive learning rates with sublinear memory cost".
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take a step with the gradients that there are.

        Args:
            closure: computes loss and gradients anew, before the step.

        Returns:
            What it gave.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with ExitStack() as stack:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.dim() > 2 and parameter.grad is not None:
                        stack.enter_context(_as_matrix(parameter))
            super().step()
        return loss


@contextmanager
def _as_matrix(parameter: nn.Parameter) -> Iterator[None]:
    """Let a parameter and its gradient have two dimensions."""
    whole, gradient = parameter.data, parameter.grad
    flat = whole.flatten(1)
    parameter.grad = None  # or its shape would be compared
    parameter.data = flat
    parameter.grad = None if gradient is None else gradient.flatten(1)
    try:
        yield
    finally:
        parameter.grad = None
        parameter.data, parameter.grad = whole, gradient
        # In another layout it was a copy.
        if flat.data_ptr() != whole.data_ptr():
            whole.copy_(flat.view(whole.shape))
