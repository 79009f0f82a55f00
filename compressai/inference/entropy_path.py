# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Native leaves in the networks that encoder and decoder both run, for synchronised sessions only.

There, results may differ from those of the other side by the tolerance of
:mod:`compressai.entropy_models.synchrony`, so the kernels that round least are good enough. In all
other sessions these networks run as they are: their digits are the format.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from compressai import _kernels
from compressai.entropy_models.session import active_coder
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE, SLOPE
from compressai.inference.converted import ConvertedNetwork
from compressai.inference.fewer_products import divide_products
from compressai.inference.graph import is_native, use_kernels
from compressai.inference.kernels import ExactConv
from compressai.inference.tiles import tile_products
from compressai.inference.transforms import Model
from compressai.models._copies import shallow_copy
from compressai.models.base import coding_networks

__all__ = ["with_native_networks"]

# Of the tolerance: what networks with fewer products or tiles may differ by. The former round more
# than those of torch, and more for other images than for the first.
_SHARE_OF_FEWER = 0.25
# Multiplications for each value that 1x1 layers take and give. With fewer, turning these maps to
# the layout of the kernels takes longer than kernels gain.
_FEWEST_PRODUCTS = 48


def with_native_networks(net: Model) -> Model:
    """Copy a model so that its entropy path runs on native code in synchronised sessions.

    A network is converted when such a session first uses it. What it then computes is compared with
    what the network itself does; one that is further off than the tolerance stays as it is, and so
    does one that has nothing to convert.

    Args:
        net: in evaluation mode; it is not changed.

    Returns:
        A model with the same parameters and other modules, wherever these contain such a network.
    """
    if not _kernels.available():
        return shallow_copy(net)
    networks = set(coding_networks(net))
    twins: dict[nn.Module, nn.Module] = {}

    def twin(module: nn.Module) -> nn.Module:
        if module not in twins:
            if module in networks:
                # One whose forward somebody has replaced cannot be followed.
                twins[module] = module if "forward" in vars(module) else _with_choice(module)
            elif networks.isdisjoint(module.modules()):
                twins[module] = module
            else:
                twins[module] = shallow_copy(module)
                children = twins[module]._modules
                children.update({k: c and twin(c) for k, c in children.items()})
        return twins[module]

    copied: Any = twin(net)
    return shallow_copy(net) if copied is net else copied


def _with_choice(network: nn.Module) -> nn.Module:
    chosen = shallow_copy(network)
    # The module keeps class, parameters, children and hooks, and so its keys of the state dict.
    vars(chosen)["forward"] = _Choice(chosen)
    return chosen


# One for all networks: it is held once for each of them.
_converting = threading.Lock()


class _Choice:
    """What a network computes, by native code if the session is synchronised.

    Args:
        network: its class has the formula.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        # None until the first use; then what to call in synchrony.
        self._synchronised: Callable[..., Any] | None = None

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if active_coder() is None or options or not all(map(_is_map, inputs)):
            return self._plain(*inputs, **options)
        if self._synchronised is None:
            with _converting:
                if self._synchronised is None:
                    self._synchronised, result = self._convert(inputs)
                    return result
        return self._synchronised(*inputs)

    def _plain(self, *inputs: Any, **options: Any) -> Any:
        return type(self._network).forward(self._network, *inputs, **options)

    def _convert(self, inputs: tuple[Tensor, ...]) -> tuple[Callable[..., Any], Any]:
        """The native network if it does on these inputs what the network does, else that.

        And what it computes of them, which is known by then.
        """
        expected = self._plain(*inputs)
        if not isinstance(expected, Tensor) or _is_thin(self._network):
            return self._plain, expected
        most = DEFAULT_TOLERANCE * (1 + SLOPE * expected.abs())
        for native, share in self._native_networks():
            converted = ConvertedNetwork(native, [self._network], torch.float32)
            got = converted(*inputs)
            if got.shape == expected.shape and bool(((got - expected).abs() <= share * most).all()):
                return converted, got
        return self._plain, expected

    def _native_networks(self) -> Iterator[tuple[nn.Module, float]]:
        """Native networks, the fastest first, and what share of the tolerance is theirs."""
        for fewer in (True, False):
            # Weights of inference mode could not be copied with the model later.
            with torch.inference_mode(False), torch.no_grad():
                source = shallow_copy(self._network)
                del vars(source)["forward"]
                native = use_kernels(copy.deepcopy(source).requires_grad_(False), ExactConv)
                fewer = fewer and (tile_products(native) or divide_products(native))
            if any(map(is_native, native.modules())):
                yield native, _SHARE_OF_FEWER if fewer else 1.0
            if not fewer:
                return


def _is_thin(network: nn.Module) -> bool:
    """Whether a network is of 1x1 convolutions with few outputs."""
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not layers or any(layer.kernel_size != (1, 1) for layer in layers):
        return False
    products = sum(layer.in_channels * layer.out_channels for layer in layers)
    values = layers[0].in_channels + layers[-1].out_channels
    return products < _FEWEST_PRODUCTS * values


def _is_map(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.dim() == 4
        and value.dtype == torch.float32
        and value.device.type == "cpu"
    )
