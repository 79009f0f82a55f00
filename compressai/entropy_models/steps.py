# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coders of a latent that is coded in several steps, each in the context of those before, into one
string an item; plainly or in synchrony, as the coding session wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compressai import ans
from compressai.entropy_models._grid import level_numbers
from compressai.entropy_models._sync_stream import StreamWriter, open_stream
from compressai.entropy_models.gaussian import GaussianConditional
from compressai.entropy_models.session import active_coder, write_strings
from compressai.entropy_models.synchrony import (
    SyncDecoder,
    SyncEncoder,
    SyncLatent,
    from_steps,
    integers,
    single_floats,
)

__all__ = ["StepDecoder", "StepEncoder", "step_decoder", "step_encoder"]


class StepEncoder:
    """Codes the steps of a latent plainly.

    Args:
        conditional: has the tables.
    """

    def __init__(self, conditional: GaussianConditional) -> None:
        self.conditional = conditional
        self._symbols: list[np.ndarray] = []
        self._indexes: list[np.ndarray] = []

    def code(self, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        """Append a step.

        Args:
            y: ``(N, C, H, W)``; all steps have the same ``N``.
            scales, means: of the same shape.

        Returns:
            ``y_hat``, as later steps must see it.

        Raises:
            ValueError: shapes do not fit, there are no tables, or ``y`` is not finite.
        """
        self.conditional._check_predicted(scales, means)
        symbols, indexes, y_hat = self.conditional.symbols_and_rows(y, scales, means)
        self._symbols.append(symbols)
        self._indexes.append(indexes)
        return y_hat

    def finish(self) -> list[bytes]:
        """The strings of all steps, one an item."""
        return self.conditional._encode_rows(
            np.concatenate(self._symbols, axis=1), np.concatenate(self._indexes, axis=1)
        )


class _SyncStepEncoder(StepEncoder):
    """Codes the steps in synchrony: what is told of a step stands in front of its symbols."""

    def __init__(self, conditional: GaussianConditional, coder: SyncEncoder) -> None:
        super().__init__(conditional)
        self._coder = coder
        self._steps: list[tuple[np.ndarray, list[Any], Any]] = []

    def code(self, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        self.conditional._check_predicted(scales, means)
        planner = self._coder.planner(self.conditional)
        symbols = self._coder.quantize(y - means, self.conditional)
        values = self.conditional.dequantize(symbols, means)
        plans = [planner.plan(*item) for item in zip(single_floats(scales), single_floats(values))]
        self._steps.append((integers(symbols), plans, planner.levels.tables))
        return from_steps([plan.steps for plan in plans], values)

    def finish(self) -> list[bytes]:
        batch = len(self._steps[0][0])
        count = sum(symbols.size for symbols, _, _ in self._steps)
        return write_strings(lambda: [self._write(item) for item in range(batch)], batch, count)

    def _write(self, item: int) -> bytes:
        stream = ans.BufferedRansEncoder()
        for symbols, plans, tables in self._steps:
            plan, flat = plans[item], symbols[item].reshape(-1)
            StreamWriter(plan.rounding, stream=stream).append(flat, plan.rows, tables)
        return stream.flush()


class _OtherStepEncoder(StepEncoder):
    """Hands every step to a coder that makes no strings, such as a probe."""

    def __init__(self, conditional: GaussianConditional, coder: Any) -> None:
        super().__init__(conditional)
        self._coder, self._batch = coder, 0

    def code(self, y: Tensor, scales: Tensor, means: Tensor) -> Tensor:
        self._batch = len(y)
        return self._coder.code(self.conditional, y, scales, means, None)[1]

    def finish(self) -> list[bytes]:
        return [b""] * self._batch


def step_encoder(conditional: GaussianConditional) -> StepEncoder:
    """The encoder that the coding session wants.

    Args:
        conditional: has the tables.
    """
    coder = active_coder()
    if coder is None:
        return StepEncoder(conditional)
    if isinstance(coder, SyncEncoder):
        return _SyncStepEncoder(conditional, coder)
    return _OtherStepEncoder(conditional, coder)


class StepDecoder:
    """Decodes the steps of a latent plainly.

    Args:
        conditional: has the tables.
        strings: what :meth:`StepEncoder.finish` gave; ``None`` stands for one that is lost: all its
            symbols are taken to be 0.

    Raises:
        ValueError: there are no tables, or the entropy coder is not ``"ans"``.
    """

    def __init__(self, conditional: GaussianConditional, strings: Sequence[bytes | None]) -> None:
        if not conditional._has_native_coder():
            raise ValueError("decoding in steps needs the entropy coder 'ans'")
        self.conditional = conditional
        self._tables = conditional._coder_tables()
        self._streams: list[Any] = []
        for string in strings:
            stream = None if string is None else ans.RansDecoder()
            if stream is not None:
                stream.set_stream(string)
            self._streams.append(stream)

    def decode(self, scales: Tensor, means: Tensor) -> dict[str, Tensor]:
        """Decode the next step.

        Args:
            scales, means: ``(N, C, H, W)``.

        Returns:
            ``{"y_hat"}``; in synchrony also ``"y_fine"``, the values before they were rounded to
            what both sides share.

        Raises:
            ValueError: the number of strings is not that of the scales, or one is damaged.
        """
        self._check(scales, means)
        rows = integers(self.conditional.build_indexes(scales))
        symbols = np.zeros_like(rows)
        for stream, item, found in zip(self._streams, rows, symbols):
            if stream is not None:
                found[...] = stream.decode_stream(item.reshape(-1), *self._tables).reshape(
                    found.shape
                )
        decoded = torch.from_numpy(symbols).reshape(scales.shape)
        return {"y_hat": self.conditional.dequantize(decoded, means)}

    def _check(self, scales: Tensor, means: Tensor) -> None:
        if len(self._streams) != len(scales):
            raise ValueError(f"got {len(self._streams)} strings for a batch of {len(scales)}")
        self.conditional._check_predicted(scales, means)

    def check_finished(self) -> None:
        """Raise ValueError if a string holds more than what was decoded."""
        if not all(stream is None or stream.finished for stream in self._streams):
            raise ValueError("the string is damaged: it holds more than this latent")


class _SyncStepDecoder(StepDecoder):
    """Decodes in synchrony."""

    def decode(self, scales: Tensor, means: Tensor) -> dict[str, Tensor]:
        self._check(scales, means)
        levels = SyncDecoder.levels(self.conditional)
        symbols, roundings = [], []
        for stream, item in zip(self._streams, single_floats(scales)):
            reader = open_stream(stream, item.size)
            numbers = level_numbers(levels, item, reader.rounding)
            symbols.append(reader.symbols(levels.rows.take(numbers), levels.tables))
            roundings.append(reader.rounding)
        decoded = torch.from_numpy(np.stack(symbols)).reshape(scales.shape).to(scales)
        values = self.conditional.dequantize(decoded, means)
        return {"y_hat": SyncLatent(decoded, roundings).settle(values), "y_fine": values}


def step_decoder(conditional: GaussianConditional, strings: Sequence[bytes | None]) -> StepDecoder:
    """The decoder that the coding session wants.

    Args:
        conditional: has the tables.
        strings: one an item; ``None`` for one that is lost.

    Raises:
        ValueError: there are no tables, or the entropy coder is not ``"ans"``.
        RuntimeError: the session is that of an encoder.
    """
    coder = active_coder()
    if coder is None:
        return StepDecoder(conditional, strings)
    if isinstance(coder, SyncDecoder):
        return _SyncStepDecoder(conditional, strings)
    raise RuntimeError("a codec decodes while it should encode in synchrony")
