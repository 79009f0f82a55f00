# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The selective scan in operations of torch, with a derivative that does not keep all states.

A sequence is gone through in chunks. Forward, the states at the beginnings of chunks are kept, and
backward, those of one chunk at a time are computed again from them; and so are steps that are
projected from few values.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["ChunkedScan"]

# Positions. What is computed for a chunk should stay in the cache.
_CHUNK = 64
# As in torch.nn.functional.softplus.
_THRESHOLD = 20


class ChunkedScan(torch.autograd.Function):
    """The definition of :func:`~compressai.layers.ssm.selective_scan`, positions first.

    ``apply(u, delta, A, B, C, D, delta_bias, delta_softplus, weight)``, all tensors of one floating
    type: ``u`` and ``delta`` ``(L, N, G, W)``, ``A`` ``(G, W, S)``, ``B`` and ``C``
    ``(L, N, G, S)``, ``D`` and ``delta_bias`` ``(G, W)`` or None. With a ``weight`` ``(W, R)``,
    ``delta`` is ``(L, N, G, R)``, and a linear layer makes steps of it. Result ``(L, N, G, W)``; it
    can be differentiated once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        delta_softplus: bool,
        weight: Tensor | None = None,
    ) -> Tensor:
        steps = delta if weight is None else F.linear(delta, weight)
        state = u.new_zeros((*u.shape[1:], A.size(-1)))
        y, begins = torch.empty_like(u), []
        keep = any(ctx.needs_input_grad)
        for at in _chunks(len(u)):
            if keep:
                begins.append(state)
            _, step, decay = _decay(steps[at], A, delta_bias, delta_softplus)
            states = _states(decay, step * u[at], B[at], state)
            y[at] = (states @ C[at][..., None]).squeeze(-1)
            # A view would keep the whole chunk.
            state = states[-1].clone()
        if keep:
            begun = torch.stack(begins) if begins else state[None]
            ctx.save_for_backward(u, delta, A, B, C, D, delta_bias, weight, begun)
            ctx.delta_softplus = delta_softplus
        return y if D is None else y.addcmul_(D, u)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, delta_bias, weight, begins = ctx.saved_tensors
        steps = delta if weight is None else F.linear(delta, weight)
        grad_u, grad_steps, grad_B, grad_C = map(torch.empty_like, (u, steps, B, C))
        grad_A = torch.zeros_like(A)
        # What the loss changes by with the state before the chunk that was done last.
        carried = torch.zeros_like(begins[0])
        for at, state in zip(reversed(list(_chunks(len(u)))), begins.flip(0)):
            raw, step, decay = _decay(steps[at], A, delta_bias, ctx.delta_softplus)
            values, g = u[at], grad[at]
            states = _states(decay, step * values, B[at], state)
            grad_C[at] = (g[..., None, :] @ states).squeeze(-2)
            # What it changes by with each state.
            slopes = g[..., None] * C[at][..., None, :]
            for a, slope in zip(reversed(decay.unbind()), reversed(slopes.unbind())):
                carried = torch.mul(a, slope.add_(carried))
            grad_B[at] = ((step * values)[..., None, :] @ slopes).squeeze(-2)
            driven = (slopes @ B[at][..., None]).squeeze(-1)
            grad_u[at] = step * driven
            # From here on, what it changes by with the exponents.
            slopes.mul_(decay)
            slopes[1:].mul_(states[:-1])
            slopes[0].mul_(state)
            grad_A += torch.einsum("tngws,tngw->gws", slopes, step)
            grad_step = values * driven + (slopes * A).sum(-1)
            if ctx.delta_softplus:
                grad_step *= torch.where(raw > _THRESHOLD, 1, torch.sigmoid(raw))
            grad_steps[at] = grad_step
        grad_D = grad_bias = None
        if D is not None:
            grad_u.addcmul_(D, grad)
            grad_D = (grad * u).sum((0, 1))
        if delta_bias is not None:
            grad_bias = grad_steps.sum((0, 1))
        grad_delta, grad_weight = grad_steps, None
        if weight is not None:
            grad_delta = grad_steps @ weight
            grad_weight = grad_steps.flatten(0, 2).T @ delta.flatten(0, 2)
        return grad_u, grad_delta, grad_A, grad_B, grad_C, grad_D, grad_bias, None, grad_weight


def _chunks(length: int) -> Iterator[slice]:
    return (slice(first, first + _CHUNK) for first in range(0, length, _CHUNK))


def _decay(
    delta: Tensor, A: Tensor, delta_bias: Tensor | None, delta_softplus: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps before and behind softplus, and by what factor states decay in them."""
    raw = delta if delta_bias is None else delta + delta_bias
    step = F.softplus(raw) if delta_softplus else raw
    return raw, step, (step[..., None] * A).exp_()


def _states(decay: Tensor, inputs: Tensor, B: Tensor, state: Tensor) -> Tensor:
    """The states of a chunk, ``(T, N, G, W, S)``, given that before it."""
    states = inputs[..., None] * B[..., None, :]
    for a, x in zip(decay.unbind(), states.unbind()):
        state = torch.addcmul(x, a, state, out=x)
    return states
