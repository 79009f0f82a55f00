# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which precision pays on which device."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["PRECISIONS", "choose_precision", "has_native_bfloat16", "name_precision"]

PRECISIONS = ("auto", "bf16", "fp32")


def has_native_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether a device multiplies bfloat16 in hardware.

    Args:
        device: a processor counts if it has AMX or AVX512-bf16, a CUDA device if torch says so.

    Returns:
        ``False`` for all other kinds of devices: there bfloat16 is emulated and slower than
        float32.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    # torch before 2.10 has only these.
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, bool)() for probe in probes)


def choose_precision(precision: str, device: torch.device | str = "cpu") -> torch.dtype:
    """The type that transforms compute in.

    Args:
        precision: ``"bf16"``, ``"fp32"``, or ``"auto"`` for the former where it is native.
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
