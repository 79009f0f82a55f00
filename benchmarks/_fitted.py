# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Random weights that behave like trained ones where it matters to entropy coding.

Every layer's output has unit deviation, channels of the latent have deviations from nearly nothing
to a few steps of the quantiser, as those of trained models have, and predicted scales are about
right. What such a model makes of a picture is noise, but its rate, its statistics and the way
deviations travel through its networks are those of a working codec.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    CheckerboardLatentCodec,
    LRPGaussianLatentCodec,
)

__all__ = ["fit"]

_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def fit(net: nn.Module, picture: Tensor, spread: tuple[float, float] = (0.02, 3.0)) -> None:
    """Scale the weights of a model in place, layer by layer, as it codes a picture.

    Args:
        net: a model with ``g_a`` and ``latent_codec``, in evaluation mode.
        picture: ``(1, 3, H, W)``.
        spread: lowest and highest deviation of the latent's channels.
    """
    generator = torch.Generator().manual_seed(0)
    last = [m for m in net.g_a.modules() if isinstance(m, _LAYERS)][-1]
    low, high = torch.tensor(spread).log()
    channels = last.weight.size(0)
    deviations = torch.exp(low + (high - low) * torch.rand(channels, generator=generator))
    targets: dict[nn.Module, tuple[Tensor | None, Tensor]] = {last: (None, deviations)}
    targets.update(_heads(net, deviations))

    def scale(layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        axes = [axis for axis in range(output.dim()) if axis != _channel_axis(layer, output)]
        shape = [-1 if axis == _channel_axis(layer, output) else 1 for axis in range(output.dim())]
        centre, deviation = targets.get(layer, (None, torch.ones(1)))
        factor = deviation / output.std(dim=axes).clamp_min(1e-6)
        mean = output.mean(dim=axes)
        shift = (0 if centre is None else centre) - mean * factor
        rows = (1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        layer.weight.mul_(factor.view(rows[: layer.weight.dim()]))
        if layer.bias is not None:
            layer.bias.mul_(factor).add_(shift)
        else:
            shift = torch.zeros_like(factor)
        return output * factor.view(shape) + shift.view(shape)

    hooks = [m.register_forward_hook(scale) for m in net.modules() if isinstance(m, _LAYERS)]
    try:
        with torch.no_grad():
            net(picture)
    finally:
        for hook in hooks:
            hook.remove()
    net.update(force=True, solve_quantiles=True)


def _channel_axis(layer: nn.Module, output: Tensor) -> int:
    return output.dim() - 1 if isinstance(layer, nn.Linear) else 1


def _heads(net: nn.Module, deviations: Tensor) -> Iterator[tuple[nn.Module, tuple[Tensor, Tensor]]]:
    """Last layers of what predicts scales, means and corrections: with centre and deviation."""
    groups = net.latent_codec.y
    if not isinstance(groups, ChannelGroupsLatentCodec):
        raise ValueError(f"only models with slices of channels can be fitted, not {type(net)}")
    for k, part in enumerate(deviations.split(groups.groups)):
        leaf = groups.latent_codec[f"y{k}"]
        zero = torch.zeros_like(part)
        if isinstance(leaf, LRPGaussianLatentCodec):
            context = groups.channel_context[f"y{k}"]
            yield context.scale_cc[-1], (part, 0.3 * part)
            yield context.mean_cc[-1], (zero, 0.5 * part)
            yield leaf.lrp_transform[-1], (zero, torch.full_like(part, 0.3))
        elif isinstance(leaf, CheckerboardLatentCodec):
            pairs = {"scales": (part, 0.3 * part), "means": (zero, 0.5 * part)}
            both = [pairs[name] for name in leaf.y.chunks]
            yield leaf.entropy_parameters[-1], tuple(torch.cat(each) for each in zip(*both))
