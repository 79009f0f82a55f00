# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Synchronised coding: encoder and decoder agree although their arithmetic differs a little.

What both compute in floating point and what steers decoding (scales, and values that later networks
see) is rounded to a grid. The encoder shifts the thresholds of the rounding, block by block, until
no value is in doubt, and tells the shifts. Why, how much it costs and what is promised is in
``docs/synchrony.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models._grid import (
    DEFAULT_TOLERANCE,
    SLOPE,
    STEP,
    Levels,
    Planner,
    decode_symbols,
    settle,
    values_of,
    write_plans,
)
from compressai.entropy_models._interleaving import interleaves
from compressai.entropy_models._overrides import CODING_METHODS, overridden
from compressai.entropy_models._refusals import check_codable
from compressai.entropy_models._sync_stream import Rounding
from compressai.entropy_models.gaussian import GaussianConditional
from compressai.entropy_models.session import Correction, active_coder, write_strings

__all__ = [
    "DEFAULT_TOLERANCE",
    "SLOPE",
    "STEP",
    "Gain",
    "SyncDecoder",
    "SyncEncoder",
    "SyncLatent",
    "SyncProbe",
    "from_steps",
    "integers",
    "on_networks",
    "single_floats",
]


def _levels(conditional: GaussianConditional) -> Levels:
    if not conditional._has_native_coder():
        raise ValueError(
            "synchronised coding needs the entropy coder 'ans', got "
            f"{getattr(conditional.entropy_coder, 'name', conditional.entropy_coder)!r}"
        )
    own = overridden(conditional, CODING_METHODS)
    if own:
        raise ValueError(
            f"synchronised coding cannot go by the {', '.join(sorted(own))} of "
            f"{type(conditional).__name__}: use sync_safe=False"
        )
    (tables,) = conditional._coder_tables()
    return Levels(*conditional._scales().levels, tables)


@dataclass(frozen=True)
class Gain:
    """How much larger the deviation of a latent's parameters can be than that of one network.

    Attributes:
        scales: float ``(C,)``, at least 1.
        values: the same for values; ``None`` if none are rounded.
    """

    scales: Tensor
    values: Tensor | None = None


@contextmanager
def on_networks(
    networks: Iterable[nn.Module], change: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """Within, what these networks give to this thread's calls passes through ``change``.

    Args:
        networks: modules whose output is a tensor.
        change: from an output to what is used in its place.
    """
    hooks = [
        network.register_forward_hook(lambda _network, _inputs, output: change(output))
        for network in networks
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Encoding:
    """What those have in common that stand for an encoder; see :class:`LatentCoder`."""

    def note_coded(self) -> None:
        """Nothing depends on it."""

    def code(
        self,
        conditional: GaussianConditional,
        y: Tensor,
        scales: Tensor,
        means: Tensor | None,
        correct: Correction | None,
    ) -> tuple[list[bytes], Tensor]:
        """Strings, and ``y_hat`` as later networks must see it.

        Raises:
            ValueError: the latent, scales or values are not finite.
        """
        symbols = self.quantize(y if means is None else y - means, conditional)
        values = _restored(conditional, symbols, means, correct)
        return self.encode(conditional, symbols, scales, values)

    def decode(
        self,
        conditional: GaussianConditional,
        strings: Sequence[bytes | None],
        scales: Tensor,
        means: Tensor | None,
        correct: Correction | None,
    ) -> dict[str, Tensor]:
        """An encoder has nothing to decode.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a codec decodes while it should encode in synchrony")

    def quantize(self, residual: Tensor, source: Any) -> Tensor:
        raise NotImplementedError

    def encode(
        self,
        conditional: GaussianConditional,
        symbols: Tensor,
        scales: Tensor,
        values: Tensor | None = None,
    ) -> tuple[list[bytes], Tensor]:
        raise NotImplementedError


def _restored(
    conditional: GaussianConditional,
    symbols: Tensor,
    means: Tensor | None,
    correct: Correction | None,
) -> Tensor | None:
    """What symbols stand for; ``None`` if for themselves."""
    values = symbols if means is None else conditional.dequantize(symbols, means)
    if correct is not None:
        return correct(values)
    return None if means is None else values


class SyncEncoder(_Encoding):
    """Encoder's side of synchronised coding, for one call of ``compress``.

    Args:
        gains: one for each latent in the order of coding, as :meth:`SyncProbe.gains` gives them.
        tolerance: how much an output of a network may differ between encoder and decoder, where it
            is no larger than 1 (see ``docs/synchrony.md``).

    Raises:
        ValueError: ``tolerance`` is negative or not finite.
    """

    def __init__(self, gains: Sequence[Gain], tolerance: float = DEFAULT_TOLERANCE) -> None:
        if not 0 <= tolerance < float("inf"):
            raise ValueError(f"tolerance must be finite and not negative, got {tolerance}")
        self.tolerance = float(tolerance)
        self._gains = iter(gains)

    def quantize(self, residual: Tensor, source: Any) -> Tensor:
        """Symbols of residuals, as floats.

        Args:
            residual: ``(N, C, ...)``.
            source: the entropy model, which errors name.

        Raises:
            ValueError: they are no int32.
        """
        check_codable(source, residual)
        return torch.round(residual)

    def encode(
        self,
        conditional: GaussianConditional,
        symbols: Tensor,
        scales: Tensor,
        values: Tensor | None = None,
    ) -> tuple[list[bytes], Tensor]:
        """Code a latent.

        Args:
            conditional: has the tables.
            symbols: integers in a float tensor ``(N, C, ...)``, see :meth:`quantize`.
            scales: of the same shape.
            values: what the symbols stand for; ``None`` if they stand for themselves.

        Returns:
            ``(strings, y_hat)``: ``N`` strings, and the values as later networks must see them.

        Raises:
            ValueError: scales or values are not finite.
        """
        planner = self.planner(conditional)
        flat_symbols = integers(symbols)
        flat_scales = single_floats(scales)
        flat_values = None if values is None else single_floats(values)
        plans = [
            planner.plan(item, None if flat_values is None else flat_values[i])
            for i, item in enumerate(flat_scales)
        ]
        interleave = interleaves()
        strings = write_strings(
            lambda: write_plans(flat_symbols, plans, planner.levels.tables, interleave),
            len(plans),
            flat_symbols.size,
        )
        steps = [plan.steps for plan in plans]
        return strings, symbols if values is None else from_steps(steps, values)

    def planner(self, conditional: GaussianConditional) -> Planner:
        """For those who code position by position: rounds a part of the next latent."""
        gain = next(self._gains)
        scales, values = (
            None if gains is None else gains.detach().cpu().numpy()
            for gains in (gain.scales, gain.values)
        )
        return Planner(_levels(conditional), scales, values, self.tolerance)


class SyncDecoder:
    """Decoder's side of synchronised coding; see :class:`LatentCoder`."""

    def note_coded(self) -> None:
        """Nothing depends on it."""

    def code(
        self,
        conditional: GaussianConditional,
        y: Tensor,
        scales: Tensor,
        means: Tensor | None,
        correct: Correction | None,
    ) -> tuple[list[bytes], Tensor]:
        """A decoder has nothing to code.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("a codec encodes while it should decode in synchrony")

    def decode(
        self,
        conditional: GaussianConditional,
        strings: Sequence[bytes | None],
        scales: Tensor,
        means: Tensor | None,
        correct: Correction | None,
    ) -> dict[str, Tensor]:
        """``{"y_hat", "y_fine"}``: the encoder's values, and those before they were rounded.

        Raises:
            ValueError: as :meth:`decode_symbols`, or the values are not finite.
        """
        latent = self.decode_symbols(conditional, strings, scales)
        values = _restored(conditional, latent.symbols, means, correct)
        if values is None:
            return {"y_hat": latent.symbols, "y_fine": latent.symbols}
        return {"y_hat": latent.settle(values), "y_fine": values}

    def decode_symbols(
        self, conditional: GaussianConditional, strings: Sequence[bytes | None], scales: Tensor
    ) -> SyncLatent:
        """Decode the symbols of a latent.

        Args:
            conditional: has the tables.
            strings: one for each item, made by :meth:`SyncEncoder.encode`; ``None`` for one that
                is lost, whose symbols are taken to be 0.
            scales: ``(N, C, ...)``.

        Raises:
            ValueError: the number of strings is not that of the scales, or one is damaged.
        """
        if len(strings) != len(scales):
            raise ValueError(f"got {len(strings)} strings for a batch of {len(scales)}")
        symbols, roundings = decode_symbols(strings, single_floats(scales), _levels(conditional))
        decoded = torch.from_numpy(symbols).reshape(scales.shape)
        return SyncLatent(decoded.to(scales), roundings)

    @staticmethod
    def levels(conditional: GaussianConditional) -> Levels:
        """For those who code position by position: the levels of a conditional."""
        return _levels(conditional)


@dataclass(frozen=True)
class SyncLatent:
    """A latent whose symbols are decoded, and whose values are not computed yet.

    Attributes:
        symbols: integers, in the type and on the device of the scales.
        roundings: how the encoder rounded, one for each item.
    """

    symbols: Tensor
    roundings: Sequence[Rounding]

    def settle(self, values: Tensor) -> Tensor:
        """The values as later networks must see them.

        Args:
            values: what the symbols stand for, as computed here.

        Returns:
            The values of the encoder, bit for bit.

        Raises:
            ValueError: the values are not finite, or a string was damaged.
        """
        return _as(settle(single_floats(values), self.roundings), values)


class SyncProbe(_Encoding):
    """Stands for an encoder to find out how deviations of networks grow on their way to a latent.

    The first run of a ``compress`` with it is clean, all others have noise on the output of every
    network and the symbols of the first. A network counts that runs after something was coded: one
    that runs before, as a hyper analysis does, cannot be the decoder's.

    Args:
        seed: of the noise.
    """

    # Large against rounding errors, small enough for networks to be linear.
    AMPLITUDE = 2.0**-10

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._reference: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self._gains: list[list[Tensor]] = []
        self._noisy = self._coded = False
        self._step = 0

    def again(self) -> None:
        """Begin the next run, with noise."""
        self._noisy, self._coded, self._step = True, False, 0

    def note_coded(self) -> None:
        """From here on, networks are those of the decoder, too."""
        self._coded = True

    def network(self, output: Tensor) -> Tensor:
        """The output, with noise in all runs but the first."""
        # A hook is on the module, which other threads may use at the same time.
        if not (self._noisy and self._coded) or active_coder() is not self:
            return output
        noise = self._random.random(output.shape, dtype=np.float32) * 2 - 1
        return output + self.AMPLITUDE * torch.from_numpy(noise).to(output)

    def clean(self, item: int) -> tuple[Tensor, Tensor] | None:
        """Symbols and values of an item of the next latent in the first run; none in that run."""
        if not self._noisy:
            return None
        symbols, _, values = self._reference[self._step]
        return symbols[item], symbols[item] if values is None else values[item]

    def quantize(self, residual: Tensor, source: Any = None) -> Tensor:
        """As :meth:`SyncEncoder.quantize`, the symbols of the first run in all runs."""
        if self._noisy:
            return self._reference[self._step][0]
        check_codable(source, residual)
        return torch.round(residual)

    def encode(
        self,
        conditional: GaussianConditional,
        symbols: Tensor,
        scales: Tensor,
        values: Tensor | None = None,
    ) -> tuple[list[bytes], Tensor]:
        """As :meth:`SyncEncoder.encode`, without strings."""
        self._coded = True
        strings = [b""] * len(symbols)
        if not self._noisy:
            self._reference.append((symbols, scales, values))
            self._gains.append([torch.ones(scales.size(1)) for _ in range(2)])
        symbols, clean_scales, clean_values = self._reference[self._step]
        largest = self._gains[self._step]
        self._step += 1
        largest[0] = torch.maximum(largest[0], self._deviation(scales, clean_scales))
        if values is None:
            return strings, symbols
        largest[1] = torch.maximum(largest[1], self._deviation(values, clean_values))
        return strings, torch.round(clean_values / STEP) * STEP

    def _deviation(self, noisy: Tensor, clean: Tensor | None) -> Tensor:
        """Largest deviation in each channel, in units of the noise."""
        moved = (noisy - clean).abs().transpose(0, 1).flatten(1).amax(1)
        return (moved / self.AMPLITUDE).float().cpu()

    def gains(self) -> list[Gain]:
        """What was found."""
        return [
            Gain(scales, None if values is None else largest)
            for (scales, largest), (_, _, values) in zip(self._gains, self._reference)
        ]


def integers(symbols: Tensor) -> np.ndarray:
    """``(N, C, P)`` int32."""
    array = symbols.detach().to(device="cpu", dtype=torch.int32).contiguous().numpy()
    return array.reshape(*symbols.shape[:2], -1)


def single_floats(values: Tensor) -> np.ndarray:
    """``(N, C, P)`` float32."""
    array = values.detach().to(device="cpu", dtype=torch.float32).contiguous().numpy()
    return array.reshape(*values.shape[:2], -1)


def from_steps(steps: Sequence[np.ndarray], like: Tensor) -> Tensor:
    """Values of the steps of the items of a batch, in shape, type and place of ``like``."""
    return _as(values_of(steps), like)


def _as(values: np.ndarray, like: Tensor) -> Tensor:
    # In single precision whatever `like` is: its type may not be that of the other side.
    return torch.from_numpy(values).reshape(like.shape).to(like)
