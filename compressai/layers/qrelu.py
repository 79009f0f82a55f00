# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Clipping activation for networks that are later run in integers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["QReLU"]

# Gamma(1 + 1 / 100) to eight digits, the constant of existing models: it makes the integral of the
# gradient over the real line the width of the range for beta = 100. Other betas keep the constant.
_ALPHA = 0.9943258522851727


class QReLU(torch.autograd.Function):
    r"""``QReLU.apply(x, bit_depth, beta)``: clamp to ``[0, 2**bit_depth - 1]``, without rounding.

    The gradient is that of the identity inside the range, ends included. Outside it decays instead
    of vanishing, so that clipped values can come back:

    .. math:: g \, \exp(-\alpha^\beta \, |2 x / m - 1|^\beta), \quad m = 2^{bit\_depth} - 1

    Args:
        x: any shape, floating point.
        bit_depth: bits of the integer activations.
        beta: sharpness of the decay.

    Source: Sun et al. 2020, "Learned image compression with fixed-point arithmetic".
    """

    @staticmethod
    def forward(x: Tensor, bit_depth: int, beta: float) -> Tensor:
        return x.clamp(min=0, max=2**bit_depth - 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:
        x, ctx.bit_depth, ctx.beta = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        top = 2**ctx.bit_depth - 1
        decay = torch.exp(-(_ALPHA**ctx.beta) * (2 * x / top - 1).abs() ** ctx.beta)
        inside = (x >= 0) & (x <= top)
        return torch.where(inside, grad_output, grad_output * decay), None, None
