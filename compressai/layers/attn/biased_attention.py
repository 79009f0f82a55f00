# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Softmax attention with an additive bias, through torch's fused kernels.

What this file adds to :func:`torch.nn.functional.scaled_dot_product_attention`: on a CPU torch
falls back to a slower, differently rounding kernel as soon as the bias wants a gradient. A model in
eval mode would then decode other bits under ``torch.no_grad()`` than ``forward`` gives without.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["biased_attention"]


class _CPUBiasedAttention(torch.autograd.Function):
    """Fused attention forwards; backwards the weights are computed again instead of stored."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float) -> Tensor:
        # detach: torch looks at requires_grad of the bias when it chooses the kernel.
        return F.scaled_dot_product_attention(
            q.detach(), k.detach(), v.detach(), attn_mask=bias.detach(), scale=scale
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.scale = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        wide = torch.promote_types(inputs[0].dtype, torch.float32)
        q, k, v, bias = (tensor.to(wide) for tensor in inputs)
        grad = grad_output.to(wide)

        weights = torch.softmax(q @ k.mT * ctx.scale + bias, dim=-1)
        grad_weights = grad @ v.mT
        centred = grad_weights - (grad_weights * weights).sum(-1, keepdim=True)
        grad_logits = weights * centred
        grads = (
            grad_logits @ k * ctx.scale,
            grad_logits.mT @ q * ctx.scale,
            weights.mT @ grad,
            grad_logits.sum_to_size(bias.shape),
        )
        return *(g.to(tensor.dtype) for g, tensor in zip(grads, inputs)), None


def biased_attention(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, *, scale: float, dropout: float = 0.0
) -> Tensor:
    """Return ``softmax(scale * q kᵀ + bias) v``.

    The result does not depend on whether gradients are recorded, nor on the number of threads.

    Args:
        q: queries, ``(B, heads, L, D)``.
        k: keys, ``(B, heads, L, D)``.
        v: values, ``(B, heads, L, D)``.
        bias: added to the logits, broadcastable to ``(B, heads, L, L)``; converted to the dtype of
            ``q``.
        scale: factor of the dot products.
        dropout: probability that an attention weight is zeroed; pass 0 outside training.

    Returns:
        ``(B, heads, L, D)``.
    """
    bias = bias.to(q.dtype)
    if q.device.type == "cpu" and dropout == 0:
        return _CPUBiasedAttention.apply(q, k, v, bias, scale)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
