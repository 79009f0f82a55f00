# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Fusion of layers for inference, which may change the last digits of a result."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from compressai.layers import (
    ResidualBlock,
    ResidualBlockUpsample,
    ResidualBlockWithStride,
    ResidualBottleneckBlock,
)
from compressai.layers.attn import WMSA

__all__ = [
    "can_fuse_convolutions",
    "fuse",
    "fuse_activations",
    "last_layer",
    "merge_projections",
    "replace_module",
]


class FusedConv(nn.Module):
    """Convolution that applies an activation as it writes its results (oneDNN).

    Args:
        conv: the convolution.
        activation: one of :data:`_ACTIVATIONS`.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.kind, self.algorithm = _ACTIVATIONS[type(activation)]
        self.scalars = [activation.negative_slope] if self.kind == "leaky_relu" else []

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return torch.ops.mkldnn._convolution_pointwise(
            x,
            conv.weight,
            conv.bias,
            conv.padding,
            conv.stride,
            conv.dilation,
            conv.groups,
            self.kind,
            self.scalars,
            self.algorithm,
        )


# Names of the activations in oneDNN, and of the way to compute them.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, str]] = {
    nn.ReLU: ("relu", ""),
    nn.LeakyReLU: ("leaky_relu", ""),
    nn.GELU: ("gelu", "none"),
}
# The convolutions of a block, and the activation that is behind all of them and nowhere else. A
# pixel shuffle between makes no difference.
_OWN = "the block's own activation, whichever it is"
_PAIRS: dict[type[nn.Module], tuple[tuple[tuple[str, ...], str], ...]] = {
    ResidualBlock: ((("conv1", "conv2"), _OWN),),
    ResidualBlockWithStride: ((("conv1",), _OWN),),
    ResidualBlockUpsample: ((("subpel_conv.0",), _OWN),),
    ResidualBottleneckBlock: ((("conv1",), "relu1"), (("conv2",), "relu2")),
}


def fuse(network: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Let layers do in one go what they do in two, in place.

    Convolutions apply the activation behind them, in sequences and in the blocks of
    :mod:`compressai.layers`, where the processor can; pairs of linear layers become one.

    Args:
        network: with weights in float32.
        dtype: what it is going to compute in.
        device: where.
    """
    for module in list(network.modules()):
        if isinstance(module, WMSA):
            merge_projections(module)
    if can_fuse_convolutions(device, dtype):
        fuse_activations(network, FusedConv)


def fuse_activations(
    network: nn.Module, fused: Callable[[nn.Conv2d, nn.Module], nn.Module]
) -> None:
    """Make one module of a convolution and the activation behind it, in place.

    Args:
        network: with sequences, or blocks of :mod:`compressai.layers`.
        fused: makes the module.
    """
    for module in list(network.modules()):
        pairs = _PAIRS.get(type(module), ())
        if isinstance(module, nn.Sequential):
            names = [name for name, _ in module.named_children()]
            pairs = tuple(((a,), b) for a, b in pairwise(names))
        for convolutions, activation in pairs:
            if activation == _OWN:
                activation = module.activation_name
            _fuse_pair(module, convolutions, activation, fused)


def can_fuse_convolutions(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are fused convolutions of a type on a device."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _fuse_pair(
    block: nn.Module,
    convolutions: tuple[str, ...],
    activation: str,
    fused: Callable[[nn.Conv2d, nn.Module], nn.Module],
) -> None:
    act = block.get_submodule(activation)
    convs = [block.get_submodule(name) for name in convolutions]
    if type(act) not in _ACTIVATIONS or not all(map(_is_plain, convs)):
        return
    if getattr(act, "approximate", "none") != "none":
        return
    for name, conv in zip(convolutions, convs):
        parent, _, leaf = name.rpartition(".")
        setattr(block.get_submodule(parent), leaf, fused(conv, act))
    setattr(block, activation, nn.Identity())


def _is_plain(conv: nn.Module) -> bool:
    """Whether oneDNN's convolution is told all that this one is."""
    return (
        type(conv) is nn.Conv2d
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
    )


def merge_projections(attention: WMSA) -> None:
    """Make one linear layer of the two behind an attention."""
    first, second = attention.attn.proj, attention.output_proj
    if not isinstance(second, nn.Linear) or second.in_features != second.out_features:
        return
    wide = second.weight.double()
    merged = nn.Linear(first.in_features, second.out_features, device=wide.device)
    merged.weight.copy_(wide @ first.weight.double())
    merged.bias.copy_(wide @ first.bias.double() + second.bias.double())
    attention.attn.proj = merged.to(second.weight.dtype).requires_grad_(False)
    attention.output_proj = nn.Identity()


def last_layer(
    network: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[nn.Module, Tensor]:
    """The layer with weights that runs last, and the result.

    Args:
        network: what has layers.
        call: how to run it, on ``x``.
    """
    ran: list[nn.Module] = []
    leaves = [m for m in network.modules() if m._parameters and not m._modules]
    hooks = [leaf.register_forward_hook(lambda module, *_: ran.append(module)) for leaf in leaves]
    try:
        result = call(x)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1], result


def replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` is in ``network``, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is old and parent is not new:
                setattr(parent, name, new)
