# SPDX-License-Identifier: BSD-3-Clause-Clear
"""From a picture to a coded picture and back, with any image model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.bitstream import legacy
from compressai.bitstream.container import CodedPicture
from compressai.bitstream.errors import DamagedFileError, UnsupportedFileError, WrongWeightsError
from compressai.bitstream.legacy import LegacyPicture
from compressai.bitstream.picture import Picture, read_alpha
from compressai.entropy_models import EntropyModel
from compressai.ops import compute_padding

__all__ = [
    "MAX_PIXELS",
    "PADDING_MULTIPLE",
    "decode_picture",
    "encode_picture",
    "fingerprint",
    "pad_to_multiple",
    "padding_multiple",
]

# Pictures are padded to a multiple of this unless the model knows better.
PADDING_MULTIPLE = 64
# A file of a few bytes can ask for a picture of any size. At this one, a single activation of 192
# channels at half the size takes 26 GB.
MAX_PIXELS = 2**27
# Only the encoder, or only training, uses these; weights that differ here decode the same files.
_NOT_DECODING = frozenset({"g_a", "h_a", "aux_entropy_model"})


def fingerprint(net: nn.Module) -> bytes:
    """Identify the weights and tables that a decoder uses.

    The first 8 bytes of the SHA-256 over the entries of the state dict, sorted by name, without
    those that have ``g_a``, ``h_a`` or ``aux_entropy_model`` as a part of their name. Each entry
    counts as the UTF-8 text ``"{name} {dtype} {shape}\\n"`` (such as
    ``h_s.0.bias torch.float32 (192,)``) followed by its values in memory order, little-endian.
    This is part of the file format.

    It tells weights apart, not architectures: those are told by name. It detects mistakes, not
    malice. Hashing takes a few percent of the time of decoding one photo.

    Args:
        net: a model with tables.

    Returns:
        8 bytes.
    """
    digest = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        if _NOT_DECODING.isdisjoint(name.split(".")):
            values = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(memoryview(values.numpy()))
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
    max_pixels: int = MAX_PIXELS,
) -> CodedPicture:
    """Code a picture.

    Args:
        net: the model.
        picture: what to code.
        model, quality, metric, random_weights: what the file says about the weights, see
            :class:`CodedPicture`. For a variable-rate model, ``quality`` 1 to 8 is its level; the
            highest if ``None``.
        max_pixels: largest area, padding included, that is coded.

    Returns:
        The coded picture.

    Raises:
        ValueError: the picture has no pixels or too many, the network gives values that are not
            finite, it uses another entropy coder than that of the format, or has no such level.
    """
    for module in net.modules():
        if isinstance(module, EntropyModel) and module.entropy_coder.name != "ans":
            raise ValueError(
                f"the net must use the entropy coder 'ans', got {module.entropy_coder.name!r}"
            )
    width, height = picture.size
    if not width or not height:
        raise ValueError(f"the picture must have pixels, got {width} x {height}")
    multiple = padding_multiple(net)
    problem = _too_large(height, width, multiple, max_pixels)
    if problem:
        raise ValueError(problem)
    parameter = next(net.parameters())
    rate = _choose_rate(net, quality)
    out = net.compress(pad_to_multiple(picture.pixels[None], multiple).to(parameter), **rate)
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


def decode_picture(
    net: nn.Module, coded: CodedPicture | LegacyPicture, *, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Decode a picture.

    The pixels are, bit for bit, those of ``net(padded)["x_hat"]`` in evaluation mode, clamped to
    [0, 1] and cropped (of an autoregressive model: those of its ``decompress``).

    Args:
        net: the model that coded it, with the same weights.
        coded: the coded picture.
        max_pixels: largest area, padding included, that is decoded.

    Returns:
        The picture.

    Raises:
        UnsupportedFileError: the picture is larger than ``max_pixels``.
        WrongWeightsError: ``net`` has other weights.
        DamagedFileError: latent sizes, strings or alpha plane do not fit the picture.
    """
    is_legacy = isinstance(coded, LegacyPicture)
    multiple = legacy.PADDING_MULTIPLE if is_legacy else padding_multiple(net)
    problem = _too_large(coded.height, coded.width, multiple, max_pixels)
    if problem:
        raise UnsupportedFileError(problem)
    if not net.has_tables:
        net.update()
    try:
        rate = {} if is_legacy else _choose_rate(net, coded.quality)
    except ValueError as error:
        raise DamagedFileError(f"the file contradicts itself: {error}") from error
    if not is_legacy and fingerprint(net) != coded.fingerprint:
        raise WrongWeightsError(
            f"the file was made with other weights of {coded.model} than those at hand "
            f"(fingerprints {coded.fingerprint.hex()} and {fingerprint(net).hex()}); name the "
            "checkpoint it was made with"
        )
    alpha = read_alpha(coded.alpha, (coded.width, coded.height))
    _check_layout(net, coded, multiple)
    try:
        out = net.decompress([[string] for string in coded.strings], coded.shape, **rate)
    except ValueError as error:
        raise DamagedFileError(f"the coded picture is damaged: {error}") from error
    x_hat = out["x_hat"]
    if not bool(torch.isfinite(x_hat).all()):
        raise DamagedFileError("the coded picture is damaged: it has values that are not finite")
    top = left = 0
    if is_legacy:
        (left, _, top, _), _ = compute_padding(coded.height, coded.width, min_div=multiple)
    pixels = x_hat[0, :, top : top + coded.height, left : left + coded.width]
    return Picture(pixels.float().cpu(), alpha, grey=coded.mode.startswith("L"))


def _choose_rate(net: nn.Module, quality: int | None) -> dict[str, int]:
    """Prepare a variable-rate model for a quality, and give the arguments that its coding needs."""
    levels = getattr(net, "levels", None)
    if levels is None:
        return {}
    level = levels - 1 if quality is None else quality - 1
    if not 0 <= level < levels:
        raise ValueError(f"quality of this model must be between 1 and {levels}, got {quality}")
    if net.vr_entbttlnck:
        net.update(force=True, scale=net.Gain[level].detach())
    return {"s": level}


def _padded(side: int, multiple: int) -> int:
    return side + -side % multiple


def _too_large(height: int, width: int, multiple: int, max_pixels: int) -> str | None:
    area = _padded(height, multiple) * _padded(width, multiple)
    if area <= max_pixels:
        return None
    return (
        f"the picture has {width} x {height} pixels (padded: {area}), more than the limit of "
        f"{max_pixels}: raise max_pixels if there is enough memory"
    )


def _check_layout(net: nn.Module, coded: CodedPicture | LegacyPicture, multiple: int) -> None:
    """Compare sizes with those of a coded picture of the smallest size, before memory is taken."""
    parameter = next(net.parameters())
    smallest = net.compress(parameter.new_zeros((1, 3, multiple, multiple)))
    rows = _padded(coded.height, multiple) // multiple
    columns = _padded(coded.width, multiple) // multiple
    shape = _repeated(_plain(smallest["shape"]), rows, columns)
    if coded.shape != shape or len(coded.strings) != len(smallest["strings"]):
        raise DamagedFileError(
            f"a picture of {coded.width} x {coded.height} has latents of sizes {shape} and "
            f"{len(smallest['strings'])} strings in {coded.model}, the file has {coded.shape} and "
            f"{len(coded.strings)}"
        )


def _repeated(shape: Any, rows: int, columns: int) -> Any:
    """Sizes of the latents of a picture that is so many times as high and wide."""
    if isinstance(shape, dict):
        return {key: _repeated(value, rows, columns) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_repeated(item, rows, columns) for item in shape]
    *channels, height, width = shape
    return (*channels, height * rows, width * columns)


def _plain(shape: Any) -> Any:
    """Nested sizes as plain dicts, lists and tuples."""
    if isinstance(shape, Mapping):
        return {key: _plain(value) for key, value in shape.items()}
    if all(isinstance(item, int) for item in shape):
        return tuple(int(item) for item in shape)
    return [_plain(item) for item in shape]
