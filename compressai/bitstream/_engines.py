# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The engine of a model: torch, or a bundle without it; see :mod:`compressai.bitstream._engine`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from compressai.bitstream._engine import (
    Decoded,
    Engine,
    Item,
    Result,
    level_of,
    quality_on_scale,
)
from compressai.bitstream.errors import UnsupportedFileError
from compressai.bitstream.tiling import Tiling, padded_side
from compressai.runtime.model import RuntimeModel

__all__ = ["engine_of"]


def engine_of(net: Any) -> Engine:
    """The engine of a model.

    Args:
        net: a model of torch, or a :class:`~compressai.runtime.RuntimeModel`.
    """
    if isinstance(net, RuntimeModel):
        return _BundleEngine(net)
    # Needs torch.
    from compressai.bitstream._torch_engine import TorchEngine

    return TorchEngine(net)


class _BundleEngine:
    """Codes with a bundle; see :class:`Engine`."""

    supports_sync_safe = True

    def __init__(self, net: RuntimeModel) -> None:
        self._net = net
        self.name = net.identity.model
        self.multiple = net.multiple
        self.identity = net.identity
        self.exact = net.exact

    def check_coder(self) -> None:
        """Bundles have no other one."""

    def check_file(self, version: int, sync_safe: bool) -> None:
        if version < 2:
            raise UnsupportedFileError(
                f"the file is of version {version}, which only torch decodes: install torch, and "
                "decode it with --engine torch"
            )
        if not sync_safe and not self.exact:
            raise UnsupportedFileError(
                f"the file was coded plainly, and {self.name} with floats, so that it depends on "
                "the program that coded it: install torch, and decode it with --engine torch"
            )

    def rate_level(self, quality: float | None) -> float | None:
        rates = self._net.rates
        if rates is None:
            return None
        if self._net.levels is not None:
            return level_of(quality, self._net.levels)
        wanted = rates.default if quality is None else quality
        return quality_on_scale(rates.low, rates.high, wanted)

    def prepared_for(self, level: float | None) -> AbstractContextManager[Mapping[str, Any]]:
        if level is None:
            return nullcontext({})
        # A level is a number from 0, a quality of as many one from 1.
        return nullcontext({"quality": level if self._net.levels is None else level + 1})

    def fingerprint(self, version: int = 2) -> bytes:
        return self._net.bundle.fingerprints[version]

    def latent_layout(self, width: int, height: int) -> tuple[Any, int]:
        return (height, width), self._net.bundle.manifest["strings"]

    def coding_bytes(self, area: int, rate: Mapping[str, Any]) -> int:
        return area * self._net.bytes_a_pixel

    def tiles_bytes(self, tiling: Tiling, rate: Mapping[str, Any]) -> int:
        sides = (padded_side(side, self.multiple) for side in tiling[0][2:])
        width, height = sides
        return self.coding_bytes(width * height, rate)

    def encode(
        self, x: np.ndarray, sync_safe: bool, rate: Mapping[str, Any], **effort: Any
    ) -> tuple[list[bytes], np.ndarray | None]:
        if effort:
            raise ValueError("effort must be 1 without torch: install torch, use --engine torch")
        if not sync_safe and not self.exact:
            raise ValueError(f"sync_safe must not be False for a bundle of {self.name}")
        out = self._net.compress(x, **rate)
        hyper, *others = out["strings"]
        return [*others, hyper], out["y_hat"]

    def decode(
        self,
        strings: Sequence[bytes | None],
        shape: Any,
        sync_safe: bool,
        rate: Mapping[str, Any],
    ) -> Decoded:
        *others, hyper = strings
        out = self._net.decompress([hyper, *others], *shape, **rate)
        return out["x_hat"][0], out["y_hat"]

    def map_in_order(
        self, function: Callable[[Item], Result], items: Sequence[Item], workers: int | None
    ) -> Iterator[Result]:
        if workers is not None and workers < 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        # Networks use all cores by themselves.
        return map(function, items)

    def pixels(self, values: np.ndarray) -> np.ndarray:
        return values
