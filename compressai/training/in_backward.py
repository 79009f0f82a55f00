# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Steps that are taken while the gradients are computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, optim

from compressai._freed_memory import give_back_freed_memory

__all__ = ["steps_in_backward"]


@contextmanager
def steps_in_backward(optimizer: optim.Optimizer) -> Iterator[None]:
    """Have ``backward()`` move each parameter as soon as its gradient is there, and drop that.

    So there are never all gradients at once, which take as much memory as the weights. The result
    is that of a step afterwards: no parameter is needed once its gradient is complete.

    Args:
        optimizer: one whose parameters move independently of each other, such as Adam. Their
            gradients must be ``None`` before.
    """
    groups = [(group, group["params"]) for group in optimizer.param_groups]
    owners = {parameter: group for group, parameters in groups for parameter in parameters}

    def step(parameter: Tensor) -> None:
        for group, _ in groups:
            group["params"] = [parameter] if group is owners[parameter] else []
        try:
            optimizer.step()
        finally:
            for group, parameters in groups:
                group["params"] = parameters
        parameter.grad = None

    with ExitStack() as hooks:
        for parameter in owners:
            hooks.callback(parameter.register_post_accumulate_grad_hook(step).remove)
        # What is free lies between weights and maps, and would not do for the next large ones.
        give_back_freed_memory()
        yield
        give_back_freed_memory()
