# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The analysis and the synthesis of a model, as networks of their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from compressai.layers import GDN
from compressai.models import CompressionModel
from compressai.models._copies import shallow_copy

__all__ = [
    "TRANSFORMS",
    "CopiedTransform",
    "Model",
    "check_model",
    "copy_transform",
    "fold_gdn",
    "probe_image",
]

TRANSFORMS = ("g_a", "g_s")

Model = TypeVar("Model", bound=CompressionModel)


@dataclass(frozen=True)
class CopiedTransform:
    """A transform whose weights can be changed without changing the model's.

    Attributes:
        network: holds the copies.
        call: runs them.
        sources: the modules of the model that were copied.
    """

    network: nn.Module
    call: Callable[[Tensor], Tensor]
    sources: list[nn.Module]


def check_model(net: Model) -> Model:
    """The model that was prepared if ``net`` is a prepared one, else ``net``.

    Raises:
        TypeError: ``net`` is no :class:`~compressai.models.CompressionModel`.
        ValueError: it is in training mode or has no ``g_a`` and ``g_s``.
    """
    if not isinstance(net, CompressionModel):
        raise TypeError(f"net must be a CompressionModel, got {type(net).__name__}")
    before = vars(net).get("preparation")
    reference = net if before is None else before.reference
    if reference.training:
        raise ValueError("net must be in evaluation mode: call net.eval() first")
    if not all(hasattr(reference, name) for name in TRANSFORMS):
        raise ValueError(
            f"net must have the transforms g_a and g_s, {type(reference).__name__} has not"
        )
    return reference


def probe_image(net: CompressionModel) -> Tensor:
    """Noise ``(1, C, H, W)`` of the smallest size that a model takes, on its device."""
    side = getattr(net, "downsampling_factor", 64)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, net.image_channels, side, side, generator=generator)
    return image.to(next(net.parameters()).device)


def copy_transform(net: CompressionModel, name: str) -> CopiedTransform:
    """Copy ``g_a`` or ``g_s``.

    Args:
        net: the model.
        name: of the transform, a module or a method. If it is a method, the class attribute
            ``transform_parts`` tells which submodules it uses: ``{name: (names...)}``.

    Raises:
        ValueError: it is a method and the class does not tell.
    """
    if name in net._modules:
        source = getattr(net, name)
        network = copy.deepcopy(source).requires_grad_(False)
        return CopiedTransform(network, network, [source])
    parts = getattr(net, "transform_parts", {}).get(name)
    if parts is None:
        raise ValueError(
            f"{name} of {type(net).__name__} is a method: name the submodules that it uses in the "
            f"class attribute transform_parts, {{{name!r}: (names...)}}"
        )
    # The method gets a net with copied submodules, and nothing else.
    network = shallow_copy(net)
    network._modules = {part: copy.deepcopy(getattr(net, part)) for part in parts}
    network._parameters, network._buffers = {}, {}
    network.requires_grad_(False)
    return CopiedTransform(network, getattr(network, name), [getattr(net, part) for part in parts])


def fold_gdn(network: nn.Module) -> None:
    """Compute once what GDN makes of its parameters at each call, in the precision that they have.

    Its formula stays: only the two functions that keep parameters in range become the identity.
    """
    for gdn in network.modules():
        if isinstance(gdn, GDN):
            gdn.gamma = nn.Parameter(gdn.gamma_reparam(gdn.gamma), requires_grad=False)
            gdn.beta = nn.Parameter(gdn.beta_reparam(gdn.beta), requires_grad=False)
            gdn.gamma_reparam = gdn.beta_reparam = nn.Identity()
