# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Quantising what encoder and decoder both compute, so that it is the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressai.models.base import CompressionModel
from compressai.models.integer.form import EntropyNetwork, IntegerForm
from compressai.models.integer.layers import (
    EXACT_BELOW,
    INPUT_LIMIT,
    LARGEST_OPERAND,
    IntegerConv2d,
    IntegerNetwork,
    LookUp,
    power_of_two,
)
from compressai.registry import ENTRIES

__all__ = ["quantize_entropy_path"]

# Greatest magnitude behind a table that another convolution follows.
_HIDDEN_LIMIT = 2**11 - 1
# How far other images may go beyond what those for calibration do before they are clamped.
_INPUT_MARGIN, _HIDDEN_MARGIN = 1.5, 1.2
# What correcting a bias may change, and is kept free for that.
_LARGEST_CORRECTION = 2**16
# Scales without need of it are no finer than this.
_FINEST = 30


@torch.no_grad()
def quantize_entropy_path(net: CompressionModel, images: Iterable[Tensor]) -> CompressionModel:
    """Make a model of integers of a trained one, without training.

    Weights get as many digits as exact sums leave room for, a power of two for each output
    channel. Activations are integers of 11 or 12 bits, sign included, whose units come from the
    greatest values that the images give. Biases take up what rounding shifts on average.
    Transforms and the hyper analysis are copies of those of ``net``.

    Args:
        net: trained model of a class that has a form of integers, on the CPU. Of the library's
            that is :class:`~compressai.models.Lite`.
        images: for calibration, each ``(N, 3, H, W)`` in [0, 1] with sides that are multiples of
            64. Some 50 of 256 x 256 that show all kinds of things will do.

    Returns:
        The model, with tables, in evaluation mode. Its strings and its weights are others than
        those of ``net``.

    Raises:
        TypeError: the class of ``net`` has no form of integers, or is one already.
        ValueError: there are no images, or weights or what comes of images are not finite.
    """
    form = _form_of(net)
    for name, parameter in net.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"{name.rpartition('.')[0]}: weights must be finite")
    made = form.like(net)
    networks = list(form.entropy_networks(net))
    samples = _inputs(net, networks, images, form.rates(net))
    for source, target in zip(networks, form.entropy_networks(made)):
        _quantize(
            source.module,
            target.module,
            samples[source.module],
            source.input_exponents,
            target.output_exponent,
            _correction(source.owner.lrp_scale) if source.corrects else None,
        )
    return made


def _correction(scale: float) -> Callable[[Tensor], Tensor]:
    return lambda x: scale * torch.tanh(x)


def _form_of(net: Any) -> type[IntegerForm]:
    """The class of integers for a model, which a row names."""
    forms = {
        entry.model.form_of: entry.model
        for entry in ENTRIES.values()
        if isinstance(entry.model, type) and issubclass(entry.model, IntegerForm)
    }
    if not isinstance(net, IntegerForm):
        for cls in type(net).__mro__:
            if cls in forms:
                return forms[cls]
    known = ", ".join(sorted(cls.__name__ for cls in forms))
    raise TypeError(
        f"net must be of a class that has a form of integers ({known}), got {type(net).__name__}"
    )


def _inputs(
    net: CompressionModel,
    networks: Sequence[EntropyNetwork],
    images: Iterable[Tensor],
    rates: Sequence[Mapping[str, float]],
) -> dict[nn.Module, Tensor]:
    """What comes into each network of the entropy path."""
    found: dict[nn.Module, list[Tensor]] = {}

    def keep(module: nn.Module, inputs: tuple[Tensor]) -> None:
        found.setdefault(module, []).append(inputs[0])

    handles = [place.module.register_forward_pre_hook(keep) for place in networks]
    training = net.training
    try:
        net.eval()
        for x in images:
            for rate in rates:
                net(x, **rate)
    finally:
        net.train(training)
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError("images must be at least one, got none")
    samples = {module: torch.cat(inputs) for module, inputs in found.items()}
    if not all(inputs.isfinite().all() for inputs in samples.values()):
        raise ValueError("images must be finite, and so must be what net computes of them")
    return samples


def _quantize(
    source: nn.Sequential,
    target: IntegerNetwork,
    samples: Tensor,
    finest: Sequence[int],
    output_exponent: int,
    correction: Callable[[Tensor], Tensor] | None,
) -> None:
    """Fill the integers of one network.

    Args:
        source: the network.
        target: its image.
        samples: inputs of ``source``.
        finest: exponents of what inputs are multiples of, one a channel.
        output_exponent: likewise of outputs.
        correction: what is done to outputs by table; ``None`` for nothing.
    """
    layers = dict(target.named_children())
    largest = _INPUT_MARGIN * _largest(samples)
    exponents = torch.floor(torch.log2(INPUT_LIMIT / largest.clamp(min=2.0**-_FINEST)))
    layers["input"].exponent.copy_(torch.minimum(exponents, torch.tensor(finest)))
    layers["output"].exponent.fill_(output_exponent)
    goal = torch.tensor([2.0**-output_exponent], dtype=torch.float64)
    real, integers = samples, layers["input"](samples)
    unit, limit = power_of_two(-layers["input"].exponent, torch.float64), INPUT_LIMIT
    for place in range(0, len(source), 2):
        last = place + 1 == len(source)
        function = correction if last else source[place + 1]
        convolution = layers[str(place)]
        real = source[place](real)
        # A function that commutes with positive factors may have another unit in each channel.
        scalable = isinstance(function, (nn.ReLU, nn.LeakyReLU))
        if function is None:
            inner = goal
        else:
            ends = _HIDDEN_MARGIN * _largest(real).double().clamp(min=2.0**-_FINEST)
            inner = (ends if scalable else ends.amax(dim=0, keepdim=True)) / (LookUp.SIZE // 2 - 1)
        _round_weights(source[place], convolution, unit, inner, limit)
        sums = _correct_bias(convolution, integers, real, inner)
        if function is None:
            continue
        look_up = layers[f"table{place + 1}"]
        places = torch.arange(LookUp.SIZE, dtype=torch.float64) - LookUp.SIZE // 2
        values = function(places if scalable else places * inner)
        outer = goal if last else values.abs().amax(dim=0, keepdim=True) / _HIDDEN_LIMIT
        look_up.table.copy_((values / outer).round())
        if not last:
            real, integers = function(real), look_up(sums)
            unit = (outer * inner if scalable else outer).expand(convolution.weight.shape[0])
            limit = int(look_up.table.abs().max())
    target.check()


def _largest(values: Tensor) -> Tensor:
    """Greatest magnitude in each channel."""
    return values.abs().amax(dim=(0, 2, 3))


def _round_weights(
    source: nn.Module, target: IntegerConv2d, unit_in: Tensor, unit_out: Tensor, limit: int
) -> None:
    """Take the finest powers of two with which sums are exact, for each output channel."""
    axis = target.output_axis

    def along(values: Tensor, axis: int) -> Tensor:
        return values.view([-1 if i == axis else 1 for i in range(4)])

    weight = source.weight.double() * along(unit_in, 1 - axis) / along(unit_out, axis)
    bias = source.bias.double() / unit_out
    target.exponent.fill_(_FINEST)
    while True:
        scale = power_of_two(target.exponent, torch.float64)
        integers, offsets = (weight * along(scale, axis)).round(), (bias * scale).round()
        target.weight.copy_(integers.clamp(-LARGEST_OPERAND, LARGEST_OPERAND))
        target.bias.copy_(offsets.clamp(-EXACT_BELOW, EXACT_BELOW))
        room = EXACT_BELOW - _LARGEST_CORRECTION
        coarser = target.largest_sums(limit) >= room
        coarser |= integers.abs().movedim(axis, 0).flatten(1).amax(dim=1) > LARGEST_OPERAND
        if not coarser.any():
            return
        target.exponent[coarser] -= 1


def _correct_bias(target: IntegerConv2d, integers: Tensor, real: Tensor, unit: Tensor) -> Tensor:
    """Take off biases what rounding adds on average, and give the sums that are left."""
    excess = (target(integers) - real / unit.float()[:, None, None]).mean(dim=(0, 2, 3))
    steps = (excess * power_of_two(target.exponent, torch.float32)).round()
    target.bias -= steps.clamp(-_LARGEST_CORRECTION, _LARGEST_CORRECTION).to(torch.int32)
    return target(integers)
