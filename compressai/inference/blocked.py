# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Runs of convolutions whose feature maps stay in the layout that oneDNN computes in.

A convolution of torch brings its input into that layout, and its result back into the default one.
Between convolutions neither is needed. The kernels are those that run otherwise, on the same
values, so the bits are the same, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressai.layers import ResidualBottleneckBlock

__all__ = ["BlockedRun", "block_runs", "is_of_onednn"]


def is_of_onednn(conv: nn.Conv2d, x: Tensor) -> bool:
    """Whether torch leaves a convolution to oneDNN: not for small maps, for example."""
    backend = torch._C._select_conv_backend(
        x,
        conv.weight,
        conv.bias,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.transposed,
        conv.output_padding,
        conv.groups,
        None,
    )
    return backend == torch._C._ConvBackend.Mkldnn


def block_runs(layers: nn.Sequential) -> None:
    """Replace runs of convolutions and bottleneck blocks, in place.

    Args:
        layers: whose weights do not change any more.
    """
    children = list(layers)
    joined: list[nn.Module] = []
    while children:
        run = []
        while children and _fits(children[0]):
            run.append(children.pop(0))
        if run:
            alone = len(run) == 1 and isinstance(run[0], nn.Conv2d)
            joined += run if alone else [BlockedRun(run)]
        else:
            joined.append(children.pop(0))
    del layers[:]
    layers.extend(joined)


def _fits(layer: nn.Module) -> bool:
    if type(layer) is ResidualBottleneckBlock:
        return all(type(layer.get_submodule(name)) is nn.ReLU for name in ("relu1", "relu2"))
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
        and layer.bias is not None
    )


class BlockedRun(nn.Module):
    """Layers one behind the other, in oneDNN's layout.

    Where torch would not leave one of them to oneDNN, they run as they are.

    Args:
        layers: convolutions and bottleneck blocks.

    Shape: ``(N, C, H, W)``, float32 in the default layout, as the layers.
    """

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.plain = nn.Sequential(*layers)
        # Not modules: others replace those of `plain`.
        self.steps = [_step(layer) for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape
        for step in self.steps:
            if not step.is_of_onednn(shape, x):
                return self.plain(x)
            shape = step.shape_behind(shape)
        blocked = x.to_mkldnn()
        for step in self.steps:
            blocked = step(blocked)
        return blocked.to_dense()


class _Conv:
    """A convolution in oneDNN's layout."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self.conv = conv
        # Filled by the first call, which has what the layout of the weights depends on.
        self.weights: tuple[Tensor, Tensor] | None = None

    def is_of_onednn(self, shape: torch.Size, like: Tensor) -> bool:
        # Never written to, so that it takes no memory.
        return is_of_onednn(
            self.conv, like.new_empty((shape[0], self.conv.in_channels, *shape[2:]))
        )

    def shape_behind(self, shape: torch.Size) -> torch.Size:
        conv = self.conv
        extents = [
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, padding, dilation, kernel, stride in zip(
                shape[2:], conv.padding, conv.dilation, conv.kernel_size, conv.stride
            )
        ]
        return torch.Size((shape[0], conv.out_channels, *extents))

    def __call__(self, x: Tensor) -> Tensor:
        conv = self.conv
        where = conv.padding, conv.stride, conv.dilation, conv.groups
        if self.weights is None:
            packed = torch._C._nn.mkldnn_reorder_conv2d_weight(
                conv.weight.detach().to_mkldnn(), *where, list(x.shape)
            )
            self.weights = packed, conv.bias.detach().to_mkldnn()
        return torch.ops.aten.mkldnn_convolution(x, *self.weights, *where)


class _Bottleneck:
    """A bottleneck block in oneDNN's layout."""

    def __init__(self, block: ResidualBottleneckBlock) -> None:
        self.convolutions = [_Conv(conv) for conv in (block.conv1, block.conv2, block.conv3)]
        self.skip = _Conv(block.skip) if isinstance(block.skip, nn.Conv2d) else None

    def is_of_onednn(self, shape: torch.Size, like: Tensor) -> bool:
        convolutions = [*self.convolutions, *([] if self.skip is None else [self.skip])]
        return all(conv.is_of_onednn(shape, like) for conv in convolutions)

    def shape_behind(self, shape: torch.Size) -> torch.Size:
        return self.convolutions[-1].shape_behind(shape)

    def __call__(self, x: Tensor) -> Tensor:
        first, second, third = self.convolutions
        out = third(second(first(x).relu_()).relu_())
        return out.add_(x if self.skip is None else self.skip(x))


def _step(layer: nn.Module) -> _Conv | _Bottleneck:
    return _Conv(layer) if isinstance(layer, nn.Conv2d) else _Bottleneck(layer)
