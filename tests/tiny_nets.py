# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image models small enough to code a picture in milliseconds, whose symbols are not all zero."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from processors import threads
from torch import nn

from compressai.models import get_scale_table
from compressai.registry import MODELS

__all__ = ["SIZES", "one_thread", "tiny_net"]

SIZES = {
    "bmshj2018-factorized": {"N": 4, "M": 6},
    "bmshj2018-hyperprior": {"N": 4, "M": 6},
    "mbt2018-mean": {"N": 4, "M": 6},
    "mbt2018": {"N": 4, "M": 6},
    "cheng2020-anchor": {"N": 4},
    "cheng2020-anchor-checkerboard": {"N": 4},
    "elic2022-official": {"N": 4, "M": 10, "groups": [2, 3, 5]},
    "elic2022-chandelier": {"N": 4, "M": 10, "groups": [2, 3, 5]},
}


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
