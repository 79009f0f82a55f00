# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The input of an analysis in bfloat16: samples as the whole numbers that they are in files.

bfloat16 has eight significant bits. It holds the numbers 0 to 255 exactly, but rounds a sample in
[0, 1] by up to half a grey level. In ``lite``, that costs as much quality as all later roundings
together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

__all__ = ["scale_input"]

_WHITE = 255


def scale_input(network: nn.Module, call: Callable[[Tensor], Tensor], probe: Tensor) -> int:
    """Let a network expect its input times 255, in place, where that is possible.

    Convolutions are linear: those that see the samples of the image, in whatever order, get their
    weights divided. The result is compared with that of the network as it was, so that a network
    that also uses the samples otherwise stays as it is.

    Args:
        network: an analysis in float32, for images in [0, 1].
        call: how to run it.
        probe: an image ``(1, C, H, W)`` of a size that it takes; only its shape and device matter.

    Returns:
        What the input is to be multiplied by from now on: 255, or 1 if the network is as it was.
    """
    generator = torch.Generator().manual_seed(0)
    samples = torch.arange(_WHITE + 1, device=probe.device) / _WHITE
    image = samples[torch.randint(0, _WHITE + 1, probe.shape, generator=generator).to(probe.device)]
    convolutions, expected = _convolutions_of(samples, network, call, image)
    weights = [conv.weight.clone() for conv in convolutions]
    for conv in convolutions:
        conv.weight.div_(_WHITE)
    error = (call(image * _WHITE) - expected).abs().max()
    if convolutions and error <= 1e-4 * expected.abs().max():
        return _WHITE
    for conv, weight in zip(convolutions, weights):
        conv.weight.copy_(weight)
    return 1


def _convolutions_of(
    samples: Tensor, network: nn.Module, call: Callable[[Tensor], Tensor], image: Tensor
) -> tuple[list[nn.Conv2d], Tensor]:
    """The convolutions whose input consists of ``samples``, and the result of the network."""
    found: dict[nn.Conv2d, None] = {}

    def look(conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        if torch.isin(inputs[0], samples).all():
            found[conv] = None

    hooks = [
        module.register_forward_pre_hook(look)
        for module in network.modules()
        if type(module) is nn.Conv2d
    ]
    try:
        result = call(image)
    finally:
        for hook in hooks:
            hook.remove()
    return list(found), result
