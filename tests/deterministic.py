# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Weights and inputs by formula, as the conformance vectors in ``tests/tables`` define them."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["fill_module", "hashed"]


def hashed(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in [-0.5, 0.5) from a 32-bit hash of the name and the flat index."""
    count = int(np.prod(shape, dtype=np.int64))
    index = np.arange(count, dtype=np.uint64)
    mask = np.uint64(0xFFFFFFFF)
    u = (np.uint64(zlib.crc32(name.encode())) + np.uint64(2654435761) * index) & mask
    u ^= u >> np.uint64(16)
    u = (u * np.uint64(0x7FEB352D)) & mask
    u ^= u >> np.uint64(15)
    u = (u * np.uint64(0x846CA68B)) & mask
    u ^= u >> np.uint64(16)
    return ((u >> np.uint64(8)).astype(np.float64) / 2**24 - 0.5).reshape(shape)


def _value(key: str, name: str, parameter: Tensor, gain: float) -> np.ndarray | None:
    shape = tuple(parameter.shape)
    parts = name.split(".")
    bottleneck = any(p in ("matrices",) or p.startswith("_matrix") for p in parts)
    if parts[-1] in ("quantiles", "Gain") or bottleneck:
        return None
    r = hashed(key, shape)
    if any(p in ("biases", "factors") or p.startswith(("_bias", "_factor")) for p in parts):
        return r
    if parts[-1] == "beta":
        return 1 + 0.4 * r
    if parts[-1] == "gamma":
        return 0.3 * np.eye(shape[0]) + 0.1 * (r + 0.5)
    if len(shape) == 1:
        return 0.4 * r
    fan = np.prod(shape[1:])
    return r * (2 * np.sqrt(3 / fan) * gain)


def fill_module(module: nn.Module, salt: str, gain: float = 1.5) -> None:
    """Overwrite all parameters but quantiles, gains and bottleneck matrices."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            value = _value(salt + name, name, parameter, gain)
            if value is not None:
                parameter.copy_(torch.from_numpy(value.astype(np.float32)))
