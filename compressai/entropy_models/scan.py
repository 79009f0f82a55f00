# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coders of a latent that is coded position by position, plainly or in synchrony.

The scan itself (:mod:`compressai.latent_codecs._positions`) asks :func:`scan_encoders` or
:func:`scan_decoders` for one coder an item; which kind it gets is up to the coding session. In
synchronised coding each position is a block of its own, because what is rounded at the next one
depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compressai import _CXX, ans
from compressai.entropy_models._grid import check_level
from compressai.entropy_models._overrides import overridden
from compressai.entropy_models._recording import note_symbols
from compressai.entropy_models._sync_stream import (
    Exceptions,
    Rounding,
    StreamWriter,
    open_stream,
)
from compressai.entropy_models.gaussian import GaussianConditional
from compressai.entropy_models.session import active_coder
from compressai.entropy_models.synchrony import (
    STEP,
    SyncDecoder,
    SyncEncoder,
    SyncProbe,
)

__all__ = [
    "PlainScanDecoder",
    "PlainScanEncoder",
    "ScanCoder",
    "ScanDecoder",
    "ScanEncoder",
    "ScanProbe",
    "scan_decoders",
    "scan_encoders",
]


# What can be asked for at one position. Whole strings cannot: a position has none of its own.
_POSITION_METHODS = ("quantize", "dequantize", "build_indexes")


class ScanCoder:
    """Codes or decodes one item of a latent, in the order of the scan.

    Attributes:
        rounds: whether what later positions see is rounded by :meth:`settle`.
        own: the entropy model, if its own methods quantise or choose rows of tables.
    """

    rounds = True
    own: Any = None

    def network(self, output: Tensor) -> Tensor:
        """Called with the output of each network that both sides run."""
        return output

    def settle(self, scales: Tensor, values: Tensor) -> Tensor:
        """Values ``(C,)`` of a position as later ones must see them; moves on to the next."""
        raise NotImplementedError(f"{type(self).__name__} does not round")


class _PlainScan(ScanCoder):
    rounds = False

    def __init__(self, conditional: GaussianConditional) -> None:
        if overridden(conditional, _POSITION_METHODS):
            self.own = conditional
        self._edges = conditional.scale_table[:-1].cpu().float()
        self._tables = conditional._coder_tables()

    def _rows(self, scales: Tensor) -> np.ndarray:
        if self.own is not None:
            # As images of one pixel, what such methods are written for.
            grid = scales.reshape(-1, scales.size(-1), 1, 1).to(self.own.scale_table.device)
            rows = self.own.build_indexes(grid).to(device="cpu", dtype=torch.int32)
            return rows.reshape(scales.shape).contiguous().numpy()
        return torch.bucketize(scales, self._edges, out_int32=True).numpy()


class PlainScanEncoder(_PlainScan):
    """Codes one item plainly.

    Args:
        conditional: has the tables.
        stream: a ``compressai.ans.BufferedRansEncoder`` to append to; ``None`` makes a string.
    """

    def __init__(self, conditional: GaussianConditional, stream: Any | None = None) -> None:
        super().__init__(conditional)
        self._stream = stream

    def quantize(self, residual: Tensor) -> Tensor:
        """Symbols of the residuals ``(C,)`` of a position."""
        return torch.round(residual)

    def finish(self, symbols: np.ndarray, scales: Tensor) -> bytes | None:
        """The string of symbols and scales ``(positions, C)``; none with a stream."""
        stream = ans.RansEncoder() if self._stream is None else self._stream
        rows = self._rows(scales).reshape(-1)
        note_symbols(None, symbols, rows, self._tables)
        return stream.encode_with_indexes(symbols.reshape(-1), rows, *self._tables)


class PlainScanDecoder(_PlainScan):
    """Decodes one item plainly.

    Args:
        conditional: has the tables.
        stream: a ``compressai.ans.RansDecoder`` whose stream is set; ``None`` stands for one that
            is lost: all symbols are 0.
    """

    def __init__(self, conditional: GaussianConditional, stream: Any | None) -> None:
        super().__init__(conditional)
        self._stream = stream

    def symbols(self, scales: Tensor) -> Tensor:
        """Symbols ``(C,)`` of the position, as floats."""
        if self._stream is None:
            return torch.zeros_like(scales)
        symbols = self._stream.decode_stream(self._rows(scales), *self._tables)
        return torch.from_numpy(symbols).float()

    def check_finished(self) -> None:
        """Raise ValueError if the string holds more than this item."""
        if self._stream is not None and not self._stream.finished:
            raise ValueError("the string is damaged: it holds more than this latent")


class ScanEncoder(ScanCoder):
    """Codes one item in synchrony.

    Args:
        planner: rounds and guards.
    """

    def __init__(self, planner: Any) -> None:
        self._planner = planner
        self._rounding = Rounding(np.empty(0, dtype=np.int32))
        self._ranks: list[int] = []
        self._rows: list[np.ndarray] = []

    def quantize(self, residual: Tensor) -> Tensor:
        """Symbols of the residuals ``(C,)`` of a position."""
        return torch.round(residual)

    def settle(self, scales: Tensor, values: Tensor) -> Tensor:
        """As :meth:`ScanCoder.settle`."""
        plan = self._planner.plan(scales[:, None].numpy(), values[:, None].numpy(), max_blocks=1)
        rounding = plan.rounding
        first = len(self._ranks) * len(plan.rows)
        for mine, new in (
            (self._rounding.scales, rounding.scales),
            (self._rounding.values, rounding.values),
        ):
            mine.elements += [first + element for element in new.elements]
            mine.results += new.results
        self._ranks.append(int(rounding.ranks[0]))
        self._rows.append(plan.rows)
        return torch.from_numpy(plan.steps).float() * STEP

    def finish(self, symbols: np.ndarray, scales: Tensor) -> bytes:
        """The string of the symbols ``(positions, C)``, int32; scales were settled before."""
        self._rounding.ranks = np.array(self._ranks, dtype=np.int32)
        writer = StreamWriter(self._rounding, one_block_a_position=True)
        rows = np.concatenate(self._rows)
        return writer.finish(symbols.reshape(-1), rows, self._planner.levels.tables)


class ScanDecoder(ScanCoder):
    """Decodes one item in synchrony.

    Args:
        levels: those of the conditional.
        string: what :class:`ScanEncoder` made; ``None`` if it is lost.
        positions, channels: size of the latent.

    Raises:
        ValueError: the string is damaged.
    """

    def __init__(self, levels: Any, string: bytes | None, positions: int, channels: int) -> None:
        self._levels = levels
        self._reader = open_stream(string, positions * channels, positions)
        rounding = self._reader.rounding
        self._ranks = rounding.ranks
        self._scales = _by_position(rounding.scales, channels)
        self._values = _by_position(rounding.values, channels)
        self._position = 0

    def symbols(self, scales: Tensor) -> Tensor:
        """Symbols ``(C,)`` of the position, as floats."""
        here = self._position
        numbers = _CXX.round_scales(
            scales.numpy(), self._levels.native, self._ranks[here : here + 1]
        )
        if here in self._scales:
            for result in self._scales[here].results:
                check_level(result, self._levels)
            self._scales[here].apply(numbers)
        symbols = self._reader.symbols(self._levels.rows[numbers], self._levels.tables)
        return torch.from_numpy(symbols).float()

    def settle(self, scales: Tensor, values: Tensor) -> Tensor:
        """As :meth:`ScanCoder.settle`."""
        here = self._position
        steps = _CXX.round_values(values.numpy(), STEP, self._ranks[here : here + 1])
        if here in self._values:
            self._values[here].apply(steps)
        self._position += 1
        return torch.from_numpy(steps).float() * STEP

    def check_finished(self) -> None:
        """As :meth:`StreamReader.check_finished`."""
        self._reader.check_finished()


def _by_position(exceptions: Exceptions, channels: int) -> dict[int, Exceptions]:
    sorted_out: dict[int, Exceptions] = {}
    for element, result in zip(exceptions.elements, exceptions.results):
        here = sorted_out.setdefault(element // channels, Exceptions())
        here.elements.append(element % channels)
        here.results.append(result)
    return sorted_out


class ScanProbe(ScanCoder):
    """Stands for a :class:`ScanEncoder` in a run of a probe.

    Args:
        probe: the probe.
        clean: symbols and values ``(C, positions)`` of the clean run, ``None`` in that run.
    """

    def __init__(self, probe: SyncProbe, clean: tuple[Tensor, Tensor] | None) -> None:
        self._probe, self._clean = probe, clean
        self._seen: list[tuple[Tensor, Tensor, Tensor]] = []
        self._symbols = torch.empty(0)

    def network(self, output: Tensor) -> Tensor:
        """As :meth:`SyncProbe.network`."""
        return self._probe.network(output)

    def quantize(self, residual: Tensor) -> Tensor:
        """As :meth:`SyncProbe.quantize`."""
        here = len(self._seen)
        clean = self._clean
        self._symbols = torch.round(residual) if clean is None else clean[0][:, here]
        return self._symbols

    def settle(self, scales: Tensor, values: Tensor) -> Tensor:
        """As :meth:`ScanEncoder.settle`: the values of the clean run."""
        here = len(self._seen)
        self._seen.append((self._symbols.clone(), scales.clone(), values.clone()))
        clean = values if self._clean is None else self._clean[1][:, here]
        return torch.round(clean / STEP) * STEP

    def finish(self, symbols: np.ndarray, scales: Tensor) -> bytes:
        """No string."""
        return b""

    def seen(self) -> list[Tensor]:
        """Symbols, scales and values ``(C, positions)``."""
        return [torch.stack(parts, dim=1) for parts in zip(*self._seen)]


@contextmanager
def scan_encoders(conditional: GaussianConditional, batch: int) -> Iterator[list[Any]]:
    """The encoders of the items of a batch, as the coding session wants them.

    Args:
        conditional: has the tables.
        batch: number of items.
    """
    coder = active_coder()
    if isinstance(coder, SyncEncoder):
        planner = coder.planner(conditional)
        yield [ScanEncoder(planner) for _ in range(batch)]
    elif isinstance(coder, SyncProbe):
        scans = [ScanProbe(coder, coder.clean(item)) for item in range(batch)]
        yield scans
        symbols, scales, values = map(torch.stack, zip(*(scan.seen() for scan in scans)))
        coder.encode(conditional, symbols, scales, values)
    else:
        yield [PlainScanEncoder(conditional) for _ in range(batch)]


def scan_decoders(
    conditional: GaussianConditional,
    strings: Sequence[bytes | None],
    positions: int,
    channels: int,
) -> Iterator[PlainScanDecoder | ScanDecoder]:
    """The decoders of the items of a batch, as the coding session wants them.

    Args:
        conditional: has the tables.
        strings: one an item; ``None`` for one that is lost.
        positions, channels: size of the latent.

    Raises:
        ValueError: a string is damaged.
    """
    coder = active_coder()
    for string in strings:
        if isinstance(coder, SyncDecoder):
            yield ScanDecoder(coder.levels(conditional), string, positions, channels)
            continue
        stream = None
        if string is not None:
            stream = ans.RansDecoder()
            stream.set_stream(string)
        yield PlainScanDecoder(conditional, stream)
