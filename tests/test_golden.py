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


# The reference ran on a processor on which tanh of the framework (of MKL) rounds like this.
# Elsewhere one value in 150 differs in its last bit. Tables of bottlenecks are made of thousands
# of them, and in these cases one lies so close to an edge that an integer of a table changes.
REFERENCE_TANH = {
    1.2890996932983398: 0.8588905334472656,
    0.43036291003227234: 0.4056245684623718,
    0.36066827178001404: 0.34580254554748535,
    0.9568509459495544: 0.7428689002990723,
}
TANH_SENSITIVE = {"stf.small.encode", "stf.small.decode"}


def _tanh_rounds_like_the_reference() -> bool:
    x = torch.tensor(list(REFERENCE_TANH)).repeat_interleave(16)
    want = torch.tensor(list(REFERENCE_TANH.values())).repeat_interleave(16)
    return torch.equal(torch.tanh(x), want)


# Checks that hang on the last bit of thousands of sigmoids and tanhs, of which tables of the
# bottlenecks are made. The reference computed them with vector instructions; without these, torch
# has other code.
OF_TABLES = {"tables", "update", *("encode", "decode", "decode_z", "compress", "decompress")}


def _has_vector_functions() -> bool:
    return torch.backends.cpu.get_cpu_capability() != "DEFAULT"


# One row of this table of z hangs on the last bit of one tanh (channel 177, sample 228: 1656.5 of
# 65536, a tie), which MKL rounds differently on processors of other makers.
_PROCESSOR_DEPENDENT = pytest.mark.xfail(
    reason="a tie in a table of the reference, decided by the processor's tanh", strict=False
)
_MARKS = {"stf.small.encode": _PROCESSOR_DEPENDENT, "stf.small.decode": _PROCESSOR_DEPENDENT}


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(function, id=name, marks=_MARKS.get(name, ()))
        for _, name, function in checker.cases(options)
    ],
)
def test_golden(check: Callable[[], None], request: pytest.FixtureRequest) -> None:
    if request.node.callspec.id in TANH_SENSITIVE and not _tanh_rounds_like_the_reference():
        pytest.xfail("tanh rounds otherwise on this processor")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            check()
    except (checker.Mismatch, ValueError) as error:
        if request.node.callspec.id.rpartition(".")[2] in OF_TABLES and not _has_vector_functions():
            pytest.xfail(f"without AVX2, torch rounds functions otherwise: {error}")
        raise
    finally:
        torch.set_num_threads(threads)
