# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Hostile arguments do no harm to native code.

Some of the calls of `native/hostile_calls.py` are made here; `make sanitize` makes them all, on a
build with sanitisers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compressai import _CXX, _kernels

PROGRAM = Path(__file__).parent / "native" / "hostile_calls.py"

needs_kernels = pytest.mark.skipif(not _kernels.available(), reason="no kernels for the processor")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each function is called in a forked process")
def test_every_native_function_bears_hostile_arguments() -> None:
    words = [sys.executable, PROGRAM, "--every", "7"]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert int(run.stdout.split()[0]) > 1000


LEVELS = _CXX.ScaleLevels([0.1, 1.0, 2.0, 50.0])
ONES = np.ones((1, 2), dtype=np.float32)


@pytest.mark.parametrize("first", [4, 33, 2**31, 2**40, 2**63])
def test_rows_that_a_table_has_not_are_refused(first: int) -> None:
    for call in (
        lambda: _CXX.table_rows(ONES, LEVELS, first),
        lambda: _CXX.latent_symbols(ONES, None, ONES, LEVELS, first),
    ):
        with pytest.raises(ValueError, match=rf"first must be a row of levels, 0..3, got {first}"):
            call()
    assert _CXX.table_rows(ONES, LEVELS, 3).tolist() == [3, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1e-9])
@pytest.mark.parametrize("name", ["scale_guards", "value_guards", "slope", "step"])
def test_guards_that_mean_nothing_are_refused(name: str, value: float) -> None:
    guards = np.full(1, 1e-3, dtype=np.float32)
    arguments = {
        "scales": ONES,
        "values": ONES,
        "levels": LEVELS,
        "step": 0.25,
        "scale_guards": guards,
        "value_guards": guards,
        "slope": 0.0,
    }
    _CXX.plan_sync(**arguments)
    bad = guards * 0 + value if "guards" in name else value
    with pytest.raises(ValueError, match=rf"{name}\S* must be finite and .*, got "):
        _CXX.plan_sync(**{**arguments, name: bad})


def test_scales_of_minus_zero_are_looked_up_where_thresholds_reach_them() -> None:
    scales = np.array([[-0.0, 0.0, -1.0]], dtype=np.float32)
    none = np.zeros(1, dtype=np.float32)
    ranks, odd, _ = _CXX.plan_sync(scales, None, LEVELS, 0.25, none, None, 0.0)
    assert not odd.size
    rows = _CXX.round_scales(scales, LEVELS, ranks)
    assert rows[0] == rows[1]


@needs_kernels
def test_maps_that_overlap_are_refused_unless_it_does_no_harm() -> None:
    weights = torch.randn(1, 16, 16)
    memory = torch.randn(2, 4, 4, 16)

    def conv(x: torch.Tensor, out: torch.Tensor, residual: torch.Tensor | None = None) -> None:
        _kernels.conv1x1(x, weights, None, 1.0, False, residual, False, 1, 0, out, 1)

    x, other = memory[:1], memory[1:]
    conv(x, other, x)
    for bad in (x, memory.view(-1)[16 : 16 + x.numel()].view(x.shape)):
        with pytest.raises(ValueError, match="out must share no memory with x, got arrays"):
            conv(x, bad)
    with pytest.raises(ValueError, match="out must share no memory with residual"):
        conv(x, other, other)
    with pytest.raises(ValueError, match="out must share no memory with weights"):
        conv(x[:, :1, :1], weights[:, 3].view(1, 1, 1, 16))


@needs_kernels
def test_windows_are_written_to_the_map_they_come_from_or_beside_it() -> None:
    def block(x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        qkv, proj = torch.randn(3, 16, 16), torch.randn(1, 16, 16)
        bias = torch.zeros(4 * 2 * 4 * 32)
        _kernels.window_block(
            *(x, out, (2, 2), 1, 2, 0.5, bias, True, None),
            *((qkv, torch.zeros(48)), (proj, torch.zeros(16)), None, None, 1),
        )
        return out

    x = torch.randn(2, 5, 3, 16)
    expected = block(x, torch.empty_like(x))
    same = x.clone()
    assert torch.equal(block(same, same), expected)
    wide = torch.cat([x, torch.zeros(2, 5, 3, 24)], dim=-1)
    assert torch.equal(block(wide[..., :16], wide[..., 20:36]), expected)
    assert torch.equal(wide[..., :16], x)
    for bad in (wide[..., 8:24], torch.empty(5, 3, 16).expand(2, 5, 3, 16)):
        with pytest.raises(ValueError, match="out must"):
            block(wide[..., :16], bad)
    # Channels behind those of x in a row that is narrower than both together.
    narrow = (2, 5, 3, 16), (5 * 112, 112, 32, 1)
    memory = torch.zeros(2 * 5 * 112 + 32)
    with pytest.raises(ValueError, match="out must be x, or other channels"):
        block(memory.as_strided(*narrow), memory.as_strided(*narrow, storage_offset=32))
