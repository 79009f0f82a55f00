# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The preparation of a model for inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressai.inference.converted import ConvertedNetwork
from compressai.inference.entropy_path import with_native_networks
from compressai.inference.fewer_products import divide_products
from compressai.inference.graph import use_kernels, use_kernels_inside
from compressai.inference.precision import choose_precision
from compressai.inference.tiles import tile_products
from compressai.inference.transforms import (
    TRANSFORMS,
    Model,
    check_model,
    copy_transform,
    fold_gdn,
    probe_image,
)
from compressai.models import CompressionModel

__all__ = ["Preparation", "prepare"]


# What a converted transform may differ from the original on the probe, over the largest or over the
# norm of what the original gives. Kernels differ by 1e-5, bfloat16 by 1e-2; another formula by 1.
_MOST = {torch.float32: 1e-3, torch.bfloat16: 0.1}


@dataclass(frozen=True)
class Preparation:
    """How a model was prepared; the attribute ``preparation`` of what :func:`prepare` returns.

    Attributes:
        reference: the model that was prepared, as it was.
        dtype: what its synthesis computes in.
        compile: whether its transforms are compiled.
    """

    reference: CompressionModel
    dtype: torch.dtype
    compile: bool


def prepare(net: Model, precision: str = "auto", compile: bool = False) -> Model:
    """Return a model like ``net`` whose transforms are fast; ``net`` itself stays as it is.

    ``g_a`` and ``g_s`` are converted copies. All other weights are shared with ``net``, state dict
    and fingerprint are those of ``net``, and what both encoder and decoder compute is computed by
    the same operations in float32. So every preparation decodes every string to the same ``y_hat``.

    With ``sync_safe``, encoder and decoder need not compute the same digits. There these networks
    run on native code, too, within the tolerance; they are converted when they are first used so.

    Converted transforms add in another order, so that the latent differs from that of ``net`` in
    its last digits, and now and then a value half-way between two integers is coded as the other
    one. For the very strings of ``net``, call ``net``.

    Each converted transform is compared with the original on a small image, so that what kernels
    compute is what the network's own ``forward`` says.

    Args:
        net: model in evaluation mode, on the device where it is to run. A model that is prepared
            already is prepared anew from what it was made of.
        precision: of the synthesis: ``"fp32"``, ``"bf16"``, or ``"auto"`` for bfloat16 where it is
            the faster one (see :func:`~compressai.inference.has_native_bfloat16`), else float32.
            Its last layer stays in float32, so that images do not lose digits that they are
            measured with. The analysis is in float32: files do not depend on the precision.
        compile: hand the transforms to :func:`torch.compile`. The first image of a size then
            takes minutes; for programs that code many.

    Returns:
        A model of the same class. It refuses to run if weights of ``net`` changed or moved since.

    Raises:
        TypeError: ``net`` is no :class:`~compressai.models.CompressionModel`.
        ValueError: ``net`` is in training mode or has no ``g_a`` and ``g_s``, unknown
            ``precision``, or a converted transform computes something else than the original.
    """
    reference = check_model(net)
    probe = probe_image(reference)
    preparation = Preparation(reference, choose_precision(precision, probe.device), bool(compile))
    prepared = with_native_networks(reference)
    for name in TRANSFORMS:
        dtype = torch.float32 if name == "g_a" else preparation.dtype
        network, probe = _convert(reference, name, probe, dtype, preparation.compile)
        # Past nn.Module, which would register it: state dict and fingerprint are those of `net`.
        vars(prepared)[name] = network
    vars(prepared)["preparation"] = preparation
    return prepared


def _convert(
    net: CompressionModel, name: str, probe: Tensor, dtype: torch.dtype, compile: bool
) -> tuple[ConvertedNetwork, Tensor]:
    """The converted transform, and what the original one makes of ``probe``."""
    copied = copy_transform(net, name)
    network, call = copied.network, copied.call
    with torch.no_grad():
        last, expected = _last_layer(network, call, probe)
        fold_gdn(network)
        if dtype != torch.float32:
            _replace_module(network, last, _Float32(last))
        elif not compile and probe.device.type == "cpu":
            if call is network:
                network = call = use_kernels(network)
            else:
                use_kernels_inside(network)
            if not tile_products(network):
                divide_products(network)
        network.to(dtype, memory_format=torch.channels_last)
        last.float()
    if compile:
        call = torch.compile(call)
        return ConvertedNetwork(call, copied.sources, dtype), expected
    converted = ConvertedNetwork(call, copied.sources, dtype)
    _compare(name, converted(probe), expected, dtype)
    return converted, expected


def _compare(name: str, got: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    if got.shape == expected.shape:
        error = (got - expected).abs()
        if dtype == torch.float32:
            deviation = float(error.max() / expected.abs().max().clamp(min=1e-6))
        else:
            deviation = float(error.norm() / expected.norm().clamp(min=1e-6))
        if deviation <= _MOST[dtype]:
            return
    raise ValueError(
        f"{name} cannot be prepared: converted, it computes something else than the model, so one "
        "of its modules does not do what its class says; use the model as it is"
    )


def _last_layer(
    network: nn.Module, call: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[nn.Module, Tensor]:
    """The layer with weights that runs last when ``call`` runs, and the result."""
    ran: list[nn.Module] = []
    leaves = [m for m in network.modules() if m._parameters and not m._modules]
    hooks = [leaf.register_forward_hook(lambda module, *_: ran.append(module)) for leaf in leaves]
    try:
        result = call(x)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1], result


def _replace_module(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` is in ``network``, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child is old and parent is not new:
                setattr(parent, name, new)


class _Float32(nn.Module):
    """A layer that computes in float32 whatever surrounds it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.float())
