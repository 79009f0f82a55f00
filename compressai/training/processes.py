# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The processes of a run: one, or those that ``torchrun`` starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Processes", "process_group"]


@dataclass(frozen=True)
class Processes:
    """The place of this process in a run.

    Attributes:
        rank: number of this process, from 0; process 0 writes and tells.
        count: number of processes.
        device: what this process computes on.
        launched: ``torchrun`` started it, be it alone.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    launched: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and log lines."""
        return self.rank == 0

    def wrap(self, net: nn.Module, loss: Callable[[nn.Module], Tensor]) -> nn.Module:
        """``net`` with gradients that are averaged over the processes, weights from process 0.

        Args:
            net: the model.
            loss: gives the loss of some input, to find out what it depends on.
        """
        if self.count == 1:
            return net
        # The quantiles have a loss of their own, which depends on no image, and other parameters
        # may not be in use: DistributedDataParallel would wait for their gradients. It takes the
        # parameters that need a gradient when it is made.
        parameters = [p for p in net.parameters() if p.requires_grad]
        with torch.random.fork_rng(), torch.enable_grad():
            gradients = torch.autograd.grad(loss(net), parameters, allow_unused=True)
        unused = [p for p, gradient in zip(parameters, gradients) if gradient is None]
        for parameter in unused:
            parameter.requires_grad_(False)
        try:
            return nn.parallel.DistributedDataParallel(net)
        finally:
            for parameter in unused:
                parameter.requires_grad_(True)

    def sum(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Sums over the processes of numbers, all in one message.

        Args:
            values: 0-d tensors; as many in every process.

        Returns:
            As many 0-d tensors without gradient.
        """
        if self.count == 1:
            return [value.detach() for value in values]
        together = torch.stack([value.detach().double() for value in values])
        dist.all_reduce(together)
        return [total.to(value.dtype) for total, value in zip(together, values)]

    def same(self, value: Any) -> Any:
        """What process 0 has."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, device=self.device)
        return values[0]


@contextlib.contextmanager
def process_group(cuda: bool) -> Iterator[Processes]:
    """Join the other processes if ``torchrun`` started this one.

    Args:
        cuda: compute on the GPU and talk over NCCL; else on the CPU over gloo.
    """
    launched = {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= set(os.environ)
    if not launched:
        yield Processes(device=torch.device("cuda" if cuda else "cpu"))
        return
    device = torch.device("cpu")
    if cuda:
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device, launched=True)
    finally:
        dist.destroy_process_group()
