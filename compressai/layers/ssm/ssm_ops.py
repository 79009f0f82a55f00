# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The selective scan, the four directions of a map, and what computes the scan where.

On the CPU, inference runs on the native kernel where the processor has one
(:func:`compressai._kernels.selective_scan`). On CUDA, the package ``mamba_ssm`` computes scans if
it is installed. All else, and all training on the CPU, is :mod:`compressai.layers.ssm.chunked`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from compressai import _kernels
from compressai.layers.ssm.chunked import ChunkedScan

__all__ = [
    "BACKENDS",
    "cross_merge",
    "cross_scan",
    "cross_selective_scan",
    "get_selective_scan_backend",
    "is_mamba_ssm_available",
    "is_selective_scan_cuda_available",
    "selective_scan",
    "selective_scan_ref",
]

BACKENDS = ("auto", "native", "mamba_ssm", "cuda", "torch")
"""What may compute a scan; ``"cuda"`` is the kernel of ``mamba_ssm``."""

_DIRECTIONS = 4


def is_mamba_ssm_available() -> bool:
    """Whether the package ``mamba_ssm`` is installed; it is not imported."""
    return find_spec("mamba_ssm") is not None


def is_selective_scan_cuda_available() -> bool:
    """Whether the compiled kernel of ``mamba_ssm`` is installed; it is not imported."""
    return find_spec("selective_scan_cuda") is not None


def get_selective_scan_backend(device: torch.device | str = "cuda") -> str:
    """What ``backend="auto"`` stands for on a device, without gradients and in float32.

    Args:
        device: where the tensors are.

    Returns:
        ``"native"``, ``"mamba_ssm"`` or ``"torch"``. It depends on the processor and on installed
        packages, on nothing else: encoder and decoder need the same one.
    """
    kind = torch.device(device).type
    if kind == "cpu" and _kernels.available():
        return "native"
    return "mamba_ssm" if kind == "cuda" and is_mamba_ssm_available() else "torch"


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    backend: str = "auto",
) -> Tensor:
    """A linear recurrence whose coefficients depend on its input.

    For each item, channel c of group g and position t, in float32 (float64 if ``u`` is)::

        step_t = softplus(delta[c, t] + delta_bias[c])
        h_t[n] = exp(step_t * A[c, n]) * h_{t-1}[n] + step_t * u[c, t] * B[g, n, t]
        y_t    = sum over n of h_t[n] * C[g, n, t] + D[c] * u[c, t]

    Args:
        u: input ``(N, G * W, L)``; channel c belongs to group ``c // W``.
        delta: steps ``(N, G * W, L)`` before bias and softplus.
        A: rates ``(G * W, S)``, none positive.
        B: ``(N, G, S, L)``, or ``(N, S, L)`` for one group.
        C: as ``B``.
        D: ``(G * W,)`` or None for zeros.
        delta_bias: ``(G * W,)`` or None for zeros.
        delta_softplus: False takes ``delta + delta_bias`` as steps.
        backend: one of :data:`BACKENDS`. ``"native"`` and ``"mamba_ssm"`` are for softplus,
            ``"native"`` is for float32 on the CPU without gradients; ``"auto"`` takes ``"torch"``
            where the fast ones are not for it.

    Returns:
        ``(N, G * W, L)`` in the type of ``u``.

    Raises:
        ValueError: unknown ``backend``, one that cannot compute this, or shapes that do not fit.

    Source: Gu and Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces".
    """
    B, C = (t[:, None] if t.dim() == 3 else t for t in (B, C))
    groups = _check_shapes(u, delta, A, B, C, D, delta_bias)
    dtype = _scan_dtype(u)

    def first(t: Tensor) -> Tensor:
        return t.to(dtype).permute(2, 0, 1).unflatten(-1, (groups, -1))

    def grouped(t: Tensor | None) -> Tensor | None:
        return None if t is None else t.to(dtype).unflatten(0, (groups, -1))

    b, c = (t.to(dtype).permute(3, 0, 1, 2) for t in (B, C))
    rest = grouped(D), grouped(delta_bias), delta_softplus, backend
    with _without_autocast(u):
        y = _scan(first(u), first(delta), grouped(A), b, c, *rest)
    return y.flatten(2).permute(1, 2, 0).to(u.dtype)


def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """The definition of :func:`selective_scan` step by step, for tests of faster ones."""
    B, C = (t[:, None] if t.dim() == 3 else t for t in (B, C))
    width = u.size(1) // _check_shapes(u, delta, A, B, C, D, delta_bias)
    dtype = _scan_dtype(u)
    x, step, A = u.to(dtype), delta.to(dtype), A.to(dtype)
    B, C = (t.to(dtype).repeat_interleave(width, dim=1) for t in (B, C))
    if delta_bias is not None:
        step = step + delta_bias.to(dtype)[:, None]
    step = F.softplus(step) if delta_softplus else step
    state = x.new_zeros((*x.shape[:2], A.size(1)))
    ys = []
    for t in range(x.size(2)):
        decay = torch.exp(step[..., t, None] * A)
        state = decay * state + (step[..., t] * x[..., t])[..., None] * B[..., t]
        ys.append((state * C[..., t]).sum(-1))
    y = torch.stack(ys, dim=-1) if ys else torch.zeros_like(x)
    return (y if D is None else y + D.to(dtype)[:, None] * x).to(u.dtype)


def cross_scan(x: Tensor) -> Tensor:
    """A map as sequences: row by row, column by column, and both backwards.

    Args:
        x: ``(N, C, H, W)``.

    Returns:
        ``(N, 4, C, H * W)``.

    Source: Liu et al. 2024, "VMamba: visual state space model".
    """
    forwards = torch.stack((x.flatten(2), x.transpose(2, 3).flatten(2)), dim=1)
    return torch.cat((forwards, forwards.flip(-1)), dim=1)


def cross_merge(ys: Tensor) -> Tensor:
    """Add up sequences of :func:`cross_scan` at the places that they were read from.

    Args:
        ys: ``(N, 4, C, H, W)``: each sequence of ``H * W`` values, cut into pieces of ``W``.

    Returns:
        ``(N, C, H * W)``, row by row.

    Raises:
        ValueError: other than four directions.
    """
    if ys.dim() != 5 or ys.size(1) != _DIRECTIONS:
        raise ValueError(f"ys must be (N, 4, C, H, W), got {tuple(ys.shape)}")
    height, width = ys.shape[-2:]
    sequences = ys.flatten(-2)
    rows, columns = (sequences[:, k] + sequences[:, k + 2].flip(-1) for k in (0, 1))
    return rows + columns.unflatten(-1, (width, height)).transpose(-1, -2).flatten(-2)


def cross_selective_scan(
    x: Tensor,
    x_proj_weight: Tensor,
    x_proj_bias: Tensor | None,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A_logs: Tensor,
    Ds: Tensor,
    delta_softplus: bool = True,
    out_norm: Callable[[Tensor], Tensor] | None = None,
    out_norm_shape: str = "v0",
    to_dtype: bool = True,
    force_fp32: bool = False,
    scan_backend: str = "auto",
) -> Tensor:
    """Scan a map in four directions with coefficients that are projected from it, and add up.

    ``cross_merge(selective_scan(cross_scan(x), ...))``, one direction after the other, so that no
    more than one is in memory.

    Args:
        x: ``(N, D, H, W)``.
        x_proj_weight: ``(4, R + 2 S, D)``, to R values that steps are made of, S of B and S of C.
        x_proj_bias: ``(4, R + 2 S)`` or None.
        dt_projs_weight: ``(4, D, R)``.
        dt_projs_bias: ``(4, D)``.
        A_logs: ``(4 * D, S)``, logarithms of ``-A``, direction by direction.
        Ds: ``(4 * D,)``.
        delta_softplus: whether steps are the softplus of what is projected.
        out_norm: network applied to the sum; ``None`` is the identity.
        out_norm_shape: what ``out_norm`` takes: ``"v0"``, ``(N, H * W, D)``, or ``"v1"``,
            ``(N, D, H, W)``.
        to_dtype: give the type of ``x``, in place of that of the scan.
        force_fp32: changes nothing: scans of types smaller than float32 are always in float32.
        scan_backend: as ``backend`` of :func:`selective_scan`.

    Returns:
        ``(N, H, W, D)``.

    Raises:
        ValueError: as :func:`selective_scan`; another ``out_norm_shape``.
    """
    if out_norm_shape not in ("v0", "v1"):
        raise ValueError(f"out_norm_shape must be 'v0' or 'v1', got {out_norm_shape!r}")
    projections = (x_proj_weight, x_proj_bias, dt_projs_weight, dt_projs_bias, A_logs, Ds)
    merged = _scan_and_merge(x, projections, delta_softplus, scan_backend)
    if out_norm is not None and out_norm_shape == "v0":
        merged = out_norm(merged.flatten(1, 2)).unflatten(1, merged.shape[1:3])
    elif out_norm is not None:
        merged = out_norm(merged.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return merged.to(x.dtype) if to_dtype else merged


def _scan_and_merge(
    x: Tensor, projections: Sequence[Tensor | None], softplus: bool, backend: str
) -> Tensor:
    """``(N, H, W, D)`` in float32, or float64 if ``x`` is; see :func:`cross_selective_scan`."""
    x_proj_weight, x_proj_bias, dt_projs_weight, dt_projs_bias, A_logs, Ds = projections
    dtype = _scan_dtype(x)
    rank, states = dt_projs_weight.size(-1), A_logs.size(-1)
    with _without_autocast(x):
        last = x.to(dtype).permute(0, 2, 3, 1)
        weight, weights = x_proj_weight.to(dtype), dt_projs_weight.to(dtype)
        bias = None if x_proj_bias is None else x_proj_bias.to(dtype).flatten()
        params = F.linear(last, weight.flatten(0, 1), bias).unflatten(-1, (_DIRECTIONS, -1))
        decay = -A_logs.to(dtype).exp().unflatten(0, (_DIRECTIONS, -1))
        skip, dt_bias = Ds.to(dtype).unflatten(0, (_DIRECTIONS, -1)), dt_projs_bias.to(dtype)
        if _resolve(backend, softplus, last, params, weights, dt_bias, decay, skip) == "native":
            return _native(last, params, weights, dt_bias, decay, skip)
        merged: list[Tensor] = []
        for k in range(_DIRECTIONS):
            step, b, c = _read(params[..., k, :], k).split((rank, states, states), dim=-1)
            y = _scan(
                _read(last, k)[..., None, :],
                step[..., None, :],
                decay[None, k],
                b[..., None, :],
                c[..., None, :],
                skip[None, k],
                dt_bias[None, k],
                softplus,
                backend,
                weights[k],
            )
            y = _put_back(y.squeeze(2), k, last.shape)
            if k < 2:
                merged.append(y)
            else:
                merged[k - 2] = merged[k - 2] + y
        return merged[0] + merged[1]


def _read(x: Tensor, direction: int) -> Tensor:
    """A map ``(N, H, W, C)`` as the sequence ``(H * W, N, C)`` of a direction."""
    x = x.transpose(1, 2) if direction % 2 else x
    sequence = x.flatten(1, 2).transpose(0, 1)
    return sequence.flip(0) if direction >= 2 else sequence


def _put_back(y: Tensor, direction: int, size: torch.Size) -> Tensor:
    """Inverse of :func:`_read`, for a map of the given size."""
    y = y.flip(0) if direction >= 2 else y
    _, height, width, _ = size
    if direction % 2:
        return y.transpose(0, 1).unflatten(1, (width, height)).transpose(1, 2)
    return y.transpose(0, 1).unflatten(1, (height, width))


def _without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    kind = x.device.type
    known = torch.amp.is_autocast_available(kind)
    return torch.autocast(kind, enabled=False) if known else nullcontext()


def _scan_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _check_shapes(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
) -> int:
    """The number of groups."""
    if u.dim() != 3 or A.dim() != 2 or B.dim() != 4:
        raise ValueError(
            "u must have 3 dimensions, A 2, B and C 3 or 4, got "
            f"{u.dim()}, {A.dim()}, {B.dim()} and {C.dim()}"
        )
    items, channels, length = u.shape
    groups, states = B.size(1), A.size(1)
    if groups < 1 or channels % groups:
        raise ValueError(f"u must have a multiple of {groups} channels, one a group of B, got "
                         f"{channels}")  # fmt: skip
    for name, value, shape in (
        ("delta", delta, (items, channels, length)),
        ("A", A, (channels, states)),
        ("B", B, (items, groups, states, length)),
        ("C", C, (items, groups, states, length)),
        ("D", D, (channels,)),
        ("delta_bias", delta_bias, (channels,)),
    ):
        if value is not None and tuple(value.shape) != shape:
            raise ValueError(f"{name} must be {shape}, got {tuple(value.shape)}")
    return groups


def _resolve(backend: str, softplus: bool, *tensors: Tensor | None) -> str:
    """What is to compute a scan of these tensors."""
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    given = [t for t in tensors if t is not None]
    gradients = torch.is_grad_enabled() and any(t.requires_grad for t in given)
    x = given[0]
    single = softplus and x.dtype == torch.float32
    fits = {
        "native": single and not gradients and x.device.type == "cpu" and _kernels.available(),
        "mamba_ssm": single and x.is_cuda and is_mamba_ssm_available(),
        "torch": True,
    }
    wanted = "mamba_ssm" if backend == "cuda" else backend
    if wanted == "auto":
        return next(name for name, possible in fits.items() if possible)
    if not fits[wanted]:
        raise ValueError(
            f"backend {backend!r} cannot compute this: it is for float32 with softplus, "
            + (
                "on the CPU, without gradients, and for x86 processors with AVX2"
                if wanted == "native"
                else "on CUDA, and needs the package mamba_ssm"
            )
        )
    return wanted


def _scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    backend: str,
    weight: Tensor | None = None,
) -> Tensor:
    """A scan, in the layout and with the ``weight`` of :class:`ChunkedScan`."""
    backend = _resolve(backend, delta_softplus, u, delta, A, B, C, D, delta_bias, weight)
    if backend == "torch" and not u.is_meta:
        return ChunkedScan.apply(u, delta, A, B, C, D, delta_bias, delta_softplus, weight)
    if weight is not None:
        delta = F.linear(delta, weight)
    if u.is_meta:  # which has shapes, and nothing to go through
        return torch.empty_like(u)
    skip = torch.zeros_like(A[..., 0]) if D is None else D
    bias = torch.zeros_like(A[..., 0]) if delta_bias is None else delta_bias
    if backend == "mamba_ssm":
        return _mamba_ssm(u, delta, A, B, C, skip, bias)
    ys = []
    for g in range(u.size(2)):
        params = torch.cat([t[:, :, g] for t in (delta, B, C)], dim=-1)
        x, params = (t.transpose(0, 1)[:, None] for t in (u[:, :, g], params[:, :, None]))
        y = _native(x, params, None, bias[None, g], A[None, g], skip[None, g])
        ys.append(y[:, 0].transpose(0, 1))
    return torch.stack(ys, dim=2)


def _native(
    x: Tensor, params: Tensor, weights: Tensor | None, bias: Tensor, decay: Tensor, skip: Tensor
) -> Tensor:
    """Scan a map on the native kernel.

    Args:
        x: ``(N, H, W, C)``.
        params: ``(N, H, W, directions, R + 2 S)``.
        weights: ``(directions, C, R)`` or None.
        bias, skip: ``(directions, C)``.
        decay: ``(directions, C, S)``.
    """
    out = torch.empty(x.shape, dtype=x.dtype)
    _kernels.selective_scan(
        x.detach().contiguous(),
        params.detach().contiguous(),
        None if weights is None else weights.detach().transpose(1, 2).contiguous(),
        bias.detach().contiguous(),
        decay.detach().transpose(1, 2).contiguous(),
        skip.detach().contiguous(),
        out,
        torch.get_num_threads(),
    )
    return out


def _mamba_ssm(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, delta_bias: Tensor
) -> Tensor:
    # The authors' kernels, which most do not have.
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u_last, delta_last = (t.flatten(2).permute(1, 2, 0).contiguous() for t in (u, delta))
    b, c = (t.permute(1, 2, 3, 0).contiguous() for t in (B, C))
    y = selective_scan_fn(
        u_last,
        delta_last,
        A.flatten(0, 1).contiguous(),
        b,
        c,
        D=D.flatten().contiguous(),
        delta_bias=delta_bias.flatten().contiguous(),
        delta_softplus=True,
    )
    return y.permute(2, 0, 1).unflatten(-1, u.shape[2:])
