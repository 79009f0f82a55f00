# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The conditional generalised Gaussian: heavier or lighter tails than those of the Gaussian."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import gamma, isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compressai.entropy_models._overrides import of_this_package, overridden
from compressai.entropy_models.base import quantize_rows
from compressai.entropy_models.gaussian import GaussianConditional

__all__ = ["GeneralizedGaussianConditional"]


@of_this_package
class GeneralizedGaussianConditional(GaussianConditional):
    """Entropy model of values with the density ``beta / (2 a Gamma(1 / beta)) exp(-|x / a|**beta)``
    around predicted means.

    The scales are the ``a`` of that family. (For ``beta`` 2, the standard deviation is
    ``a / sqrt(2)``.)

    Args:
        scale_table: ascending positive scales as a list or tuple, or ``None`` to set it later
            with :meth:`update_scale_table`.
        args: handed to :class:`~compressai.entropy_models.EntropyModel`.
        beta: exponent of the density.
        scale_bound: scales are clamped from below at this value. ``None`` takes the lowest entry
            of ``scale_table``.
        tail_mass: mass outside of the range that a table row covers; symbols there are escaped.
        kwargs: handed to :class:`~compressai.entropy_models.EntropyModel`.

    Shape: inputs, scales and means ``(N, C, ...)``, all alike or broadcastable.

    Raises:
        ValueError: ``beta`` is not positive and finite; else as
            :class:`~compressai.entropy_models.GaussianConditional`.

    Source: Zhang et al. 2024, "Generalized Gaussian model for learned image compression".
    """

    def __init__(
        self,
        scale_table: list[float] | tuple[float, ...] | None,
        *args: Any,
        beta: float = 1.5,
        scale_bound: float | None = 0.12,
        tail_mass: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        if not (isfinite(beta) and beta > 0):
            raise ValueError(f"beta must be positive and finite, got {beta}")
        super().__init__(scale_table, *args, scale_bound=scale_bound, tail_mass=tail_mass, **kwargs)
        self.beta = float(beta)

    def _standardized_cumulative(self, inputs: Tensor) -> Tensor:
        """Cumulative distribution for scale 1."""
        return _Cumulative.apply(inputs, self.beta)

    def _standardized_quantile(self, quantile: float) -> float:
        """Inverse of the cumulative distribution below its centre, in double precision."""
        # Slow to import, and needed for tables only.
        from scipy.special import gammainccinv

        return -(float(gammainccinv(1 / self.beta, 2 * quantile)) ** (1 / self.beta))

    def update_scale_table(self, scale_table: Iterable[float], force: bool = False) -> bool:
        """Set the scales and build the tables that coding needs.

        Args:
            scale_table: scales, one a row of the tables; a tensor will do. They must ascend for
                :meth:`build_indexes`. Rows of scales below the bound are those of the bound.
            force: build the tables even if there are some.

        Returns:
            Whether the tables were built.
        """
        return super().update_scale_table(scale_table, force)

    def update(self) -> None:
        """Build the tables for the present scale table.

        The same integers come out on every machine: all is evaluated in double precision, and
        rounded to single precision before it is quantised.

        Raises:
            RuntimeError: the scale table is empty.
            ValueError: a scale is not finite, or too large to be coded.
        """
        if overridden(self, self._density):
            super().update()
            return
        scales, multiplier = self._scales_of_rows()
        tables = _tables(scales.tobytes(), self.beta, multiplier, self.entropy_coder_precision)
        self._set_tables(*map(torch.from_numpy, tables))

    def _bounded(self, scales: np.ndarray) -> np.ndarray:
        return np.maximum(scales, self.lower_bound_scale.bound.detach().cpu().float().numpy())


class _Cumulative(torch.autograd.Function):
    """Cumulative distribution, whose gradient is the density.

    The gradient of the incomplete gamma function itself is infinite at 0.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, beta: float) -> Tensor:
        # The upper function keeps its digits in the lower tail.
        power = x.abs().pow(beta)
        tail = 0.5 * torch.special.gammaincc(power.new_tensor(1 / beta), power)
        return torch.where(x > 0, 1 - tail, tail)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        x, ctx.beta = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        peak = ctx.beta / (2 * gamma(1 / ctx.beta))
        return grad_output * peak * torch.exp(-x.abs().pow(ctx.beta)), None


@lru_cache(maxsize=16)
def _tables(
    scales: bytes, beta: float, multiplier: float, precision: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cumulative tables, their lengths and offsets, for the float32 scales in ``scales``."""
    # Slow to import, and needed for tables only.
    from scipy.special import gammaincc

    def upper(x: np.ndarray) -> np.ndarray:
        """Mass above ``x``, which is not negative."""
        return 0.5 * gammaincc(1 / beta, x**beta)

    scale = np.frombuffer(scales, dtype=np.float32).astype(np.float64)
    center = np.ceil(scale * multiplier).astype(np.int32)
    length = 2 * center + 1
    distance = np.abs(np.arange(length.max()) - center[:, None])
    outer = upper((distance + 0.5) / scale[:, None])
    inner = upper(np.abs(distance - 0.5) / scale[:, None])
    pmf = np.where(distance == 0, 1 - 2 * outer, inner - outer)
    cdf = quantize_rows(pmf, 2 * outer[:, 0], length, precision)
    return cdf, length + 2, -center
