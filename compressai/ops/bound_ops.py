# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Lower bound with a one-sided gradient: as functions, autograd function and module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LowerBound", "LowerBoundFunction", "lower_bound_bwd", "lower_bound_fwd"]


def lower_bound_fwd(x: Tensor, bound: Tensor) -> Tensor:
    """Return ``max(x, bound)``, element by element.

    Args:
        x: any shape.
        bound: broadcastable to ``x``. Where the dtypes differ the wider one is returned.
    """
    return torch.maximum(x, bound)


def lower_bound_bwd(x: Tensor, bound: Tensor, grad_output: Tensor) -> tuple[Tensor, None]:
    """Return the gradients of the lower bound with respect to ``x`` and ``bound``.

    Args:
        x: input of the forward pass.
        bound: bound of the forward pass.
        grad_output: gradient of the loss with respect to ``max(x, bound)``.

    Returns:
        ``grad_output`` where ``x >= bound`` or ``grad_output < 0`` and 0 elsewhere; None.
    """
    passes = (x >= bound) | (grad_output < 0)
    return torch.where(passes, grad_output, 0.0), None


class LowerBoundFunction(torch.autograd.Function):
    """``LowerBoundFunction.apply(x, bound)``: :func:`lower_bound_fwd` with the gradient of
    :func:`lower_bound_bwd`. Works under ``torch.compile`` and ``torch.func`` transforms.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, bound: Tensor) -> Tensor:
        return lower_bound_fwd(x, bound)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        x, bound = ctx.saved_tensors
        return lower_bound_bwd(x, bound, grad_output)


class LowerBound(nn.Module):
    """Clamp from below whose gradient still lets a value return into range.

    forward: ``max(x, bound)``. backward: the gradient passes where ``x >= bound`` or where
    descending it would raise ``x`` (gradient below 0); elsewhere it is 0. The bound itself gets no
    gradient. Under ``torch.jit.script`` it is a plain maximum with the gradient of one.

    Args:
        bound: lower bound, same unit as the input. Kept as the float32 buffer ``bound``, ``(1,)``.

    Shape: any with at least one axis, input and output alike.
    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior", app. 6.2.
    """

    # No annotation of the buffer: TorchScript cannot resolve the text of postponed annotations.

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.register_buffer("bound", torch.tensor([float(bound)], dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        # An explicit else: TorchScript leaves out the branch it cannot compile.
        if torch.jit.is_scripting():
            return torch.maximum(x, self.bound)
        else:  # noqa: RET505
            return LowerBoundFunction.apply(x, self.bound)
