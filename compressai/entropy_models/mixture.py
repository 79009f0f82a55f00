# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The conditional Gaussian mixture, with tables that are made for each element as it is coded."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from compressai.entropy_models._overrides import of_this_package, overridden
from compressai.entropy_models._recording import note_symbols
from compressai.entropy_models._refusals import check_parameters, refused
from compressai.entropy_models.base import _QUANTIZE
from compressai.entropy_models.gaussian import GaussianConditional

__all__ = ["GaussianMixtureConditional"]

_MAX_SCALE = 256.0
# What the formula of `_build_cdf` stands for.
_MIXTURE_DENSITY = ("_likelihood", "_standardized_cumulative")


@of_this_package
class GaussianMixtureConditional(GaussianConditional):
    """Entropy model of values that follow a mixture of ``K`` predicted Gaussians.

    ``scales``, ``means`` and ``weights`` are ``(N, K * M, H, W)``, component by component: those of
    component ``k`` are channels ``k * M`` to ``(k + 1) * M - 1``. Weights must sum to one over the
    components.

    Args:
        K: number of components.
        scale_table: as in :class:`GaussianConditional`.
        args, kwargs: handed to :class:`GaussianConditional`.

    Source: Cheng et al. 2020, equation 10.
    """

    # Rows of the scale table are single Gaussians, which a likelihood of mixtures does not give.
    _density = ("_standardized_cumulative", "_pmf_to_cdf")

    def __init__(
        self,
        K: int = 3,
        scale_table: list[float] | tuple[float, ...] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(scale_table, *args, **kwargs)
        self.K = K

    def _likelihood(self, inputs: Tensor, scales: Tensor, means: Tensor, weights: Tensor) -> Tensor:
        """Mass of the unit bins around ``inputs``; shapes as in :meth:`forward`."""
        likelihood = torch.zeros_like(inputs)
        components = (t.chunk(self.K, dim=1) for t in (scales, means, weights))
        for scale, mean, weight in zip(*components):
            likelihood = likelihood + weight * super()._likelihood(inputs, scale, mean)
        return likelihood

    def forward(
        self,
        inputs: Tensor,
        scales: Tensor,
        means: Tensor,
        weights: Tensor,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Quantised values and their likelihoods.

        Args:
            inputs: float ``(N, M, H, W)``.
            scales, means, weights: ``(N, K * M, H, W)``.
            training: noise if true, rounding (not around the means) if false; ``None`` follows
                the module's mode.

        Returns:
            ``(outputs, likelihoods)``, both of the shape of ``inputs``.
        """
        mode = "noise" if (self.training if training is None else training) else "dequantize"
        outputs = self.quantize(inputs, mode)
        likelihood = self._likelihood(outputs, scales, means, weights)
        if self.use_likelihood_bound:
            likelihood = self.likelihood_lower_bound(likelihood)
        return outputs, likelihood

    def compress(
        self, y: Tensor, scales: Tensor, means: Tensor, weights: Tensor
    ) -> tuple[tuple[bytes, int, Tensor], Tensor]:
        """Code one item. Channels that are zero everywhere cost nothing.

        Args:
            y: float ``(1, M, H, W)``.
            scales, means, weights: ``(1, K * M, H, W)``.

        Returns:
            ``((string, abs_max, zero_bitmap), y_quantized)``: ``abs_max`` is the range of the
            tables, ``zero_bitmap`` int64 ``(M,)`` is 0 for channels that are zero.

        Raises:
            ValueError: more than one item, or ``y``, ``scales``, ``means`` or ``weights`` are not
                finite or too large for a table.
        """
        _check_single_item(y)
        symbols = self._symbols(y, None)
        # The bitstream's rule cuts values rather than rounding them.
        reach = symbols if overridden(self, _QUANTIZE) else y
        abs_max = max(abs(int(reach.max())), abs(int(reach.min()))) + 1
        if abs_max > self._largest():
            place = symbols[0].abs().flatten(1).amax(1)
            raise refused(
                self,
                f"the values of channel {int(place.argmax())} reach {int(place.max())}, more than "
                f"the {self._largest() - 1} of a table: the network has diverged; check the image, "
                "and load earlier weights",
            )
        zero_bitmap = symbols[0].flatten(1).any(1).to(torch.int64)
        keep = zero_bitmap.bool()
        coded = (symbols[0, keep] + abs_max).reshape(-1).cpu().numpy()
        cdf = self._build_cdf(
            *self.reshape_entropy_parameters(scales, means, weights, keep), abs_max
        )
        rows, *tables = _table_arguments(cdf)
        note_symbols(self, coded, rows, tables)
        string = self.entropy_coder.encode_with_indexes(
            *_coder_arguments(self.entropy_coder.name, coded, rows, *tables)
        )
        return (string, abs_max, zero_bitmap), self.dequantize(symbols, dtype=y.dtype)

    def decompress(
        self,
        strings: bytes,
        abs_max: int,
        zero_bitmap: Tensor,
        scales: Tensor,
        means: Tensor,
        weights: Tensor,
    ) -> Tensor:
        """Decode one item.

        Args:
            strings: the string made by :meth:`compress`.
            abs_max, zero_bitmap: what :meth:`compress` gave with it.
            scales, means, weights: ``(1, K * M, H, W)``.

        Returns:
            Float ``(1, M, H, W)`` on the device of ``means``.

        Raises:
            ValueError: more than one item, the string is damaged, or ``abs_max``, ``scales``,
                ``means`` or ``weights`` are out of range.
        """
        _check_single_item(means)
        if not 0 < abs_max <= self._largest():
            raise ValueError(f"abs_max must be in 1..{self._largest()}, got {abs_max}")
        keep = zero_bitmap.bool()
        cdf = self._build_cdf(
            *self.reshape_entropy_parameters(scales, means, weights, keep), abs_max
        )
        values = self.entropy_coder.decode_with_indexes(
            *_coder_arguments(self.entropy_coder.name, strings, *_table_arguments(cdf))
        )
        height, width = means.shape[2:]
        symbols = means.new_zeros((1, len(zero_bitmap), height, width), dtype=torch.int32)
        coded = torch.as_tensor(np.asarray(values), dtype=torch.int32) - abs_max
        symbols[:, keep.to(symbols.device)] = coded.reshape(1, -1, height, width).to(symbols.device)
        return self.dequantize(symbols)

    def _largest(self) -> int:
        """Largest ``abs_max``: a table has a unit for each symbol, and for an escape."""
        return (1 << (self.entropy_coder_precision - 1)) - 1

    def reshape_entropy_parameters(
        self, scales: Tensor, means: Tensor, weights: Tensor, nonzero: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters of the elements that are coded.

        Args:
            scales, means, weights: ``(1, K * M, H, W)``.
            nonzero: bool or index ``(M,)``: the channels that are coded.

        Returns:
            Three tensors ``(K, n)``, elements in the order channel, row, column.
        """
        for name, t in (("scales", scales), ("means", means), ("weights", weights)):
            check_parameters(self, t, name)
        nonzero = nonzero.to(scales.device)

        def select(t: Tensor) -> Tensor:
            return t.reshape(self.K, -1, *t.shape[2:])[:, nonzero].reshape(self.K, -1)

        return select(scales), select(means), select(weights)

    def _build_cdf(self, scales: Tensor, means: Tensor, weights: Tensor, abs_max: int) -> Tensor:
        """One table row for each coded element.

        A density that is not this class's own is asked by ``_likelihood`` for the elements in a
        column: for ``inputs`` ``(symbols, 1, n, 1)`` and parameters ``(symbols, K, n, 1)``.

        Args:
            scales, means, weights: ``(K, n)``.
            abs_max: symbols run from ``-abs_max`` to ``abs_max``.

        Returns:
            int32 ``(n, 2 * abs_max + 3)``.
        """
        if overridden(self, _MIXTURE_DENSITY):
            pmf = self._own_pmf(scales, means, weights, abs_max)
        else:
            pmf = self._pmf(scales, means, weights, abs_max)
        if not overridden(self, ("_pmf_to_cdf",)):
            return self._integers(pmf)
        length = torch.full((len(pmf),), pmf.size(1), dtype=torch.int32)
        return self._pmf_to_cdf(pmf, pmf.new_zeros(len(pmf), 1), length, pmf.size(1)).cpu()

    def _own_pmf(self, scales: Tensor, means: Tensor, weights: Tensor, abs_max: int) -> Tensor:
        symbols = torch.arange(-abs_max, abs_max + 1, device=scales.device, dtype=scales.dtype)
        count = scales.size(1)

        def every(t: Tensor) -> Tensor:
            return t[None, :, :, None].expand(len(symbols), -1, -1, -1)

        inputs = symbols[:, None, None, None].expand(-1, 1, count, 1)
        with torch.no_grad(), torch.autocast(scales.device.type, enabled=False):
            likelihood = self._likelihood(inputs, every(scales), every(means), every(weights))
        return likelihood[:, 0, :, 0].t()

    @staticmethod
    def _pmf(scales: Tensor, means: Tensor, weights: Tensor, abs_max: int) -> Tensor:
        """Masses ``(n, symbols)``, computed as the bitstream defines it."""
        samples = torch.arange(2 * abs_max + 1, device=scales.device)
        scales = scales.clamp(0.11, _MAX_SCALE)[:, :, None]
        means = (means + abs_max)[:, :, None]

        def cumulative(x: Tensor) -> Tensor:
            return 0.5 * (1 + torch.erf((x - means) / ((scales + 1e-10) * 2**0.5)))

        bins = cumulative(samples + 0.5) - cumulative(samples - 0.5)
        return (weights[:, :, None] * bins).sum(dim=0)

    def _integers(self, pmf: Tensor) -> Tensor:
        """Cumulative tables of masses ``(n, symbols)``, each symbol with a unit at least."""
        total = (1 << self.entropy_coder_precision) - 1
        scaled = torch.round(pmf.clamp(1.0 / total, 1.0) * total)
        normalised = scaled * total / scaled.sum(dim=1, keepdim=True)
        cumulated = torch.cumsum(normalised, dim=1).to(torch.int32)
        frequencies = torch.diff(cumulated, dim=1, prepend=cumulated.new_zeros(len(cumulated), 1))

        # Symbols without frequency take one each from the rarest symbol that can spare them.
        empty = frequencies == 0
        missing = empty.sum(dim=1, keepdim=True)
        spare = torch.where(frequencies > missing, frequencies, total + 1)
        donor = spare.argmin(dim=1, keepdim=True)
        frequencies = frequencies.masked_fill(empty, 1)
        frequencies = frequencies.scatter_add(1, donor, -missing.to(frequencies.dtype))

        cdf = torch.zeros(len(frequencies), pmf.size(1) + 2, dtype=torch.int32)
        cdf[:, 1:-1] = torch.cumsum(frequencies, dim=1).cpu()
        cdf[:, -1] = total + 1
        return cdf


def _check_single_item(t: Tensor) -> None:
    if t.size(0) != 1:
        raise ValueError(f"the Gaussian mixture codes one item at a time, got a batch of {len(t)}")


def _table_arguments(cdf: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows, width = cdf.shape
    return (
        np.arange(rows, dtype=np.int32),
        cdf.numpy(),
        np.full(rows, width, dtype=np.int32),
        np.zeros(rows, dtype=np.int32),
    )


def _coder_arguments(coder: str, first: Any, *arrays: np.ndarray) -> tuple[Any, ...]:
    if coder == "ans":
        return (first, *arrays)
    first = first if isinstance(first, bytes) else first.tolist()
    return (first, *(array.tolist() for array in arrays))
