# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Native leaves in the graph of a network, found by following its own ``forward``.

A network is traced (:mod:`torch.fx`), not rewritten: its blocks' ``forward`` stay the only
description of them. In the graph that this gives, layers that native code computes faster are
replaced, and do in one pass what stands directly behind them: a pixel shuffle, an activation, a
sum. What cannot be traced, because it decides by the sizes of what it sees, runs as it is, with its
children replaced.
"""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx, nn

from compressai import _kernels
from compressai.inference.gated_blocks import NativeSparseAttention, native_gated_block
from compressai.inference.kernels import (
    ChannelsLastNorm,
    NativeConv,
    NativeDepthwise,
    NativeGDN,
    NativeLinear,
    NativePair,
    fill_panels,
    split_convolution,
)
from compressai.inference.window_kernels import NativeWindowBlock, native_window_block

__all__ = ["is_native", "use_kernels", "use_kernels_inside"]

# They do nothing in evaluation mode.
_TRANSPARENT = (nn.Identity, nn.Dropout)
_NATIVE = (
    *(NativeGDN, ChannelsLastNorm, NativeWindowBlock, NativeSparseAttention),
    *(NativeConv, NativePair, NativeLinear, NativeDepthwise),
)
_ADDITIONS = frozenset({operator.add, operator.iadd, torch.add})
_PRODUCTS = frozenset({operator.mul, operator.imul, torch.mul})


def use_kernels(network: nn.Module, leaf: type[NativeConv] = NativeConv) -> nn.Module:
    """Let native code compute what it computes faster.

    Nothing changes on processors without kernels.

    Args:
        network: float32, on the CPU, in evaluation mode. It is changed.
        leaf: what takes the place of convolutions that it fits.

    Returns:
        What to use in its place: a graph, or ``network`` itself where it cannot be traced.
    """
    if not _kernels.available():
        return network
    _replace_blocks(network)
    return _fused(network, set(), leaf)


def use_kernels_inside(network: nn.Module) -> None:
    """As :func:`use_kernels`, for the children of a module that is not called itself."""
    if _kernels.available():
        _replace_blocks(network)
        _fuse_children(network, set(), NativeConv)


def is_native(module: nn.Module) -> bool:
    """Whether native code computes a module."""
    return isinstance(module, _NATIVE)


def _replace_blocks(network: nn.Module) -> None:
    for name, child in list(network.named_children()):
        fill_panels(child)
        native = native_window_block(child) or native_gated_block(child)
        if native is None:
            kinds = (kind for kind in (NativeGDN, ChannelsLastNorm) if kind.fits(child))
            native = next((kind(child) for kind in kinds), None)
        if native is None:
            _replace_blocks(child)
        else:
            setattr(network, name, native)


# Tracing replaces methods of nn.Module for the whole process, and puts back what it found.
_tracing = threading.Lock()


class _Tracer(fx.Tracer):
    """Follows modules down to layers of torch, native ones, and what cannot be traced.

    Networks that other threads run meanwhile are left alone.
    """

    def __init__(self, opaque: set[nn.Module]) -> None:
        super().__init__()
        self._opaque = opaque
        self._thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if m in self._opaque or is_native(m):
            return True
        return super().is_leaf_module(m, module_qualified_name)


def _fused(module: nn.Module, opaque: set[nn.Module], leaf: type[NativeConv]) -> nn.Module:
    """The graph of a module with fused layers; itself, among ``opaque``, if there is none."""
    if not any(True for _ in module.children()):
        for kind in (leaf, NativeLinear, NativeDepthwise):
            if kind.fits(module):
                return kind(module)
        return module
    graph = _trace(module, opaque)
    if graph is None:
        _fuse_children(module, opaque, leaf, inside_sequences=True)
        # Perhaps only a child was in the way.
        graph = _trace(module, opaque)
    if graph is None:
        _fuse_children(module, opaque, leaf)
        opaque.add(module)
        return module
    fused = fx.GraphModule(module, graph)
    _fuse(fused, leaf)
    return fused


def _fuse_children(
    module: nn.Module,
    opaque: set[nn.Module],
    leaf: type[NativeConv],
    *,
    inside_sequences: bool = False,
) -> None:
    """Fuse each child; of sequences their layers, if the module may walk along these itself."""
    for name, child in list(module.named_children()):
        if inside_sequences and type(child) is nn.Sequential:
            _fuse_children(child, opaque, leaf)
        else:
            setattr(module, name, _fused(child, opaque, leaf))


def _trace(module: nn.Module, opaque: set[nn.Module]) -> fx.Graph | None:
    # The tracer follows the forward of the class.
    if "forward" in vars(module):
        return None
    try:
        with _tracing:
            return _Tracer(opaque).trace(module)
    except Exception:  # A module may do anything with what it is given.
        return None


def _fuse(module: fx.GraphModule, leaf: type[NativeConv]) -> None:
    """Replace layers of a graph, in place, from the last to the first.

    So it is the later one of two convolutions whose sum is taken that adds the other.
    """
    for node in list(module.graph.nodes):
        if (node.op, node.target) == ("call_method", "split"):
            _split_convolution(module, node, leaf)
    for node in list(module.graph.nodes):
        _shorten_residual(module, node)
    for node in reversed(list(module.graph.nodes)):
        layer = _layer(module, node)
        if isinstance(layer, _TRANSPARENT):
            node.replace_all_uses_with(node.args[0])
            module.graph.erase_node(node)
        elif isinstance(layer, NativeGDN):
            _fuse_gdn(module, node)
        elif isinstance(layer, NativeWindowBlock):
            _read_in_place(module, node)
        elif layer is not None and NativeLinear.fits(layer):
            _fuse_simple(module, node, NativeLinear, _ADDITIONS)
        elif layer is not None and NativeDepthwise.fits(layer):
            _fuse_simple(module, node, NativeDepthwise, _PRODUCTS)
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            _fuse_convolution(module, node, layer, leaf)
    for node in list(module.graph.nodes):
        _fuse_pair(module, node)
    module.delete_all_unused_submodules()
    module.recompile()


def _layer(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return module.get_submodule(node.target) if node.op == "call_module" else None


def _split_convolution(module: fx.GraphModule, node: fx.Node, leaf: type[NativeConv]) -> None:
    """Make several convolutions of one whose channels are split, so that no part is a copy."""
    source, sizes, *rest = node.args
    conv = _layer(module, source)
    dim = node.kwargs.get("dim", rest[0] if rest else 0)
    parts = sorted((user for user in node.users), key=lambda user: user.args[1])
    if (
        type(conv) is not nn.Conv2d
        or len(source.users) != 1
        or dim != 1
        or not isinstance(sizes, (tuple, list))
        or any(part.target is not operator.getitem for part in parts)
        or [part.args[1] for part in parts] != list(range(len(sizes)))
    ):
        return
    convolutions = split_convolution(conv, sizes)
    if not all(map(leaf.fits, convolutions)):
        return
    for part, convolution in zip(parts, convolutions):
        name = f"{source.name}_{part.args[1]}"
        module.add_submodule(name, convolution)
        with module.graph.inserting_before(source):
            part.replace_all_uses_with(module.graph.call_module(name, source.args))
        module.graph.erase_node(part)
    module.graph.erase_node(node)
    module.graph.erase_node(source)


def _shorten_residual(module: fx.GraphModule, node: fx.Node) -> None:
    """Make ``c(x + b(h))`` of 1x1 convolutions ``c(x) + d(h)`` where that is less to compute."""
    conv, total = _layer(module, node), node.args[0] if node.args else None
    if not (_is_pointwise(conv) and isinstance(total, fx.Node) and _user(total) is node):
        return
    for branch in total.all_input_nodes:
        inner, other = _layer(module, branch), _other_term(branch, _user(branch))
        if (
            _user(branch) is total
            and other is not None
            and _is_pointwise(inner)
            and conv.out_channels < inner.out_channels
        ):
            names = f"{node.name}_of_sum", f"{branch.name}_through"
            for name, layer in zip(names, _through(conv, inner)):
                module.add_submodule(name, layer)
            with module.graph.inserting_before(node):
                outer = module.graph.call_module(names[0], (other,))
                short = module.graph.call_module(names[1], branch.args)
                node.replace_all_uses_with(module.graph.call_function(operator.add, (short, outer)))
            for old in (node, total, branch):
                module.graph.erase_node(old)
            return


def _is_pointwise(layer: nn.Module | None) -> bool:
    return (
        type(layer) is nn.Conv2d
        and (layer.kernel_size, layer.stride, layer.padding) == ((1, 1), (1, 1), (0, 0))
        and layer.groups == 1
    )


def _through(conv: nn.Conv2d, inner: nn.Conv2d) -> tuple[nn.Conv2d, nn.Conv2d]:
    """The first convolution without its bias, and the one that it makes of another."""
    outer, both = copy.copy(conv), copy.copy(inner)
    weight = conv.weight.detach().double().flatten(1)
    product = (weight @ inner.weight.detach().double().flatten(1))[:, :, None, None]
    bias = weight.new_zeros(len(weight)) if conv.bias is None else conv.bias.detach().double()
    if inner.bias is not None:
        bias = bias + weight @ inner.bias.detach().double()
    outer._parameters = {"weight": conv.weight, "bias": None}
    both._parameters = {
        name: nn.Parameter(value.float(), requires_grad=False)
        for name, value in (("weight", product), ("bias", bias))
    }
    both.out_channels = conv.out_channels
    return outer, both


def _fuse_convolution(
    module: fx.GraphModule, node: fx.Node, conv: nn.Module, leaf: type[NativeConv]
) -> None:
    chain, shuffle, activation, added, activates_sum = [node], None, None, None, False
    behind = _user(node)
    layer = _behind(module, behind)
    if isinstance(layer, nn.PixelShuffle):
        chain.append(behind)
        shuffle, behind = layer, _user(behind)
        layer = _behind(module, behind)
    if layer is not None and leaf.fits(conv, layer, shuffle):
        chain.append(behind)
        activation, behind = layer, _user(behind)
    if not leaf.fits(conv, activation, shuffle):
        return
    added = _other_term(chain[-1], behind)
    if added is not None:
        chain.append(behind)
        behind = _user(behind)
        layer = _behind(module, behind)
        if activation is None and layer is not None:
            activates_sum = leaf.can_activate_sum(conv, layer, shuffle)
            if activates_sum:
                chain.append(behind)
                activation = layer
    native = leaf(conv, activation, shuffle, activate_sum=activates_sum)
    _replace(module, chain, native, added)


def _fuse_pair(module: fx.GraphModule, node: fx.Node) -> None:
    """Make one layer of a 1x1 convolution and the one behind it."""
    first, behind = _layer(module, node), _user(node)
    second = _behind(module, behind)
    if (
        NativePair.begins(first)
        and NativePair.ends(second)
        and len(node.args) == 1
        and behind.args[0] is node
    ):
        added = behind.args[1] if len(behind.args) > 1 else None
        _replace(module, [node, behind], NativePair(first, second), added)


def _fuse_simple(
    module: fx.GraphModule,
    node: fx.Node,
    kind: type[NativeLinear | NativeDepthwise],
    operations: Collection[Any],
) -> None:
    """Replace a layer, an activation and an operation on the result, if they follow each other."""
    layer = module.get_submodule(node.target)
    chain, activation, behind = [node], _behind(module, _user(node)), _user(node)
    if activation is not None and kind.fits(layer, activation):
        chain.append(behind)
        behind = _user(behind)
    else:
        activation = None
    other = _other_term(chain[-1], behind, operations)
    if other is not None:
        chain.append(behind)
    _replace(module, chain, kind(layer, activation), other)


def _fuse_gdn(module: fx.GraphModule, node: fx.Node) -> None:
    if len(node.args) > 1:
        return  # It was given a term to add when it was a part of another graph.
    behind = _user(node)
    added = _other_term(node, behind)
    if added is not None:
        _replace(module, [node, behind], _behind(module, node), added)


def _read_in_place(module: fx.GraphModule, node: fx.Node) -> None:
    """Leave out a copy in front of a kernel that reads some channels of a map as they are."""
    source = node.args[0]
    if source.op == "call_method" and source.target == "contiguous" and len(source.users) == 1:
        node.replace_input_with(source, source.args[0])
        module.graph.erase_node(source)


def _replace(
    module: fx.GraphModule, chain: list[fx.Node], native: nn.Module, added: fx.Node | None
) -> None:
    """Put a layer into the place of nodes that follow one another."""
    name = f"native_{chain[0].name}"
    module.add_submodule(name, native)
    arguments = chain[0].args if added is None else (*chain[0].args, added)
    with module.graph.inserting_after(chain[-1]):
        new = module.graph.call_module(name, arguments)
    chain[-1].replace_all_uses_with(new)
    for node in reversed(chain):
        module.graph.erase_node(node)


def _user(node: fx.Node | None) -> fx.Node | None:
    """The only user of a node, which uses it once; ``None`` if there is no such node."""
    if node is None or len(node.users) != 1:
        return None
    (user,) = node.users
    return user if list(user.args).count(node) == 1 else None


def _behind(module: fx.GraphModule, node: fx.Node | None) -> nn.Module | None:
    return None if node is None else _layer(module, node)


def _other_term(
    node: fx.Node, behind: fx.Node | None, operations: Collection[Any] = _ADDITIONS
) -> fx.Node | None:
    """What is added to a node (or multiplied with it) by the one behind it, if that does so."""
    if behind is None or behind.kwargs or len(behind.args) != 2:
        return None
    method = ("call_method", "add" if operations is _ADDITIONS else "mul")
    if not (behind.target in operations or (behind.op, behind.target) == method):
        return None
    other: Any = behind.args[0] if behind.args[1] is node else behind.args[1]
    return other if isinstance(other, fx.Node) else None
