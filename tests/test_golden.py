# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Every golden case: outputs and bitstreams of the reference, reproduced.

The cases and their tolerances are described in ``tests/golden/README.md``; the checks are those of
the program beside it.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from reference_functions import (
    can_compute_like_the_reference,
    has_vector_functions,
    reference_functions,
)
from tiny_nets import one_thread

TABLES = ("_offset", "_quantized_cdf", "_cdf_length")
GOLDEN = Path(__file__).parent / "golden"


def _load_checker():
    spec = importlib.util.spec_from_file_location("check_golden", GOLDEN / "check_golden.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.take_up_families()
    return module


checker = _load_checker()
options = argparse.Namespace(golden=GOLDEN, project=GOLDEN.parent.parent)


@pytest.mark.parametrize(
    "check", [pytest.param(function, id=name) for _, name, function in checker.cases(options)]
)
def test_golden(check: Callable[[], None]) -> None:
    with torch.no_grad(), one_thread(), reference_functions():
        try:
            check()
        except (checker.Mismatch, ValueError) as error:
            if not can_compute_like_the_reference():
                pytest.xfail(f"a processor without vector instructions: {error}")
            raise


BOTTLENECKS = {
    case.name: case
    for case, _, _ in checker.cases(options)
    if isinstance(case, checker.EntropyBottleneckCase)
}


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_tables_are_those_of_the_reference_but_for_the_last_bits_of_functions(name: str) -> None:
    case = BOTTLENECKS[name]
    bottleneck = case.fresh()
    bottleneck.update(force=True)
    want = {key: torch.from_numpy(case.tensor(key)) for key in TABLES}
    assert torch.equal(bottleneck._offset, want["_offset"])
    assert torch.equal(bottleneck._cdf_length, want["_cdf_length"])
    got, expected = (t.diff(dim=1) for t in (bottleneck._quantized_cdf, want["_quantized_cdf"]))
    assert torch.equal(got.clamp(min=0).sum(1), expected.clamp(min=0).sum(1))
    difference = (got - expected).abs()
    if has_vector_functions():
        assert not bool(difference.any())
    assert int(difference.max()) <= 1
    assert int(difference.count_nonzero()) <= 0.01 * difference.numel()
