# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coding images with models of torch; see :mod:`compressai.bitstream._engine`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressai.bitstream._engine import Decoded, Item, Result
from compressai.bitstream._memory import coding_bytes, tiles_bytes
from compressai.bitstream._nets import (
    build_tables,
    check_entropy_coder,
    is_exact,
    latent_layout,
    padding_multiple,
    prepared_for,
    rate_level,
    supports_sync_safe,
)
from compressai.bitstream._parallel import map_in_order
from compressai.bitstream.errors import UnsupportedFileError
from compressai.bitstream.hashes import fingerprint
from compressai.bitstream.tiling import Tiling
from compressai.models.effort import compress_with_effort

__all__ = ["TorchEngine"]


class TorchEngine:
    """A model of torch, whichever it is; see :class:`~compressai.bitstream._engine.Engine`.

    Args:
        net: the model.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.name = type(net).__name__
        self.multiple = padding_multiple(net)
        self.identity = getattr(net, "identity", None)
        self.supports_sync_safe = supports_sync_safe(net)

    @property
    def exact(self) -> bool:
        return is_exact(self.net)

    def check_coder(self) -> None:
        check_entropy_coder(self.net)

    def check_file(self, version: int, sync_safe: bool) -> None:
        if sync_safe and not self.supports_sync_safe:
            raise UnsupportedFileError(
                f"the file is sync-safe, which {self.name} cannot decode: update it"
            )

    def rate_level(self, quality: float | None) -> float | None:
        return rate_level(self.net, quality)

    def prepared_for(self, level: float | None) -> AbstractContextManager[Mapping[str, Any]]:
        build_tables(self.net)
        return prepared_for(self.net, level)

    def fingerprint(self, version: int = 2) -> bytes:
        return fingerprint(self.net, version)

    def latent_layout(self, width: int, height: int) -> tuple[Any, int]:
        return latent_layout(self.net, width, height)

    def coding_bytes(self, area: int, rate: Mapping[str, Any]) -> int:
        return coding_bytes(self.net, area, rate)

    def tiles_bytes(self, tiling: Tiling, rate: Mapping[str, Any]) -> int:
        return tiles_bytes(self.net, tiling, rate)

    def encode(
        self, x: np.ndarray, sync_safe: bool, rate: Mapping[str, Any], **effort: Any
    ) -> tuple[list[bytes], np.ndarray | None]:
        arguments: dict[str, Any] = {"sync_safe": True, **rate} if sync_safe else {**rate}
        image = torch.from_numpy(x).to(next(self.net.parameters()))
        if effort:
            out = compress_with_effort(self.net, image, **effort, **arguments)
        else:
            out = self.net.compress(image, **arguments)
        return [step[0] for step in out["strings"]], _array(out.get("y_hat"))

    def decode(
        self,
        strings: Sequence[bytes | None],
        shape: Any,
        sync_safe: bool,
        rate: Mapping[str, Any],
    ) -> Decoded:
        arguments: dict[str, Any] = {"sync_safe": True, **rate} if sync_safe else {**rate}
        out = self.net.decompress([[string] for string in strings], shape, **arguments)
        x_hat = _array(out["x_hat"])
        assert x_hat is not None
        return x_hat[0], _array(out.get("y_hat"))

    def map_in_order(
        self, function: Callable[[Item], Result], items: Sequence[Item], workers: int | None
    ) -> Iterator[Result]:
        return map_in_order(function, items, workers)

    def pixels(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values)


def _array(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.detach().float().cpu().numpy()
