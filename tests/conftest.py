# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Fixtures that tests of several files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tiny_nets import one_thread, tiny_net
from torch import nn


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    """Small networks only get slower by threads; see :func:`tiny_nets.one_thread`."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """A small model with a hyperprior, unless a file has a ``net`` of its own."""
    return tiny_net("mbt2018-mean")
