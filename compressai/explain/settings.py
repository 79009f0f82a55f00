# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where a model first computes something else with other threads, precision or device.

A run notes a hash of what each module gives, in the order in which they finish, so that memory
stays that of the model. Two runs are compared, and what differs first is computed once more to see
by how much.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressai.bitstream import ImageData
from compressai.bitstream._engine import padded_tile
from compressai.bitstream._nets import (
    build_tables,
    padding_multiple,
    prepared_for,
    rate_level,
    supports_sync_safe,
)
from compressai.bitstream.encoding import choose_tiling

__all__ = ["Difference", "Run", "compare_runs", "run_model"]

Place = tuple[str, str, int]


@dataclass(frozen=True)
class Run:
    """One image, coded and decoded with one setting.

    Attributes:
        strings: those of :meth:`compress`, in order.
        y_hat: of the encoder, ``(1, M, h, w)``; ``None`` for models that do not give it.
        x_hat: the decoded image, ``(1, 3, H, W)`` in [0, 1].
        hashes: of what each module gave, by ``("encode" or "decode", name, how often it ran)``, in
            the order in which they were done.
        kept: what the place that was asked for gave.
    """

    strings: tuple[bytes, ...]
    y_hat: np.ndarray | None
    x_hat: np.ndarray
    hashes: Mapping[Place, bytes]
    kept: np.ndarray | None = None


@dataclass(frozen=True)
class Difference:
    """What differs between two runs; the second is the other setting.

    Attributes:
        modules: how many outputs of modules were compared.
        differing: how many of them differ.
        stage, module, call: the first that differs: ``encode`` or ``decode``, the name of the
            module, and at which of its calls, from 0; nothing where all are equal.
        largest: largest difference of the elements of that output; with other shapes, infinity.
        strings_equal: whether both wrote the same bytes.
        y_hat_equal: whether both have the same latent, to the bit.
        pixels: largest difference of the decoded images, in steps of 8 bits.
        crossed_y_hat_equal, crossed_pixels: the same, where the other setting decodes the strings
            of the first.
        failure: what the other setting says of the strings of the first, if it refuses them.
    """

    modules: int
    differing: int
    stage: str
    module: str
    call: int
    largest: float
    strings_equal: bool
    y_hat_equal: bool
    pixels: float
    crossed_y_hat_equal: bool
    crossed_pixels: float
    failure: str = ""


def run_model(
    net: Any,
    image: ImageData,
    *,
    quality: float | None = None,
    sync_safe: bool | None = None,
    keep: Place | None = None,
    strings: tuple[bytes, ...] | None = None,
) -> Run:
    """Code and decode the first tile of an image, and note what each module gives.

    Args:
        net: the model, in evaluation mode.
        image: what to code; of large ones the first tile is taken.
        quality, sync_safe: as for :func:`~compressai.bitstream.encode_image`.
        keep: place whose output is to be kept.
        strings: decode these, not those that were just made.

    Raises:
        ValueError: as ``compress`` and ``decompress``.
    """
    build_tables(net)
    multiple = padding_multiple(net)
    box = choose_tiling(*image.size, "auto", None, multiple)[0]
    x = torch.from_numpy(padded_tile(image.pixels, box, multiple)).to(next(net.parameters()))
    sync_safe = supports_sync_safe(net) if sync_safe is None else sync_safe
    watch = _Watch(keep)
    with prepared_for(net, rate_level(net, quality)) as rate, watch.on(net):
        arguments: dict[str, Any] = {"sync_safe": True, **rate} if sync_safe else {**rate}
        # Once before: what is prepared at first use is prepared then.
        net.compress(x, **arguments)
        watch.begin("encode")
        coded = net.compress(x, **arguments)
        watch.begin("decode")
        made = tuple(step[0] for step in coded["strings"])
        decoded = net.decompress(
            [[string] for string in (strings or made)], coded["shape"], **arguments
        )
    # Of the decoder, if that is asked to decode the strings of others.
    y_hat = (coded if strings is None else decoded).get("y_hat")
    return Run(
        made,
        None if y_hat is None else _array(y_hat),
        _array(decoded["x_hat"]),
        watch.hashes,
        watch.kept,
    )


def compare_runs(first: Callable[..., Run], second: Callable[..., Run]) -> Difference:
    """Find where two settings part.

    Args:
        first, second: run the model with one setting each; they are given ``keep`` and ``strings``
            of :func:`run_model`, and are called up to three times.
    """
    one, other = first(), second()
    failure, crossed = "", None
    try:
        crossed = second(strings=one.strings)
    except ValueError as error:
        failure = str(error)
    common = [place for place in one.hashes if place in other.hashes]
    differing = [place for place in common if one.hashes[place] != other.hashes[place]]
    stage, module, call, largest = "", "", 0, 0.0
    if differing:
        stage, module, call = place = differing[0]
        largest = _largest(first(keep=place).kept, second(keep=place).kept)
    return Difference(
        len(common),
        len(differing),
        *(stage, module, call, largest),
        one.strings == other.strings,
        _equal(one.y_hat, other.y_hat),
        _pixels(one.x_hat, other.x_hat),
        crossed is not None and _equal(one.y_hat, crossed.y_hat),
        float("inf") if crossed is None else _pixels(one.x_hat, crossed.x_hat),
        failure,
    )


class _Watch:
    """Notes what the modules of a model give.

    Args:
        keep: place whose output is kept.
    """

    def __init__(self, keep: Place | None) -> None:
        self._keep = keep
        self._stage: str | None = None
        self._calls: dict[str, int] = {}
        self.hashes: dict[Place, bytes] = {}
        self.kept: np.ndarray | None = None

    def begin(self, stage: str) -> None:
        self._stage = stage
        self._calls.clear()

    def note(self, name: str, output: Any) -> None:
        if self._stage is None or not isinstance(output, Tensor):
            return
        call = self._calls.get(name, 0)
        self._calls[name] = call + 1
        place = (self._stage, name, call)
        values = _array(output)
        self.hashes[place] = hashlib.blake2b(values.data.cast("B"), digest_size=16).digest()
        if place == self._keep:
            self.kept = values

    @contextlib.contextmanager
    def on(self, net: nn.Module) -> Iterator[None]:
        """Listen to all modules of a model, those of prepared transforms too."""
        hooks = []
        for root, module in _parts(net):
            for inner, part in module.named_modules():
                name = ".".join(filter(None, (root, inner)))
                if name:
                    hooks.append(part.register_forward_hook(self._hook(name)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: self.note(name, output)


def _parts(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    yield "", net
    for name, value in vars(net).items():
        # What stands before a transform that was prepared.
        network = getattr(value, "network", None)
        if isinstance(network, nn.Module) and not isinstance(value, nn.Module):
            yield name, network


def _array(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().float().cpu().numpy())


def _equal(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def _largest(one: np.ndarray | None, other: np.ndarray | None) -> float:
    if one is None or other is None or one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max())


def _pixels(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(np.rint(255 * one) - np.rint(255 * other)).max())
