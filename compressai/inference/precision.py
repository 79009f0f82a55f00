# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which precision pays on which device."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["PRECISIONS", "choose_precision", "has_native_bfloat16", "name_precision"]

PRECISIONS = ("auto", "bf16", "fp32")


def has_native_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether a device multiplies matrices of bfloat16 faster than those of float32.

    Args:
        device: a processor counts if it has AMX tiles, a CUDA device if torch says so.

    Returns:
        ``False`` for all other devices. AVX512-bf16 alone does not count: it has the instructions,
        but networks in bfloat16 take longer there than the float32 kernels of this library.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if not hasattr(torch.cpu, "get_capabilities"):
        # torch 2.10 tells it by this name only. No processor has tiles without bfloat16.
        return torch.cpu._is_amx_tile_supported()
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def choose_precision(precision: str, device: torch.device | str = "cpu") -> torch.dtype:
    """The type that transforms compute in.

    Args:
        precision: ``"bf16"``, ``"fp32"``, or ``"auto"`` for the former where
            :func:`has_native_bfloat16`.
        device: where they run.

    Returns:
        ``torch.bfloat16`` or ``torch.float32``.

    Raises:
        ValueError: unknown ``precision``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}, got precision={precision!r}")
    if precision == "auto":
        precision = "bf16" if has_native_bfloat16(device) else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def name_precision(net: nn.Module) -> str:
    """What the transforms of a model compute in: ``"bf16"`` or ``"fp32"``.

    Args:
        net: a model, as it is or prepared.
    """
    preparation = vars(net).get("preparation")
    bf16 = preparation is not None and preparation.dtype == torch.bfloat16
    return "bf16" if bf16 else "fp32"
