# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How a training computes: mixed precision that spares the entropy models, no denormal numbers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compressai.entropy_models import EntropyModel

__all__ = ["flushed_denormals", "keep_entropy_models_in_fp32"]


@contextlib.contextmanager
def flushed_denormals() -> Iterator[None]:
    """Take numbers nearer to zero than 1e-38 for zero, in all that this process computes inside.

    The gradients of likelihoods have many, and on a processor of Intel or AMD each operation on one
    takes some hundred times as long: of a step of ``lite``, half of the time. Outside, numbers
    are exact, as entropy coders need them; nothing happens on processors that know no such mode.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def keep_entropy_models_in_fp32(net: nn.Module, device_type: str) -> None:
    """Let the entropy models of ``net`` leave any autocast region that they are called in.

    Likelihoods are differences of two close numbers; in bfloat16 the rate would be noise.
    """
    regions = threading.local()  # DataParallel runs one thread a device

    def enter(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        region = torch.autocast(device_type, enabled=False)
        region.__enter__()
        regions.stack = [*getattr(regions, "stack", ()), region]
        return tuple(map(_to_fp32, args)), {key: _to_fp32(v) for key, v in kwargs.items()}

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        regions.stack.pop().__exit__(None, None, None)

    for module in net.modules():
        if isinstance(module, EntropyModel):
            module.register_forward_pre_hook(enter, with_kwargs=True)
            module.register_forward_hook(leave, always_call=True)


def _to_fp32(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
