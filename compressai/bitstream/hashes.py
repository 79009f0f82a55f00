# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What a file holds to check a decoder by: hashes of the weights and of the latents, sketches of
video frames; and a hash of all weights, which no file holds."""

from __future__ import annotations

import functools
import hashlib

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from compressai.bitstream._engine import hash_values
from compressai.models.base import CompressionModel

__all__ = ["fingerprint", "hash_latent", "hash_weights", "sketch_distance", "sketch_frame"]

_SYNTHESIS = "g_s"
_PROJECTIONS = 4
_SKETCH_STEP = 2.0**-12


def fingerprint(net: nn.Module, version: int = 2) -> bytes:
    """Identify the weights and tables that a decoder uses.

    The first 8 bytes of the SHA-256 over the entries of the state dict, sorted by name, without
    those that have ``g_a``, ``h_a`` or ``aux_entropy_model`` as a part of their name, or what the
    model names in ``not_decoding`` instead. Each entry
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
    not_decoding = getattr(net, "not_decoding", CompressionModel.not_decoding)
    for name, value in sorted(net.state_dict().items()):
        parts = name.split(".")
        if not_decoding.isdisjoint(parts):
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
    return hash_values(y_hat.detach().to(torch.float32).cpu().numpy())


def sketch_frame(frame: Tensor) -> bytes:
    """A few numbers of a decoded frame that tell how far another decoder's frame is from it.

    Unlike a hash, it allows for rounding: the last digits of a frame are not the same on every
    machine. Each of its four numbers is the sum of all samples, less 0.5, times signs, divided by
    the square root of their number: the square of the difference of two such sums is, on average,
    the mean squared difference of the frames, whatever that looks like (Alon, Matias and Szegedy
    1996, "The space complexity of approximating the frequency moments"). The sign of a sample is
    the product of one for its channel, one for its row and one for its column. Number ``i`` takes
    bit ``i`` of the values of a PCG64 generator of numpy, seed 0, 1 and 2 for channels, rows and
    columns; 1 stands for minus. Numbers are in units of 2**-12, rounded, limited to 16 bits, and
    little-endian. This is part of the file format.

    Args:
        frame: ``(C, H, W)`` in [0, 1].

    Returns:
        8 bytes.
    """
    x = frame.detach().float().cpu() - 0.5
    channels, rows, columns = (_signs(seed, side) for seed, side in enumerate(x.shape))
    across = (x @ columns).double()  # (C, H, 4)
    sums = (across * rows.double()).sum(1).mul(channels.double()).sum(0) / x.numel() ** 0.5
    numbers = (sums / _SKETCH_STEP).round().nan_to_num().clamp(-(2**15), 2**15 - 1)
    return numbers.numpy().astype("<i2").tobytes()


def sketch_distance(a: bytes, b: bytes) -> float:
    """About the root of the mean squared difference of two frames, from their sketches.

    Args:
        a, b: what :func:`sketch_frame` gave.
    """
    difference = np.frombuffer(a, "<i2").astype(float) - np.frombuffer(b, "<i2")
    return float(np.sqrt(np.mean(difference**2))) * _SKETCH_STEP


@functools.lru_cache(maxsize=16)
def _signs(seed: int, length: int) -> Tensor:
    """``(length, 4)``, each 1 or -1."""
    values = np.random.PCG64(seed).random_raw(length)
    bits = values[:, None] >> np.arange(_PROJECTIONS, dtype=np.uint64) & np.uint64(1)
    return torch.from_numpy(1 - 2 * bits.astype(np.float32))


def _add_entry(digest: hashlib._Hash, name: str, value: Tensor) -> None:
    digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
    _add_values(digest, value)


def _add_values(digest: hashlib._Hash, value: Tensor) -> None:
    values = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(memoryview(values.numpy()))
