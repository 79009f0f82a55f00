# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where the bits of a coded image are: by latent, channel and place; as estimated by likelihoods,
by the integer tables, and in the file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressai.bitstream import CodedImage, ImageData, encode_image
from compressai.bitstream._engine import padded_tile
from compressai.bitstream._nets import build_tables, padding_multiple, prepared_for, rate_level
from compressai.bitstream.encoding import choose_tiling
from compressai.bitstream.tiling import Tiling
from compressai.entropy_models import EntropyModel
from compressai.entropy_models._recording import recorded_symbols
from compressai.entropy_models.session import active_coder
from compressai.entropy_models.synchrony import SyncProbe
from compressai.explain.symbols import SymbolBits, symbol_bits
from compressai.models.effort import HYPER_ANALYSIS, accepted_arguments

__all__ = ["GAP_LIMIT", "BitMap", "ImageBits", "LatentBits", "image_bits"]

GAP_LIMIT = 0.005
"""A gap between estimated and real bits, as a share, that needs no reason."""

# What likelihoods are clamped at, in bits; those at the bound tell less than is true.
_LIKELIHOOD_BOUND = 1e-9


@dataclass(frozen=True)
class LatentBits:
    """Bits of one latent.

    Attributes:
        name: its key in ``likelihoods``: ``y``, or ``z`` for the side information.
        channels: estimated bits of each channel.
        table: what its symbols cost by the tables.
        told: bits of what synchronised coding tells decoders; 0 for plain coding.
        real: bits of its strings in the file.
        strings: how many strings.
        floored: elements whose likelihood is at the lower bound.
        varies: for each channel, whether the analysis gives it different values at different
            places; ``None`` where there are too few places to tell.
    """

    name: str
    channels: tuple[float, ...]
    table: SymbolBits
    told: float
    real: float
    strings: int
    floored: int
    varies: tuple[bool, ...] | None

    @property
    def estimated(self) -> float:
        """Bits by the likelihoods of ``forward``."""
        return sum(self.channels)

    @property
    def ends(self) -> float:
        """Bits of the strings that are neither symbols nor told: where the coder stops."""
        return self.real - self.table.bits - self.told

    @property
    def gap(self) -> float:
        """Real over estimated bits, less one; what is estimated below a bit counts as one."""
        return self.real / max(self.estimated, 1.0) - 1

    @property
    def silent(self) -> list[int]:
        """Channels that cost less than a bit in the whole image: they tell nothing."""
        return [number for number, bits in enumerate(self.channels) if bits < 1]

    @property
    def dead(self) -> list[int]:
        """Channels that the analysis gives one value for the whole image."""
        return [number for number, varies in enumerate(self.varies or ()) if not varies]

    def reasons(self) -> list[str]:
        """Why real and estimated bits differ, the largest part first; empty below the limit."""
        if abs(self.gap) <= GAP_LIMIT:
            return []
        parts = [
            (self.ends, f"the ends of {_count(self.strings, 'string')}, up to 8 bytes each"),
            (self.told, "what synchronised coding tells (docs: synchrony)"),
            (self.table.bits - self.estimated, self._table_reason()),
        ]
        parts.sort(key=lambda part: -abs(part[0]))
        return [f"{bits:+.0f} bits: {text}" for bits, text in parts if abs(bits) >= 1]

    def _table_reason(self) -> str:
        text = "integer tables in place of densities"
        if self.table.escapes:
            text += f"; {_count(self.table.escapes, 'symbol')} outside of the tables cost "
            text += f"{self.table.escape_bits:.0f} bits"
        if self.floored:
            text += f"; {_count(self.floored, 'likelihood')} at the bound of 1e-9"
        return text


@dataclass(frozen=True)
class BitMap:
    """Where the bits of a latent are.

    Attributes:
        values: float32 ``(h, w)``: bits for each pixel, at the places of the latent that begin on
            the image.
        step: pixels from one place to the next.
    """

    values: np.ndarray
    step: int


@dataclass(frozen=True)
class ImageBits:
    """Bits of one image.

    Attributes:
        coded: the image as it is in the file.
        latents: in the order of ``likelihoods``.
        maps: by latent, where on the image its estimated bits are.
        file: bits of the whole file.
        not_finite: the first module whose output is not finite although its input is, with what it
            is; empty for a healthy model. Nothing is coded then, and ``coded`` is ``None``.
    """

    coded: CodedImage | None
    latents: tuple[LatentBits, ...] = ()
    maps: Mapping[str, BitMap] = field(default_factory=dict)
    file: float = 0.0
    not_finite: str = ""

    @property
    def strings(self) -> float:
        """Bits of all strings."""
        return sum(latent.real for latent in self.latents)

    @property
    def estimated(self) -> float:
        """Estimated bits of all latents."""
        return sum(latent.estimated for latent in self.latents)

    @property
    def container(self) -> float:
        """Bits of the file that are no strings: header, lengths, sums, alpha, metadata."""
        return self.file - self.strings


def image_bits(net: nn.Module, image: ImageData, **options: Any) -> ImageBits:
    """Code an image and find out what its bits are spent on.

    Tiles that overlap count what both of them spend.

    Args:
        net: the model, in evaluation mode.
        image: what to code.
        options: of :func:`~compressai.bitstream.encode_image`, such as ``quality`` and ``tile``;
            no effort.

    Returns:
        What was found. A model whose networks give values that are not finite is not coded with.

    Raises:
        ValueError: as :func:`~compressai.bitstream.encode_image`.
    """
    build_tables(net)
    multiple = padding_multiple(net)
    tiling = choose_tiling(*image.size, options.get("tile", "auto"), None, multiple)
    estimates: dict[str, _Estimate] = {}
    side: list[nn.Module] = []
    with prepared_for(net, rate_level(net, options.get("quality"))) as rate:
        arguments = accepted_arguments(net.forward, rate)
        for index in range(tiling.count):
            box = tiling[index]
            x = torch.from_numpy(padded_tile(image.pixels, box, multiple))
            with (
                torch.no_grad(),
                _values_of(net) as values,
                _first_not_finite(net) as culprit,
                _likelihoods_of(net) as given,
            ):
                out = net(x.to(next(net.parameters())), **arguments)
            likelihoods = out["likelihoods"]
            bad = [name for name, p in likelihoods.items() if not bool(torch.isfinite(p).all())]
            if culprit or bad:
                return ImageBits(None, not_finite=culprit[0] if culprit else f"likelihoods {bad}")
            for name, likelihood in likelihoods.items():
                estimate = estimates.setdefault(name, _Estimate(tiling, multiple, likelihood))
                estimate.add(box, likelihood, values.get(name))
            side = [
                model for model, p in given if "z" in likelihoods and _same(p, likelihoods["z"])
            ]
    coded, tables, told = _coded(net, image, side, **options)
    latents = []
    for name, estimate in estimates.items():
        # By convention the string of the side information is the last one.
        part = slice(None) if len(estimates) == 1 else slice(-1, None) if name == "z" else slice(-1)
        strings = [string for tile in coded.tiles for string in tile.strings[part]]
        latents.append(
            LatentBits(
                name,
                tuple(estimate.channels.tolist()),
                tables[name == "z"],
                0.0 if name == "z" else told,
                8.0 * sum(map(len, strings)),
                len(strings),
                estimate.floored,
                estimate.varies(),
            )
        )
    maps = {name: estimate.on_image() for name, estimate in estimates.items()}
    return ImageBits(coded, tuple(latents), maps, 8.0 * len(coded.to_bytes()))


def _coded(
    net: nn.Module, image: ImageData, side: Sequence[nn.Module], **options: Any
) -> tuple[CodedImage, tuple[SymbolBits, SymbolBits], float]:
    """The coded image; the price of its symbols, those of the latent and those of the side
    information, which has these entropy models; and the price of what is told."""
    prices = [SymbolBits(), SymbolBits()]
    told = 0.0

    def record(source: Any, symbols: Any, rows: Any, tables: Sequence[Any], is_told: bool) -> None:
        nonlocal told
        # What synchrony does before, to find out how networks amplify deviations.
        if isinstance(active_coder(), SyncProbe):
            return
        price = symbol_bits(symbols, rows, tables)
        if is_told:
            told += price.bits
        else:
            prices[any(source is model for model in side)] += price

    with recorded_symbols(record):
        # One tile at a time, in this thread, which is the one that is listened to.
        coded = encode_image(net, image, workers=1, **options)
    return coded, (prices[0], prices[1]), told


class _Estimate:
    """Adds up what likelihoods say of one latent, tile after tile.

    Args:
        tiling: how the image is cut.
        multiple: what sides of tiles are padded to.
        likelihood: of the first tile, ``(1, C, h, w)``.
    """

    def __init__(self, tiling: Tiling, multiple: int, likelihood: Tensor) -> None:
        width = tiling[0].width
        self._step = (width + -width % multiple) // likelihood.size(3)
        rows, columns = (-(-side // self._step) for side in (tiling.height, tiling.width))
        self._bits = np.zeros((rows, columns))
        self.channels = np.zeros(likelihood.size(1))
        self.floored = 0
        self._low = np.full(likelihood.size(1), np.inf)
        self._high = np.full(likelihood.size(1), -np.inf)
        self._places = 0

    def add(self, box: Sequence[int], likelihood: Tensor, values: Tensor | None) -> None:
        """Add a tile: its place, and likelihoods and values of its latent."""
        bits = -likelihood[0].double().log2().cpu().numpy()
        self.floored += int((likelihood <= _LIKELIHOOD_BOUND * 1.0001).sum())
        self.channels += bits.sum(axis=(1, 2))
        left, top = (round(start / self._step) for start in box[:2])
        into = self._bits[top : top + bits.shape[1], left : left + bits.shape[2]]
        into += bits.sum(axis=0)[: into.shape[0], : into.shape[1]]
        if values is not None and values.size(1) == len(self._low):
            flat = values[0].detach().float().flatten(1).cpu().numpy()
            self._low = np.minimum(self._low, flat.min(axis=1))
            self._high = np.maximum(self._high, flat.max(axis=1))
            self._places += flat.shape[1]

    def varies(self) -> tuple[bool, ...] | None:
        """See :class:`LatentBits`."""
        if self._places < 4:
            return None
        tiny = 1e-6 * np.maximum(1, np.abs(self._high))
        return tuple((self._high - self._low > tiny).tolist())

    def on_image(self) -> BitMap:
        """Bits for each pixel."""
        return BitMap((self._bits / self._step**2).astype(np.float32), self._step)


_ANALYSIS = "g_a"  # its name in every model


@contextlib.contextmanager
def _values_of(net: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Gives what the analyses make, by latent, once the model has run."""
    values: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(_keep(values))
        for name, module in net.named_modules()
        if name.rsplit(".", 1)[-1] == HYPER_ANALYSIS
    ]
    own = vars(net)
    before = own.get(_ANALYSIS)
    analysis = getattr(net, _ANALYSIS, None)
    if analysis is not None:
        # It may be a method, or what a prepared model has in its place, which take no hooks.
        def g_a(*inputs: Tensor) -> Tensor:
            values["y"] = analysis(*inputs)
            return values["y"]

        own[_ANALYSIS] = g_a
    try:
        yield values
    finally:
        own.pop(_ANALYSIS, None)
        if before is not None:
            own[_ANALYSIS] = before
        for hook in hooks:
            hook.remove()


def _keep(values: dict[str, Tensor]) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            values["z"] = output

    return hook


@contextlib.contextmanager
def _likelihoods_of(net: nn.Module) -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Gives the entropy models that ran, with the likelihoods that each of them gave."""
    given: list[tuple[nn.Module, Tensor]] = []

    def hook(module: nn.Module, _inputs: Any, output: Any) -> None:
        given.append((module, output[1]))

    hooks = [m.register_forward_hook(hook) for m in net.modules() if isinstance(m, EntropyModel)]
    try:
        yield given
    finally:
        for one in hooks:
            one.remove()


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)


@contextlib.contextmanager
def _first_not_finite(net: nn.Module) -> Iterator[list[str]]:
    """Gives a list with the first module that makes what is not finite of what is."""
    found: list[str] = []

    def hook_for(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if found or not isinstance(output, Tensor) or _is_finite(output):
                return
            if all(_is_finite(value) for value in inputs if isinstance(value, Tensor)):
                found.append(f"{name} ({type(module).__name__})")

        return hook

    hooks = [
        module.register_forward_hook(hook_for(name)) for name, module in net.named_modules() if name
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _is_finite(values: Tensor) -> bool:
    return not values.is_floating_point() or bool(torch.isfinite(values).all())


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
