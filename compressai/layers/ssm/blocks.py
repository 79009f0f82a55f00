# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Blocks around the selective scan of a map, as in VMamba."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from compressai.layers._timm import make_drop_path
from compressai.layers.attn.blocks import apply_channels_last
from compressai.layers.ssm.ssm_ops import BACKENDS, cross_selective_scan

__all__ = ["SS2D", "VSSBlock"]

_DIRECTIONS = 4
_FORWARD_TYPES = ("v1", "v2", "v3", "v4")
_FINE_NORM = partial(nn.LayerNorm, eps=1e-6)


class SS2D(nn.Module):
    """Selective scan of a map in four directions, behind a depthwise convolution and gated.

    ``out_proj(out_norm(scan(act(conv2d(v)))) * act(z))`` with ``[v | z] = in_proj(x)``. The scan
    and the normalisation are computed in float32 at least.

    Args:
        d_model: channels.
        d_state: states of each inner channel in each direction.
        ssm_ratio: inner channels over ``d_model``.
        dt_rank: number of values that the steps of all channels are made of; ``"auto"`` takes a
            16th of ``d_model``, rounded up.
        act_layer: builds the activation.
        d_conv: side of the depthwise kernel; 1 or less leaves the convolution out.
        conv_bias: whether the convolution has biases.
        dropout: rate behind the last layer, in training.
        bias: whether ``in_proj`` and ``out_proj`` have biases.
        dt_min, dt_max, dt_init_floor: steps that the initial biases stand for are log-uniform
            between the first two, and not below the third.
        dt_init: ``"random"`` or ``"constant"``, initial weights of the steps.
        dt_scale: their magnitude times the square root of the rank.
        initialize: ``"v0"``.
        forward_type: ``"v1"`` to ``"v4"``, names of the same function in the authors' program.
        scan_backend: as in :func:`~compressai.layers.ssm.selective_scan`.

    Shape: ``(N, H, W, d_model)``, input and output alike.

    Raises:
        ValueError: unknown ``dt_init``, ``initialize``, ``forward_type`` or ``scan_backend``.

    Source: Liu et al. 2024, "VMamba: visual state space model".
    """

    def __init__(
        self,
        d_model: int = 96,
        d_state: int = 16,
        ssm_ratio: float = 2.0,
        dt_rank: int | str = "auto",
        act_layer: Callable[[], nn.Module] = nn.SiLU,
        d_conv: int = 3,
        conv_bias: bool = True,
        dropout: float = 0.0,
        bias: bool = False,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        initialize: str = "v0",
        forward_type: str = "v2",
        scan_backend: str = "auto",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("dt_init", dt_init, ("random", "constant")),
            ("initialize", initialize, ("v0",)),
            ("forward_type", forward_type, _FORWARD_TYPES),
            ("scan_backend", scan_backend, BACKENDS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        inner = int(ssm_ratio * d_model)
        rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.scan_backend = scan_backend
        self.in_proj = nn.Linear(d_model, 2 * inner, bias=bias)
        self.act = act_layer()
        self.conv2d = (
            nn.Conv2d(inner, inner, d_conv, padding=(d_conv - 1) // 2, groups=inner, bias=conv_bias)
            if d_conv > 1
            else None
        )
        bound = inner**-0.5
        self.x_proj_weight = nn.Parameter(
            torch.empty(_DIRECTIONS, rank + 2 * d_state, inner).uniform_(-bound, bound)
        )
        weights = torch.full((_DIRECTIONS, inner, rank), dt_scale * rank**-0.5)
        if dt_init == "random":
            weights *= torch.empty_like(weights).uniform_(-1, 1)
        self.dt_projs_weight = nn.Parameter(weights)
        steps = torch.empty(_DIRECTIONS, inner).uniform_(math.log(dt_min), math.log(dt_max))
        steps = steps.exp().clamp(min=dt_init_floor)
        # Softplus of it is `steps`.
        self.dt_projs_bias = nn.Parameter(steps + torch.log(-torch.expm1(-steps)))
        rates = torch.arange(1, d_state + 1, dtype=torch.float32).log()
        self.A_logs = nn.Parameter(rates.repeat(_DIRECTIONS * inner, 1))
        self.Ds = nn.Parameter(torch.ones(_DIRECTIONS * inner))
        for parameter in (self.A_logs, self.Ds):
            parameter._no_weight_decay = True
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, d_model, bias=bias)
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        v, z = self.in_proj(x).chunk(2, dim=-1)
        v = v.permute(0, 3, 1, 2)
        if self.conv2d is not None:
            v = self.conv2d(v)
        merged = cross_selective_scan(
            self.act(v),
            self.x_proj_weight,
            None,
            self.dt_projs_weight,
            self.dt_projs_bias,
            self.A_logs,
            self.Ds,
            to_dtype=False,
            scan_backend=self.scan_backend,
        )
        norm = self.out_norm
        weight, bias = norm.weight.to(merged.dtype), norm.bias.to(merged.dtype)
        merged = F.layer_norm(merged, norm.normalized_shape, weight, bias, norm.eps)
        return self.dropout(self.out_proj(merged.to(v.dtype) * self.act(z)))


class VSSBlock(nn.Module):
    """Residual block of a normalisation and :class:`SS2D`.

    ``x + op(norm(x))``, or ``x + norm(op(x))`` with ``post_norm``.

    Args:
        hidden_dim: channels.
        drop_path: rate of stochastic depth, in training.
        norm_layer: from the number of channels to a normalisation over the last axis.
        use_checkpoint: in training, compute the block again instead of keeping what is inside.
        post_norm: see above.
        ss2d: arguments of :class:`SS2D`.

    Shape: ``(N, C, H, W)``, input and output alike.

    Raises:
        ImportError: ``drop_path`` above 0 and timm is not installed.

    Source: Liu et al. 2024, "VMamba: visual state space model".
    """

    def __init__(
        self,
        hidden_dim: int,
        drop_path: float = 0.0,
        norm_layer: Callable[[int], nn.Module] = _FINE_NORM,
        use_checkpoint: bool = False,
        post_norm: bool = False,
        **ss2d: Any,
    ) -> None:
        super().__init__()
        self.norm = norm_layer(hidden_dim)
        self.op = SS2D(hidden_dim, **ss2d)
        self.drop_path = make_drop_path(drop_path)
        self.use_checkpoint = bool(use_checkpoint)
        self.post_norm = bool(post_norm)

    def forward(self, x: Tensor) -> Tensor:
        return apply_channels_last(self._with_skip, x)

    def _with_skip(self, x: Tensor) -> Tensor:
        if self.use_checkpoint and torch.is_grad_enabled():
            return x + self.drop_path(checkpoint(self._branch, x, use_reentrant=False))
        return x + self.drop_path(self._branch(x))

    def _branch(self, x: Tensor) -> Tensor:
        return self.norm(self.op(x)) if self.post_norm else self.op(self.norm(x))
