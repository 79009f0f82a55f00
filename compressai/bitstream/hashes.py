# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The two hashes that a file holds: of the weights that decode it, and of what it decodes to; and
one of all weights, which no file holds."""

from __future__ import annotations

import hashlib

import torch
import torch.nn as nn
from torch import Tensor

__all__ = ["fingerprint", "hash_latent", "hash_weights"]

# Only the encoder, or only training, uses these; weights that differ here decode the same files.
_NOT_DECODING = frozenset({"g_a", "h_a", "aux_entropy_model"})
_SYNTHESIS = "g_s"


def fingerprint(net: nn.Module, version: int = 2) -> bytes:
    """Identify the weights and tables that a decoder uses.

    The first 8 bytes of the SHA-256 over the entries of the state dict, sorted by name, without
    those that have ``g_a``, ``h_a`` or ``aux_entropy_model`` as a part of their name. Each entry
    counts as the UTF-8 text ``"{name} {dtype} {shape}\\n"`` (such as
    ``h_s.0.bias torch.float32 (192,)``) followed by its values, row by row, little-endian. Before
    that, floating-point values become float32, and those with ``g_s`` as a part of their name
    bfloat16: a net prepared for speed, with a synthesis transform of less precision or another
    memory layout, still decodes the same latent and is the same net. This is part of the file
    format. (Version 1 takes all values as they are.)

    It tells weights apart, not architectures: those are told by name. It detects mistakes, not
    malice. Hashing takes a few percent of the time of decoding one photo.

    Args:
        net: a model with tables.
        version: of the file format, 1 or 2.

    Returns:
        8 bytes.

    Raises:
        ValueError: there is no such version.
    """
    if version not in (1, 2):
        raise ValueError(f"version must be 1 or 2, got {version}")
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        parts = name.split(".")
        if _NOT_DECODING.isdisjoint(parts):
            if version > 1 and value.is_floating_point():
                value = value.to(torch.bfloat16 if _SYNTHESIS in parts else torch.float32)
            _add_entry(digest, name, value)
    return digest.digest()[:8]


def hash_weights(net: nn.Module) -> bytes:
    """Identify all weights and tables, those too that only the encoder uses.

    Args:
        net: a model.

    Returns:
        The 32 bytes of the SHA-256 over the entries of the state dict, as they are, sorted by name.
    """
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        _add_entry(digest, name, value)
    return digest.digest()


def hash_latent(y_hat: Tensor) -> bytes:
    """Identify a decoded latent, to the bit.

    The first 8 bytes of the SHA-256 over the values as float32, row by row, little-endian, with
    0 for -0. This is part of the file format.

    Args:
        y_hat: any shape.

    Returns:
        8 bytes.
    """
    digest = hashlib.sha256()
    _add_values(digest, y_hat.detach().to(torch.float32) + 0.0)
    return digest.digest()[:8]


def _add_entry(digest: hashlib._Hash, name: str, value: Tensor) -> None:
    digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
    _add_values(digest, value)


def _add_values(digest: hashlib._Hash, value: Tensor) -> None:
    values = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(memoryview(values.numpy()))
