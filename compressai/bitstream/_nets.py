# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What coding an image has to know about a model, whichever it is."""

from __future__ import annotations

import contextlib
import inspect
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.bitstream._engine import level_of, quality_on_scale
from compressai.entropy_models import EntropyModel, GaussianConditional

__all__ = [
    "PADDING_MULTIPLE",
    "build_tables",
    "check_entropy_coder",
    "is_exact",
    "latent_layout",
    "pad_to_multiple",
    "padding_multiple",
    "prepared_for",
    "rate_level",
    "supports_sync_safe",
]

# Images are padded to a multiple of this unless the model knows better.
PADDING_MULTIPLE = 64

_lock = threading.Lock()
_locks: weakref.WeakKeyDictionary[nn.Module, threading.RLock] = weakref.WeakKeyDictionary()
_layouts: weakref.WeakKeyDictionary[nn.Module, tuple[Any, int]] = weakref.WeakKeyDictionary()


def padding_multiple(net: nn.Module) -> int:
    """What the sides of a model's input must be multiples of."""
    return int(getattr(net, "downsampling_factor", PADDING_MULTIPLE))


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until the sides are multiples.

    Args:
        x: ``(N, C, H, W)``.
        multiple: what the new sides are multiples of.

    Returns:
        ``(N, C, H', W')``, the image in the upper left corner.
    """
    bottom, right = (-x.size(2) % multiple, -x.size(3) % multiple)
    return F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x


def supports_sync_safe(net: nn.Module) -> bool:
    """Whether ``compress`` and ``decompress`` of a model take ``sync_safe``."""
    return all(
        "sync_safe" in inspect.signature(method).parameters
        for method in (net.compress, net.decompress)
    )


def is_exact(net: nn.Module) -> bool:
    """Whether a model's latent is the same on every machine, however it is coded.

    So it is where no network predicts how the latent is coded.
    """
    return not any(isinstance(module, GaussianConditional) for module in net.modules())


def build_tables(net: nn.Module) -> None:
    """Build missing tables, once, in whichever thread comes first."""
    with _lock_of(net):
        if not net.has_tables:
            net.update()


def check_entropy_coder(net: nn.Module) -> None:
    """Refuse models with another entropy coder than that of the format.

    Raises:
        ValueError: it has one.
    """
    for module in net.modules():
        if isinstance(module, EntropyModel) and module.entropy_coder.name != "ans":
            raise ValueError(
                f"the net must use the entropy coder 'ans', got {module.entropy_coder.name!r}"
            )


def rate_level(net: nn.Module, quality: float | None) -> int | float | None:
    """The level of a variable-rate model that a quality stands for; ``None`` for other models.

    Args:
        net: any model.
        quality: 1 to the number of levels, ``None`` is the highest. Of a model with a scale
            (``quality_range``) a number on it, ``None`` is its ``default_quality``.

    Returns:
        A level from 0, or a float: the number on the scale, as nearly as files tell it.

    Raises:
        ValueError: there is no such level.
    """
    scale = getattr(net, "quality_range", None)
    if scale is not None:
        return quality_on_scale(*scale, net.default_quality if quality is None else quality)
    levels = getattr(net, "levels", None)
    if levels is not None:
        return level_of(quality, levels)
    if isinstance(quality, float):
        raise ValueError(f"quality of this model must be a whole number, got {quality}")
    return None


@contextlib.contextmanager
def prepared_for(net: nn.Module, level: float | None) -> Iterator[dict[str, float]]:
    """Prepare a model for coding at a level of :func:`rate_level`, and give its arguments.

    A model whose tables depend on the level serves one thread at a time.
    """
    if level is None:
        yield {}
    elif isinstance(level, float):
        yield {"quality": level}
    elif getattr(net, "has_tables_by_level", False):
        with _lock_of(net):
            net.update_for_level(level)
            yield {"s": level}
    else:
        yield {"s": level}


def latent_layout(net: nn.Module, width: int, height: int) -> tuple[Any, int]:
    """What ``compress`` would give for an image, without the memory that such an image takes.

    Args:
        net: a model with tables.
        width, height: size of the padded image, multiples of :func:`padding_multiple`.

    Returns:
        ``(shape, count)``: nested sizes of the latents as plain dicts, lists and tuples, and the
        number of strings.
    """
    unit = padding_multiple(net)
    known = _layouts.get(net)
    if known is None:
        out = net.compress(next(net.parameters()).new_zeros((1, 3, unit, unit)))
        # Neither depends on the weights, so that once is enough for a net.
        known = _layouts[net] = (_plain(out["shape"]), len(out["strings"]))
    shape, count = known
    return _repeated(shape, height // unit, width // unit), count


def _plain(shape: Any) -> Any:
    """Nested sizes as plain dicts, lists and tuples."""
    if isinstance(shape, Mapping):
        return {key: _plain(value) for key, value in shape.items()}
    if all(isinstance(item, int) for item in shape):
        return tuple(int(item) for item in shape)
    return [_plain(item) for item in shape]


def _repeated(shape: Any, rows: int, columns: int) -> Any:
    """Sizes of the latents of an image that is so many times as high and wide."""
    if isinstance(shape, dict):
        return {key: _repeated(value, rows, columns) for key, value in shape.items()}
    if isinstance(shape, list):
        return [_repeated(item, rows, columns) for item in shape]
    *channels, height, width = shape
    return (*channels, height * rows, width * columns)


def _lock_of(net: nn.Module) -> threading.RLock:
    with _lock:
        return _locks.setdefault(net, threading.RLock())
