# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The networks of a bundle as modules: what a graph is traced from, by the model's own methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    GaussianConditionalLatentCodec,
    LRPGaussianLatentCodec,
)
from compressai.models.google import ScaleHyperprior
from compressai.models.vbr import ScaleHyperpriorVbr

__all__ = [
    "Correction",
    "Function",
    "HyperAnalysis",
    "Leaf",
    "LevelCorrection",
    "LevelParameters",
    "Parameters",
    "Slice",
]


class Function(nn.Module):
    """A method of a model."""

    def __init__(self, net: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.net, self._function = net, function

    def forward(self, *inputs: Tensor) -> Any:
        return self._function(*inputs)


class HyperAnalysis(nn.Module):
    """The side information of a latent."""

    def __init__(self, net: ScaleHyperprior) -> None:
        super().__init__()
        self.net = net

    def forward(self, y: Tensor) -> Tensor:
        return self.net._hyper_analysis(y)


class Parameters(nn.Module):
    """The hyper synthesis, and its output taken apart."""

    def __init__(self, net: ScaleHyperprior) -> None:
        super().__init__()
        self.net = net

    def forward(self, z_hat: Tensor) -> tuple[Tensor, ...]:
        return tuple(part for part in self.net._scales_means(z_hat) if part is not None)


class Leaf(nn.Module):
    """What a leaf codec predicts from side information."""

    def __init__(self, codec: GaussianConditionalLatentCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, params: Tensor) -> tuple[Tensor, ...]:
        predicted = tuple(part for part in self.codec._predict(params) if part is not None)
        return (*predicted, params) if isinstance(self.codec, LRPGaussianLatentCodec) else predicted


class Slice(nn.Module):
    """The same of a slice, from side information and the earlier slices that it sees."""

    def __init__(self, codec: ChannelGroupsLatentCodec, k: int, seen: Sequence[int]) -> None:
        super().__init__()
        self.codec, self.k, self.seen = codec, k, list(seen)
        self.leaf = Leaf(codec.latent_codec[f"y{k}"])

    def forward(self, side: Tensor, *earlier: Tensor) -> tuple[Tensor, ...]:
        slices = [side.new_empty(0)] * self.k
        for index, y_hat in zip(self.seen, earlier):
            slices[index] = y_hat
        return self.leaf(self.codec._get_ctx_params(self.k, side, slices))


class Correction(nn.Module):
    """Residual prediction: what it makes of quantised values."""

    def __init__(self, codec: LRPGaussianLatentCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, params: Tensor, values: Tensor) -> Tensor:
        return self.codec._correct(values, params)


class LevelParameters(Parameters):
    """As :class:`Parameters`, and a plane of ones, of which the gain of a level makes its own."""

    def forward(self, z_hat: Tensor) -> tuple[Tensor, ...]:
        predicted = super().forward(z_hat)
        return (*predicted, torch.ones_like(predicted[0][:, :1]))


class LevelCorrection(nn.Module):
    """What symbols stand for at the gain of a level.

    The first input has scales and means before the gain, and the gain as the last plane. A step of
    a bundle adds scaled means to symbols; they are taken off again, exactly up to 2**22.
    """

    def __init__(self, net: ScaleHyperpriorVbr) -> None:
        super().__init__()
        self.net = net

    def forward(self, params: Tensor, values: Tensor) -> Tensor:
        gain = params[:, -1:]
        scales, means = self.net._split_parameters(params[:, :-1])
        symbols = values if means is None else torch.round(values - means * gain)
        return self.net._dequantize_y(symbols, scales, means, gain)
