# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The scan of the autoregressive coders: position by position, with little work at each.

Encoder and decoder run the same operations in the same order on one item at a time, always on the
CPU in single precision, so their parameters agree to the bit whatever the batch size. What does
not depend on the current row is computed for the whole row (context of the rows above) or the
whole image (the side information's part of the first layer); a position costs a handful of
matrix-vector products and one call to the native coder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.entropy_models import GaussianConditional
from compressai.entropy_models._refusals import (
    PARAMETER_LIMIT,
    check_codable,
    check_finite,
    check_parameters,
)

__all__ = ["RasterScan", "ScanRate", "concatenate"]

Merge = Callable[..., Tensor]
_ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.Identity)


def concatenate(*args: Tensor) -> Tensor:
    """Join side information and context along the channels."""
    return torch.cat(args, dim=1)


@dataclass(frozen=True)
class ScanRate:
    """What a variable-rate model changes about the scan; the default changes nothing.

    A residual is coded as ``q = round((y - mean) * gain)`` with the table row of the scale
    ``s = max(scale * index_scale, bound)``, and decoded as
    ``(q + sign(q) * reconstruction_offset(s)) / gain + mean``.

    Attributes:
        index_scale: positive factor of the scales; ``None`` stands for 1.
        gain: positive factor of the residuals; ``None`` stands for 1.
        context_offset: added to the context of each position, float32 ``(context channels,)`` on
            the CPU.
        reconstruction_offset: from scales ``(C,)`` to what is added to the magnitudes of symbols
            that are not 0, float32 on the CPU.
    """

    index_scale: float | None = None
    gain: float | None = None
    context_offset: Tensor | None = None
    reconstruction_offset: Callable[[Tensor], Tensor] | None = None


class RasterScan:
    """Sequential coding of one latent, in rows from the top, positions from the left.

    Args:
        gaussian_conditional: entropy model with tables.
        entropy_parameters: pointwise network from ``merge(side, context)`` to scales and means.
        context_prediction: convolution with an odd square kernel whose weights from the centre on
            are masked out, such as :class:`~compressai.layers.MaskedConv2d` of type A.
        merge: joins side information and context.
        rate: changes for a variable rate.

    Raises:
        ValueError: the kernel is not odd and square, or sees positions that are not decoded yet.
    """

    def __init__(
        self,
        gaussian_conditional: GaussianConditional,
        entropy_parameters: nn.Module,
        context_prediction: nn.Conv2d,
        merge: Merge = concatenate,
        rate: ScanRate | None = None,
    ) -> None:
        weight, bias = _causal_weight(context_prediction)
        size = weight.size(-1)
        self.padding = size // 2
        self._conditional = gaussian_conditional
        channels = weight.size(1)
        # Taps of the rows above and of the current row, in the order (row, column, channel).
        above = weight[:, :, : self.padding, :].permute(0, 2, 3, 1)
        left = weight[:, :, self.padding, : self.padding].permute(0, 2, 1)
        self._above = above.reshape(len(weight), -1).t().contiguous()
        self._left = left.reshape(len(weight), -1).contiguous()
        self._rate = ScanRate() if rate is None else rate
        self._bias = weight.new_zeros(len(weight)) if bias is None else bias
        if self._rate.context_offset is not None:
            self._bias = self._bias + self._rate.context_offset
        self.channels = channels
        if merge is concatenate and _is_pointwise_chain(entropy_parameters):
            self._predictor: _Predictor = _ChainPredictor(entropy_parameters, len(weight))
        else:
            self._predictor = _ModulePredictor(entropy_parameters, merge)
        self._bound = gaussian_conditional.lower_bound_scale.bound.cpu().float()

    def compress(self, y: Tensor, params: Tensor, coder: Any) -> tuple[bytes | None, Tensor]:
        """Code one item.

        Args:
            y: ``(C, H, W)``.
            params: side information ``(D, H, W)``.
            coder: one of :func:`compressai.entropy_models.scan.scan_encoders`.

        Returns:
            ``(string, y_hat)``; ``string`` is ``None`` if the coder appends to a stream, ``y_hat``
            is ``(C, H, W)`` on the CPU.

        Raises:
            ValueError: ``y``, ``params``, or the scales or means of a position are not finite or
                too large.
        """
        y = y.detach().cpu().float()
        check_codable(self._conditional, y[None])
        columns = y.permute(1, 2, 0).contiguous()
        symbols = torch.empty_like(columns)
        all_scales = torch.empty_like(columns)
        gain = self._rate.gain

        def code(h: int, w: int, scales: Tensor, means: Tensor) -> Tensor:
            all_scales[h, w] = scales
            if coder.own is not None:
                return symbols[h, w].copy_(self._own_symbols(coder.own, columns[h, w], means))
            residual = columns[h, w] - means
            residual = residual if gain is None else residual * gain
            return symbols[h, w].copy_(coder.quantize(residual))

        y_hat, _ = self._scan(y.shape[1:], params, code, coder)
        check_parameters(self._conditional, symbols.permute(2, 0, 1)[None], "symbols")
        return coder.finish(symbols.to(torch.int32).numpy(), all_scales), y_hat

    def decompress(self, params: Tensor, coder: Any) -> tuple[Tensor, Tensor]:
        """Decode one item.

        Args:
            params: side information ``(D, H, W)``.
            coder: one of :func:`compressai.entropy_models.scan.scan_decoders`.

        Returns:
            ``(y_hat, y_fine)``, each ``(C, H, W)`` on the CPU; ``y_fine`` are the values before the
            coder rounded them.

        Raises:
            ValueError: the string is damaged, or ``params``, or the scales or means of a position
                are not finite or too large.
        """

        def code(h: int, w: int, scales: Tensor, means: Tensor) -> Tensor:
            return coder.symbols(scales)

        return self._scan(params.shape[1:], params, code, coder)

    def _scan(
        self,
        size: tuple[int, ...],
        params: Tensor,
        code: Callable[[int, int, Tensor, Tensor], Tensor],
        coder: Any,
    ) -> tuple[Tensor, Tensor]:
        """``y_hat``, and that before the coder rounded it."""
        check_finite(self._conditional, params[None], "side information")
        height, width = size
        pad, channels = self.padding, self.channels
        padded = torch.zeros((height + pad, width + 2 * pad, channels))
        prepared = self._predictor.prepare(params.detach().cpu().float())
        index_scale = self._rate.index_scale
        fine = torch.zeros_like(padded) if coder.rounds else padded
        predicted = torch.zeros((width, 2 * channels))
        for h in range(height):
            # All windows of the rows above, one a position: (width, rows * columns * channels).
            rows = padded[h : h + pad].unfold(1, 2 * pad + 1, 1)[:, :width]
            windows = rows.permute(1, 0, 3, 2).reshape(width, -1)
            contexts = torch.addmm(self._bias, windows, self._above)
            current = padded[h + pad]
            try:
                for w in range(width):
                    left = current[w : w + pad].view(-1)
                    context = coder.network(torch.addmv(contexts[w], self._left, left))
                    parameters = self._predictor.predict(prepared, h, w, context, coder)
                    predicted[w] = parameters
                    scales, means = parameters.chunk(2)
                    if index_scale is not None:
                        scales = scales * index_scale
                    scales = torch.maximum(scales, self._bound)
                    symbols = code(h, w, scales, means)
                    values = fine[h + pad, w + pad]
                    if coder.own is None:
                        torch.add(self._residual(symbols, scales), means, out=values)
                    else:
                        values.copy_(self._own_values(coder.own, symbols, scales, means))
                    if coder.rounds:
                        current[w + pad] = coder.settle(scales, values)
            finally:
                # Once a row rather than at each position; before what native code says of them.
                self._check_predicted(predicted)
        y_hat, fine = (
            grid[pad:, pad : pad + width].permute(2, 0, 1).contiguous() for grid in (padded, fine)
        )
        return y_hat, fine

    def _check_predicted(self, predicted: Tensor) -> None:
        """Refuse parameters ``(W, 2 C)`` of a row that a network cannot mean."""
        bad = (predicted.abs() < PARAMETER_LIMIT).all(dim=1).logical_not()
        if bool(bad.any()):
            # The first position; those behind it have it in their context.
            first = predicted[int(bad.nonzero()[0])][None]
            for values, what in zip(first.chunk(2, dim=1), ("scales", "means")):
                check_parameters(self._conditional, values, what)

    def _own_symbols(self, conditional: GaussianConditional, y: Tensor, means: Tensor) -> Tensor:
        gain = self._rate.gain
        centre = _pixel(conditional, means)
        if gain is None:
            symbols = conditional.quantize(_pixel(conditional, y), "symbols", centre)
        else:
            symbols = conditional.quantize(_pixel(conditional, (y - means) * gain), "symbols")
        return symbols.reshape(-1).cpu().float()

    def _own_values(
        self, conditional: GaussianConditional, symbols: Tensor, scales: Tensor, means: Tensor
    ) -> Tensor:
        integers = _pixel(conditional, symbols).to(torch.int32)
        if self._rate.gain is None and self._rate.reconstruction_offset is None:
            values = conditional.dequantize(integers, _pixel(conditional, means))
            return values.reshape(-1).cpu().float()
        steps = conditional.dequantize(integers).reshape(-1).cpu().float()
        return self._residual(steps, scales) + means

    def _residual(self, symbols: Tensor, scales: Tensor) -> Tensor:
        if self._rate.reconstruction_offset is not None:
            offset = self._rate.reconstruction_offset(scales)
            symbols = torch.addcmul(symbols, torch.sign(symbols), offset)
        return symbols if self._rate.gain is None else symbols / self._rate.gain


def _pixel(conditional: GaussianConditional, values: Tensor) -> Tensor:
    """``(C,)`` as the image of one pixel that methods of an entropy model are written for."""
    return values[None, :, None, None].to(conditional.scale_table.device)


class _Predictor:
    """From side information and context of a position to its scales and means."""

    def prepare(self, params: Tensor) -> Any:
        raise NotImplementedError

    def predict(self, prepared: Any, h: int, w: int, context: Tensor, coder: Any) -> Tensor:
        raise NotImplementedError


class _ModulePredictor(_Predictor):
    """Any network: called once a position."""

    def __init__(self, network: nn.Module, merge: Merge) -> None:
        parameter = next(network.parameters(), None)
        self._device = "cpu" if parameter is None else parameter.device
        self._network, self._merge = network, merge

    def prepare(self, params: Tensor) -> Tensor:
        return params[None].to(self._device)

    def predict(self, prepared: Tensor, h: int, w: int, context: Tensor, coder: Any) -> Tensor:
        here = prepared[:, :, h : h + 1, w : w + 1]
        context = context.to(self._device)[None, :, None, None]
        # Who watches the networks of the session sees this call by itself.
        return self._network(self._merge(here, context)).reshape(-1).cpu().float()


class _ChainPredictor(_Predictor):
    """A chain of 1x1 convolutions: the side information's part is done for the whole image."""

    def __init__(self, chain: nn.Sequential, context_channels: int) -> None:
        layers = [layer for layer in chain if not isinstance(layer, nn.Identity)]
        first = layers[0]
        weight, bias = _pointwise_weight(first)
        side_channels = weight.size(1) - context_channels
        self._side = weight[:, :side_channels].t().contiguous()
        self._context = weight[:, side_channels:].contiguous()
        self._bias = bias
        self._rest = [
            _pointwise_weight(layer) if isinstance(layer, nn.Conv2d) else _in_place(layer)
            for layer in layers[1:]
        ]

    def prepare(self, params: Tensor) -> Tensor:
        _, height, width = params.shape
        pixels = params.flatten(1).t().contiguous()
        return torch.addmm(self._bias, pixels, self._side).view(height, width, -1)

    def predict(self, prepared: Tensor, h: int, w: int, context: Tensor, coder: Any) -> Tensor:
        values = torch.addmv(prepared[h, w], self._context, context)
        for layer in self._rest:
            if isinstance(layer, tuple):
                values = torch.addmv(layer[1], layer[0], values)
            else:
                values = layer(values)
        return coder.network(values)


def _in_place(layer: nn.Module) -> Callable[[Tensor], Tensor]:
    if isinstance(layer, nn.LeakyReLU):
        slope = layer.negative_slope
        return lambda values: F.leaky_relu_(values, slope)
    if isinstance(layer, nn.ReLU):
        return torch.relu_
    return layer


def _pointwise_weight(layer: nn.Conv2d) -> tuple[Tensor, Tensor]:
    weight = layer.weight.detach().cpu().float().flatten(1).contiguous()
    bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
    return weight, bias.detach().cpu().float()


def _is_pointwise_chain(network: nn.Module) -> bool:
    if not isinstance(network, nn.Sequential) or len(network) == 0:
        return False
    first = network[0]
    return isinstance(first, nn.Conv2d) and all(
        isinstance(layer, _ACTIVATIONS)
        or (type(layer) is nn.Conv2d and layer.kernel_size == (1, 1) and layer.groups == 1)
        for layer in network
    )


def _causal_weight(context_prediction: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    height, width = context_prediction.kernel_size
    if height != width or width % 2 == 0:
        raise ValueError(
            f"context_prediction must have an odd square kernel, got {(height, width)}"
        )
    weight = context_prediction.weight.detach()
    mask = getattr(context_prediction, "mask", None)
    if mask is not None:
        weight = weight * mask
    weight = weight.cpu().float()
    if bool(weight.flatten(2)[:, :, height * width // 2 :].any()):
        raise ValueError("context_prediction sees positions that are not decoded yet (mask type A)")
    bias = context_prediction.bias
    return weight, None if bias is None else bias.detach().cpu().float()
