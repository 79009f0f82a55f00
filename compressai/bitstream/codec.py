# SPDX-License-Identifier: BSD-3-Clause-Clear
"""From a picture to a coded picture and back, with any image model of the zoo."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.bitstream.container import CodedPicture
from compressai.bitstream.errors import DamagedFileError, WrongWeightsError
from compressai.bitstream.picture import Picture

__all__ = ["PADDING_MULTIPLE", "decode_picture", "encode_picture", "fingerprint", "pad_to_multiple"]

# Pictures are padded to a multiple of this unless the model knows better.
PADDING_MULTIPLE = 64
# Only the encoder uses these; weights that differ here decode the same files.
_ENCODER_ONLY = frozenset({"g_a", "h_a"})


def fingerprint(net: nn.Module) -> bytes:
    """Identify the weights and tables that a decoder uses.

    Args:
        net: a model with tables.

    Returns:
        The first 8 bytes of a SHA-256; encoder-only transforms (``g_a``, ``h_a``) do not count.
    """
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        if _ENCODER_ONLY.isdisjoint(name.split(".")):
            array = value.detach().cpu().contiguous().view(torch.uint8).reshape(-1)
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(memoryview(array.numpy()))
    return digest.digest()[:8]


def padding_multiple(net: nn.Module) -> int:
    """What the sides of a model's input must be multiples of."""
    return int(getattr(net, "downsampling_factor", PADDING_MULTIPLE))


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until the sides are multiples.

    Args:
        x: ``(N, C, H, W)``.
        multiple: what the new sides are multiples of.

    Returns:
        ``(N, C, H', W')``, the picture in the upper left corner.
    """
    bottom, right = (-x.size(2) % multiple, -x.size(3) % multiple)
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def encode_picture(
    net: nn.Module,
    picture: Picture,
    *,
    model: str,
    quality: int | None = None,
    metric: str | None = None,
    random_weights: bool = False,
) -> CodedPicture:
    """Code a picture.

    Args:
        net: the model.
        picture: what to code.
        model, quality, metric, random_weights: what the file says about the weights, see
            :class:`CodedPicture`.

    Returns:
        The coded picture.

    Raises:
        ValueError: the picture has no pixels, or the network gives values that are not finite.
    """
    width, height = picture.size
    if not width or not height:
        raise ValueError(f"the picture must have pixels, got {width} x {height}")
    device = next(net.parameters()).device
    x = pad_to_multiple(picture.pixels[None], padding_multiple(net)).to(device)
    out = net.compress(x)
    return CodedPicture(
        model=model,
        quality=quality,
        metric=metric,
        random_weights=random_weights,
        fingerprint=fingerprint(net),
        width=width,
        height=height,
        mode=picture.mode,
        shape=_plain(out["shape"]),
        strings=tuple(step[0] for step in out["strings"]),
        alpha=picture.alpha_png(),
    )


def decode_picture(net: nn.Module, coded: CodedPicture) -> Picture:
    """Decode a picture.

    Args:
        net: the model that coded it, with the same weights.
        coded: the coded picture.

    Returns:
        The picture.

    Raises:
        WrongWeightsError: ``net`` has other weights.
        DamagedFileError: the strings cannot be decoded.
    """
    if not net.has_tables:
        net.update()
    if fingerprint(net) != coded.fingerprint:
        raise WrongWeightsError(
            f"the file was made with other weights of {coded.model} than those at hand "
            f"(fingerprints {coded.fingerprint.hex()} and {fingerprint(net).hex()}); name the "
            "checkpoint it was made with"
        )
    try:
        out = net.decompress([[string] for string in coded.strings], coded.shape)
    except (ValueError, TypeError, KeyError, IndexError, AssertionError, RuntimeError) as error:
        raise DamagedFileError(f"the coded picture is damaged: {error}") from error
    x_hat = out["x_hat"][0]
    if x_hat.size(1) < coded.height or x_hat.size(2) < coded.width:
        raise DamagedFileError(
            f"the latent is too small for a picture of {coded.width} x {coded.height}"
        )
    pixels = x_hat[:, : coded.height, : coded.width].cpu()
    return Picture.from_decoded(pixels, coded.mode, coded.alpha)


def _plain(shape: Any) -> Any:
    """Nested sizes as plain dicts, lists and tuples."""
    if isinstance(shape, Mapping):
        return {key: _plain(value) for key, value in shape.items()}
    if all(isinstance(item, int) for item in shape):
        return tuple(int(item) for item in shape)
    return [_plain(item) for item in shape]
