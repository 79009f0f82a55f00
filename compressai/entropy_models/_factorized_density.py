# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The learned density of the factorized prior, shared by the fixed- and variable-rate bottleneck.

One small monotone network a channel models the cumulative distribution (Ballé et al. 2018,
appendix 6.1). How its parameters are named is left to the classes that inherit.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai.entropy_models._overrides import of_this_package, overridden
from compressai.entropy_models._refusals import PARAMETER_LIMIT, refused
from compressai.entropy_models.noise import uniform_noise

__all__ = ["FactorizedDensity"]


_DENSITY = ("_likelihood", "_logits_cumulative")
# Enough for an interval of double precision numbers to end at neighbours.
_MAX_ROUNDS = 1100
# Entries of all tables of a model, which are as wide as the widest: they take half a gigabyte while
# they are made. Trained models have some ten thousand.
_MOST_ENTRIES = 2**22


@of_this_package
class FactorizedDensity(nn.Module):
    """Mixin for an entropy model whose channels have one learned density each.

    Args:
        channels: number of channels ``C``.
        tail_mass: mass outside of the outer quantiles.
        init_scale: the density of a fresh model is spread over about ``[-init_scale, init_scale]``.
        filters: widths of the hidden layers of the cumulative's network.
        args, kwargs: handed to :class:`~compressai.entropy_models.EntropyModel`.

    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior",
    appendix 6.1.
    """

    quantiles: Tensor
    target: Tensor

    def __init__(
        self,
        channels: int,
        *args: Any,
        tail_mass: float = 1e-9,
        init_scale: float = 10,
        filters: tuple[int, ...] = (3, 3, 3, 3),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.channels = int(channels)
        self.filters = tuple(int(width) for width in filters)
        self.init_scale = float(init_scale)
        self.tail_mass = float(tail_mass)
        self._build_density()
        self.quantiles = nn.Parameter(
            torch.tensor([-self.init_scale, 0.0, self.init_scale]).repeat(self.channels, 1, 1)
        )
        target = math.log(2 / self.tail_mass - 1)
        self.register_buffer("target", torch.tensor([-target, 0.0, target]))

    def _build_density(self) -> None:
        widths = (1, *self.filters, 1)
        scale = self.init_scale ** (1 / (len(self.filters) + 1))
        for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
            weight = math.log(math.expm1(1 / scale / fan_out))
            matrix = torch.full((self.channels, fan_out, fan_in), weight)
            bias = torch.empty(self.channels, fan_out, 1).uniform_(-0.5, 0.5)
            last = i == len(self.filters)
            factor = None if last else torch.zeros(self.channels, fan_out, 1)
            self._add_layer(i, matrix, bias, factor)

    def _add_layer(self, index: int, matrix: Tensor, bias: Tensor, factor: Tensor | None) -> None:
        raise NotImplementedError

    def _layer(self, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        raise NotImplementedError

    # -- probabilities --------------------------------------------------------------------------

    def _logits_cumulative(self, inputs: Tensor, stop_gradient: bool) -> Tensor:
        """Logits of the cumulative distribution.

        Args:
            inputs: ``(C, 1, n)``.
            stop_gradient: keep the gradient from the density's parameters.

        Returns:
            ``(C, 1, n)``.
        """
        logits = inputs
        for i in range(len(self.filters) + 1):
            matrix, bias, factor = self._layer(i)
            if stop_gradient:
                matrix, bias = matrix.detach(), bias.detach()
                factor = None if factor is None else factor.detach()
            logits = torch.matmul(F.softplus(matrix), logits) + bias
            if factor is not None:
                logits = logits + torch.tanh(factor) * torch.tanh(logits)
        return logits

    def _table_logits(self, inputs: Tensor) -> Tensor:
        """As :meth:`_logits_cumulative` without gradient, with the rounding of the tables' format.

        Tables are integers that encoder and decoder must share, and one unit of rounding in a
        logit can change one. Matrix products of the framework round differently from processor to
        processor; published tables were made with chains of fused multiply-adds, or, below the
        size where no library is called, with plain ones. Both are reproduced here exactly, and so
        is where the framework's loops leave their vectors (:func:`_in_blocks`).
        """
        logits = inputs
        for i in range(len(self.filters) + 1):
            matrix, bias, factor = self._layer(i)
            logits = _chained_matmul(_in_blocks(F.softplus, matrix), logits) + bias
            if factor is not None:
                logits = logits + torch.tanh(factor) * torch.tanh(logits)
        return logits

    def _likelihood(
        self, inputs: Tensor, stop_gradient: bool = False, step: float | Tensor = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Mass of the bins of width ``step`` around ``inputs``.

        Args:
            inputs: ``(C, 1, n)``.
            stop_gradient: keep the gradient from the density's parameters.
            step: width of a bin.

        Returns:
            ``(likelihood, lower, upper)``, each ``(C, 1, n)``; the last two are the logits of the
            cumulative at the edges of the bins.
        """
        half = 0.5 * step
        lower = self._logits_cumulative(inputs - half, stop_gradient)
        upper = self._logits_cumulative(inputs + half, stop_gradient)
        return torch.sigmoid(upper) - torch.sigmoid(lower), lower, upper

    def _get_medians(self) -> Tensor:
        return self.quantiles[:, :, 1:2]

    def loss(self) -> Tensor:
        """Distance of the quantiles from their targets; its gradient reaches only the quantiles.

        Returns:
            Scalar, to be minimised by an optimizer of its own (the auxiliary loss).
        """
        logits = self._logits_cumulative(self.quantiles, stop_gradient=True)
        return torch.abs(logits - self.target).sum()

    def _forward(
        self,
        x: Tensor,
        quantize: Callable[[Tensor, Tensor, Callable[[], Tensor]], Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Quantise ``(N, C, ...)`` and give the likelihoods.

        Args:
            x: the values.
            quantize: called with the values ``(C, 1, n)``, the medians, and what draws noise of
                that shape.

        Returns:
            ``(x_hat, likelihoods)``, both of the shape of ``x``.
        """
        if not x.is_floating_point():
            raise TypeError(f"x must be floating point, got {x.dtype}")
        channels_first = x.transpose(0, 1).contiguous()
        values = channels_first.reshape(channels_first.size(0), 1, -1)

        def noise() -> Tensor:
            return uniform_noise(channels_first, item_axis=1).reshape(values.shape)

        outputs = quantize(values, self._get_medians(), noise)
        likelihood, _, _ = self._likelihood(outputs)
        if self.use_likelihood_bound:
            likelihood = self.likelihood_lower_bound(likelihood)

        def restore(t: Tensor) -> Tensor:
            return t.reshape(channels_first.shape).transpose(0, 1).contiguous()

        return restore(outputs), restore(likelihood)

    # -- tables ---------------------------------------------------------------------------------

    @torch.no_grad()
    def _build_tables(self, step: float | Tensor = 1.0) -> None:
        """Fill the tables for values quantised with ``step`` around the medians.

        The upper tail is taken at the last sample of the *longest* channel. That underestimates
        it for all others, but the strings of every published model were made with such tables.
        """
        self._check_quantiles(step)
        low, median, high = self.quantiles[:, 0, :].unbind(-1)
        minima = torch.ceil((median - low) / step).int().clamp(min=0)
        maxima = torch.ceil((high - median) / step).int().clamp(min=0)
        length = minima + maxima + 1
        max_length = int(length.max())
        start = median - minima * step
        samples = torch.arange(max_length, device=start.device) * step
        positions = (samples[None, :] + start[:, None])[:, None, :]
        if overridden(self, _DENSITY):
            width = {} if isinstance(step, float) and step == 1 else {"step": step}
            with torch.autocast(positions.device.type, enabled=False):
                pmf, lower, upper = self._likelihood(positions, stop_gradient=True, **width)
        else:
            lower = self._table_logits(positions - 0.5 * step)
            upper = self._table_logits(positions + 0.5 * step)
            pmf = _in_blocks(torch.sigmoid, upper) - _in_blocks(torch.sigmoid, lower)
        tail = _in_blocks(torch.sigmoid, lower[:, 0, :1], block=None) + _in_blocks(
            torch.sigmoid, -upper[:, 0, -1:]
        )
        cdf = self._pmf_to_cdf(pmf[:, 0, :], tail, length, max_length)
        self._set_tables(cdf, length + 2, -minima)

    def _check_quantiles(self, step: float | Tensor) -> None:
        """Raise ValueError where tables would be without meaning, or of a size that is not coded.

        It is cheap, and comes before tables take memory and time.
        """
        quantiles = self.quantiles.detach()[:, 0, :].double().cpu()
        bad = (quantiles.abs() < PARAMETER_LIMIT).all(dim=1).logical_not()
        if bool(bad.any()):
            channel = int(bad.nonzero()[0])
            raise refused(
                self,
                f"the quantiles of channel {channel} are {quantiles[channel].tolist()}, not "
                "finite or beyond 2**24: training has diverged; load earlier weights, or find "
                "quantiles with update(force=True, update_quantiles=True)",
            )
        width = float(step)
        if not 0 < width < math.inf:
            raise ValueError(f"the quantisation step must be positive and finite, got {width:g}")
        below = torch.ceil((quantiles[:, 1] - quantiles[:, 0]) / width).clamp(min=0)
        above = torch.ceil((quantiles[:, 2] - quantiles[:, 1]) / width).clamp(min=0)
        span = below + above + 1
        limit = min(2**self.entropy_coder_precision - 1, _MOST_ENTRIES // len(span))
        if bool((span > limit).any()):
            channel = int(span.argmax())
            raise refused(
                self,
                f"the quantiles of channel {channel}, {quantiles[channel].tolist()}, span "
                f"{span[channel]:.0f} symbols, more than the {limit} of a table: they have run "
                "away in training; find them with update(force=True, update_quantiles=True)",
            )

    @torch.no_grad()
    def _update_quantiles(
        self, search_radius: float = 1e5, rtol: float = 1e-4, atol: float = 1e-3
    ) -> None:
        """Solve for the quantiles by bisection, instead of training them.

        Args:
            search_radius: quantiles are looked for in ``[-search_radius, search_radius]``.
            rtol, atol: the search ends when each interval is at most ``atol + rtol * |bound|``,
                or between neighbouring numbers. It is in float32 for models in half precision.

        Raises:
            ValueError: the density is not finite.
        """
        wide = self
        if self.quantiles.dtype not in (torch.float32, torch.float64):
            wide = copy.deepcopy(self).float()
        with torch.autocast(self.quantiles.device.type, enabled=False):
            solved = [
                wide._bisect(target, search_radius, rtol, atol)[:, :, 0]
                for target in self.target.float().tolist()
            ]
        for i, values in enumerate(solved):
            self.quantiles[:, :, i] = values

    def _bisect(self, target: float, radius: float, rtol: float, atol: float) -> Tensor:
        def logits(t: Tensor) -> Tensor:
            return self._logits_cumulative(t, stop_gradient=True)

        low = self.quantiles.new_full((self.channels, 1, 1), -radius)
        high = self.quantiles.new_full((self.channels, 1, 1), radius)
        low = torch.where(target <= logits(high), low, high)
        high = torch.where(logits(low) <= target, high, low)
        for _ in range(_MAX_ROUNDS):
            wide = (low - high).abs() > atol + rtol * high.abs()
            if not bool(wide.any()):
                break
            middle = (low + high) / 2
            if bool(((middle == low) | (middle == high) | ~wide).all()):
                break
            value = logits(middle)
            bad = torch.isnan(value).flatten(1).any(dim=1)
            if bool(bad.any()):
                raise refused(
                    self,
                    f"the density of channel {int(bad.nonzero()[0])} is not a number: its weights "
                    "are not finite, training has diverged; load earlier weights",
                )
            low, high = (
                torch.where(value <= target, middle, low),
                torch.where(value >= target, middle, high),
            )
        return (low + high) / 2

    # -- coding ---------------------------------------------------------------------------------

    def _build_indexes(self, size: Iterable[int]) -> Tensor:
        """int32 tensor of shape ``size`` ``(N, C, ...)`` that holds each element's channel."""
        size = tuple(size)
        channels = torch.arange(size[1], dtype=torch.int32, device=self._offset.device)
        return channels.view(1, -1, *([1] * (len(size) - 2))).expand(size).contiguous()

    @staticmethod
    def _extend_ndims(tensor: Tensor, n: int) -> Tensor:
        """``tensor`` as ``(C, 1, ..., 1)`` with ``n`` trailing axes."""
        return tensor.reshape(-1, *([1] * n)) if n > 0 else tensor.reshape(-1)

    def _expanded_medians(self, batch: int, spatial_dims: int) -> Tensor:
        medians = self._extend_ndims(self._get_medians().detach(), spatial_dims)
        return medians.expand(batch, *medians.shape)

    def _output_size(self, strings: Iterable[bytes], size: Iterable[int]) -> tuple[int, ...]:
        channels = self._quantized_cdf.size(0)
        try:
            sides = tuple(map(operator.index, size))
        except TypeError as error:
            raise TypeError(f"size must be integers, got {size!r}") from error
        if min(sides, default=0) < 0 or channels * math.prod(sides) > _MOST_VALUES:
            raise ValueError(
                f"size must be of at most {_MOST_VALUES} values in {channels} channels, and no "
                f"side negative, got {sides}"
            )
        return (len(list(strings)), channels, *sides)


# Of an item: more than a coder counts.
_MOST_VALUES = (1 << 31) - 1

# Below this many multiplications a batched matrix product calls no library (ATen).
_SMALL_PRODUCT = 400


# Elements that one round of the framework's loops takes with AVX-512: two vectors of 16.
_BLOCK = 32


def _in_blocks(
    function: Callable[[Tensor], Tensor], inputs: Tensor, block: int | None = _BLOCK
) -> Tensor:
    """Apply an element-wise function with the rounding that it has under AVX-512.

    The framework's loops take whole blocks with vector instructions and the rest one by one, by
    functions that round differently. Published tables were made where a block has 32 elements;
    elsewhere it has fewer, which divide 32.

    Args:
        function: element-wise function of the framework.
        inputs: any shape.
        block: elements of a block; ``None`` takes one by one all elements, which is what the
            framework does with a tensor that is strided.

    Returns:
        Tensor of the shape of ``inputs``.
    """
    flat = inputs.reshape(-1)
    whole = 0 if block is None else flat.numel() // block * block
    parts = [function(flat[:whole]), *(function(part) for part in flat[whole:].split(1))]
    return torch.cat(parts).reshape(inputs.shape)


def _chained_matmul(matrix: Tensor, inputs: Tensor) -> Tensor:
    """Batched product ``(C, o, i) x (C, i, n)`` with a defined order and rounding.

    A fused multiply-add of float32 is emulated in double precision: the product is exact there,
    and a sum of two that is rounded twice differs only where it lies within 2**-29 of a tie.
    """
    _, rows, terms = matrix.shape
    fused = rows * terms * inputs.size(-1) >= _SMALL_PRODUCT
    total = matrix[:, :, :1] * inputs[:, :1, :]
    for k in range(1, terms):
        left, right = matrix[:, :, k : k + 1], inputs[:, k : k + 1, :]
        if fused:
            total = (left.double() * right.double() + total.double()).to(total.dtype)
        else:
            total = total + left * right
    return total
