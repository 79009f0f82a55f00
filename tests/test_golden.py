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
    return module


checker = _load_checker()
options = argparse.Namespace(golden=GOLDEN, project=GOLDEN.parent.parent)


@pytest.mark.parametrize(
    "check", [pytest.param(function, id=name) for _, name, function in checker.cases(options)]
)
def test_golden(check: Callable[[], None]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            check()
    finally:
        torch.set_num_threads(threads)
