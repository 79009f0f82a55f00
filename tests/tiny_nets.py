# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image models small enough to code an image in milliseconds, whose symbols are not all zero."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from processors import threads
from torch import nn

from compressai.models import get_scale_table
from compressai.registry import ENTRIES, MODELS

__all__ = ["SIZES", "one_thread", "tiny_net"]

_NAMES = (
    *("bmshj2018-factorized", "bmshj2018-hyperprior", "mbt2018-mean", "mbt2018"),
    *("cheng2020-anchor", "cheng2020-anchor-checkerboard"),
    *("elic2022-official", "elic2022-chandelier"),
    *("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr"),
)
SIZES = {name: ENTRIES[name].small for name in _NAMES}


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Small networks only get slower by threads, much so where tests run in parallel.

    Where ``COMPRESSAI_TEST_THREADS`` asks for more (see :mod:`processors`), it is that many.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tiny_net(model: str, seed: int = 0) -> nn.Module:
    """A model with tables, in evaluation mode; the same for the same arguments."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        net = MODELS[model](**SIZES[model]).eval()
        convolutions = [m for m in net.g_a.modules() if isinstance(m, nn.Conv2d)]
        with torch.no_grad():
            convolutions[-1].weight.mul_(12)
            for module in net.modules():
                if isinstance(module, nn.Conv2d) and module.bias is not None:
                    module.bias.uniform_(0.2, 1)
    net.update(scale_table=get_scale_table(0.11, 16, 12))
    return net
