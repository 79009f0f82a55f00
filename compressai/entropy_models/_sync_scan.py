# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Synchronised coding of a latent that is coded position by position.

Each position is a block of its own, because what is rounded at the next one depends on it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from compressai.entropy_models._sync_stream import (
    Exceptions,
    Rounding,
    StreamWriter,
    open_stream,
)
from compressai.entropy_models.gaussian import GaussianConditional
from compressai.entropy_models.synchrony import (
    STEP,
    SyncEncoder,
    SyncProbe,
    check_level,
)

__all__ = ["ScanDecoder", "ScanEncoder", "ScanProbe", "end_scans", "start_scans"]


class ScanEncoder:
    """Codes one item of a latent, in the order of the scan.

    Args:
        planner: rounds and guards.
    """

    def __init__(self, planner: Any) -> None:
        self._planner = planner
        self._rounding = Rounding(np.empty(0, dtype=np.int32))
        self._ranks: list[int] = []
        self._rows: list[np.ndarray] = []

    def network(self, output: Tensor) -> Tensor:
        """As :meth:`SyncEncoder.network`."""
        return output

    def quantize(self, residual: Tensor) -> Tensor:
        """Symbols of the residuals ``(C,)`` of a position."""
        return torch.round(residual)

    def settle(self, scales: Tensor, values: Tensor) -> Tensor:
        """Values ``(C,)`` of a position as later ones must see them; moves on to the next."""
        rounding, rows, steps = self._planner.plan(
            scales[:, None].numpy(), values[:, None].numpy(), max_blocks=1
        )
        first = len(self._ranks) * len(rows)
        for mine, new in (
            (self._rounding.scales, rounding.scales),
            (self._rounding.values, rounding.values),
        ):
            mine.elements += [first + element for element in new.elements]
            mine.results += new.results
        self._ranks.append(int(rounding.ranks[0]))
        self._rows.append(rows)
        return torch.from_numpy(steps).float() * STEP

    def finish(self, symbols: np.ndarray) -> bytes:
        """The string of the symbols ``(positions, C)``, int32."""
        self._rounding.ranks = np.array(self._ranks, dtype=np.int32)
        writer = StreamWriter(self._rounding, one_block_a_position=True)
        rows = np.concatenate(self._rows)
        return writer.finish(symbols.reshape(-1), rows, self._planner.levels.tables)


class ScanDecoder:
    """Decodes one item.

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

    def network(self, output: Tensor) -> Tensor:
        """As :meth:`SyncEncoder.network`."""
        return output

    def symbols(self, scales: Tensor) -> Tensor:
        """Symbols ``(C,)`` of the position, as floats."""
        from compressai import _CXX

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
        """As :meth:`ScanEncoder.settle`."""
        from compressai import _CXX

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


class ScanProbe:
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

    def finish(self, symbols: np.ndarray) -> bytes:
        """No string."""
        return b""

    def seen(self) -> list[Tensor]:
        """Symbols, scales and values ``(C, positions)``."""
        return [torch.stack(parts, dim=1) for parts in zip(*self._seen)]


def start_scans(
    sync: SyncEncoder | SyncProbe, conditional: GaussianConditional, batch: int
) -> list[Any]:
    """What stands for ``sync`` in the scan of each item of a batch."""
    if isinstance(sync, SyncProbe):
        return [ScanProbe(sync, sync.clean(item)) for item in range(batch)]
    planner = sync.planner(conditional)
    return [ScanEncoder(planner) for _ in range(batch)]


def end_scans(
    sync: SyncEncoder | SyncProbe, conditional: GaussianConditional, scans: list[Any]
) -> None:
    """Hand a probe what its scans saw."""
    if isinstance(sync, SyncProbe):
        symbols, scales, values = map(torch.stack, zip(*(scan.seen() for scan in scans)))
        sync.encode(conditional, symbols, scales, values)
