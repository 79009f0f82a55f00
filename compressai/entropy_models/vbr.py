# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Entropy models whose quantisation step can be chosen at each call (variable rate)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models._factorized_density import FactorizedDensity
from compressai.entropy_models._overrides import of_this_package, overridden
from compressai.entropy_models._refusals import check_codable
from compressai.entropy_models.base import _STRINGS, EntropyModel
from compressai.entropy_models.noise import uniform_noise
from compressai.ops import quantize_ste, rounded

__all__ = ["EntropyBottleneckVbr", "EntropyModelVbr"]


_QUANTIZE = ("quantize_variable",)


@of_this_package
class EntropyModelVbr(EntropyModel):
    """:class:`EntropyModel` with a quantisation step ``qs``, a 0-dimensional tensor.

    Args:
        args, kwargs: those of :class:`EntropyModel`.

    Source: Kamisli, Racapé, Choi 2024, "Variable-rate learned image compression with
    multi-objective optimization and quantization-reconstruction offsets".
    """

    def quantize_variable(
        self, inputs: Tensor, mode: str, means: Tensor | None = None, qs: Tensor | None = None
    ) -> Tensor:
        """Quantise with step ``qs`` around ``means``.

        Args:
            inputs: any shape.
            mode: ``"noise"``, ``"dequantize"`` and ``"symbols"`` as in :meth:`quantize`, and
                ``"ste"``: as ``"dequantize"``, with the gradient of the identity.
            means: broadcastable to ``inputs``; ``None`` stands for 0.
            qs: 0-dimensional step; ``None`` stands for 1.

        Returns:
            Tensor of the shape of ``inputs``.

        Raises:
            ValueError: any other ``mode``.
            AssertionError: ``qs`` is not 0-dimensional.
        """
        if mode not in ("noise", "ste", "dequantize", "symbols"):
            raise ValueError(
                f"mode must be 'noise', 'ste', 'dequantize' or 'symbols', got {mode!r}"
            )
        _check_step(qs)
        if mode == "noise":
            return _add_noise(inputs, uniform_noise(inputs), qs)
        residual = inputs if means is None else inputs - means
        scaled = residual if qs is None else residual / qs
        if mode == "symbols":
            return torch.round(scaled).to(torch.int32)
        values = quantize_ste(scaled) if mode == "ste" else rounded(scaled)
        outputs = values if qs is None else values * qs
        return outputs if means is None else outputs + means

    @staticmethod
    def dequantize_variable(
        inputs: Tensor,
        means: Tensor | None = None,
        dtype: torch.dtype = torch.float,
        qs: Tensor | None = None,
    ) -> Tensor:
        """Values of symbols: ``inputs * qs + means``; see :meth:`quantize_variable`."""
        outputs = inputs.to(dtype) if means is None else inputs.to(means.device, means.dtype)
        outputs = outputs.clone() if qs is None else outputs * qs
        return outputs if means is None else outputs + means

    def compress(
        self,
        inputs: Tensor,
        indexes: Tensor,
        means: Tensor | None = None,
        qs: Tensor | None = None,
    ) -> list[bytes]:
        """As :meth:`EntropyModel.compress`, with the values quantised by step ``qs``."""
        return self._code(inputs, indexes, means, qs)[0]

    def compress_and_quantize(
        self,
        inputs: Tensor,
        indexes: Tensor,
        means: Tensor | None = None,
        qs: Tensor | None = None,
    ) -> tuple[list[bytes], Tensor]:
        """As :meth:`EntropyModel.compress_and_quantize`, with the step ``qs``."""
        if overridden(self, _STRINGS):
            return self._code_by_methods(
                lambda: self.compress(inputs, indexes, means, qs),
                lambda strings: self.decompress(strings, indexes, inputs.dtype, means, qs),
            )
        return self._code(inputs, indexes, means, qs)

    def _code(
        self,
        inputs: Tensor,
        indexes: Tensor,
        means: Tensor | None = None,
        qs: Tensor | None = None,
    ) -> tuple[list[bytes], Tensor]:
        _check_step(qs)
        if overridden(self, _QUANTIZE):
            check_codable(self, inputs, means)
            symbols = self.quantize_variable(inputs, "symbols", means, qs)
        elif qs is None:
            symbols = self._symbols(inputs, means)
        else:
            symbols = self._symbols((inputs if means is None else inputs - means) / qs, None)
        strings = self._encode(symbols, indexes)
        return strings, self.dequantize_variable(symbols, means, inputs.dtype, qs)

    def decompress(
        self,
        strings: Sequence[bytes],
        indexes: Tensor,
        dtype: torch.dtype = torch.float,
        means: Tensor | None = None,
        qs: Tensor | None = None,
    ) -> Tensor:
        """As :meth:`EntropyModel.decompress`, for values quantised by step ``qs``."""
        _check_step(qs)
        symbols = self._decode(strings, indexes, means)
        return self.dequantize_variable(symbols, means, dtype, qs)


@of_this_package
class EntropyBottleneckVbr(FactorizedDensity, EntropyModelVbr):
    """:class:`EntropyBottleneck` with a variable quantisation step.

    Its parameters are called ``_matrix0``, ``_bias0``, ``_factor0`` and so on.

    Args:
        channels, args, tail_mass, init_scale, filters, kwargs: those of
            :class:`EntropyBottleneck`.
    """

    def _add_layer(self, index: int, matrix: Tensor, bias: Tensor, factor: Tensor | None) -> None:
        self.register_parameter(f"_matrix{index}", nn.Parameter(matrix))
        self.register_parameter(f"_bias{index}", nn.Parameter(bias))
        if factor is not None:
            self.register_parameter(f"_factor{index}", nn.Parameter(factor))

    def _layer(self, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        factor = getattr(self, f"_factor{index}") if index < len(self.filters) else None
        return getattr(self, f"_matrix{index}"), getattr(self, f"_bias{index}"), factor

    def forward(
        self,
        x: Tensor,
        training: bool | None = None,
        qs: Tensor | None = None,
        ste: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Quantised values and their likelihoods.

        The likelihoods are masses of unit bins, whatever ``qs``: published models were trained
        and evaluated so.

        Args:
            x: float ``(N, C, ...)``.
            training: noise if true, rounding if false; ``None`` follows the module's mode.
            qs: 0-dimensional step; ``None`` stands for 1.
            ste: with ``qs``, round with the gradient of the identity in both modes.

        Returns:
            ``(x_hat, likelihoods)``, both of the shape of ``x``.
        """
        mode = "noise" if (self.training if training is None else training) else "dequantize"
        if qs is not None and ste:
            mode = "ste"

        def quantize(values: Tensor, medians: Tensor, noise: Callable[[], Tensor]) -> Tensor:
            if mode == "noise":
                _check_step(qs)
                return _add_noise(values, noise(), qs)
            return self.quantize_variable(values, mode, medians, qs)

        return self._forward(x, quantize)

    def update(self, force: bool = False, update_quantiles: bool = False) -> bool:
        """Build the tables for step 1; see :meth:`update_variable`."""
        return self.update_variable(force, 1.0, update_quantiles)

    def update_variable(
        self,
        force: bool = False,
        qs: float | Tensor = 1.0,
        update_quantiles: bool = False,
    ) -> bool:
        """Build the tables for one quantisation step.

        Args:
            force: build them even if there are some.
            qs: the step, a number or a tensor with one element.
            update_quantiles: first solve for the quantiles by bisection, as in
                :meth:`EntropyBottleneck.update`.

        Returns:
            Whether the tables were built.
        """
        if self.has_tables and not force:
            return False
        if update_quantiles:
            self._update_quantiles()
        self._build_tables(qs.detach().reshape(()) if isinstance(qs, Tensor) else float(qs))
        return True

    def compress(self, x: Tensor, qs: Tensor | None = None) -> list[bytes]:
        """Code ``(N, C, ...)`` with step ``qs``; the tables should be built for that step."""
        medians = self._expanded_medians(x.size(0), x.dim() - 2)
        return super().compress(x, self._build_indexes(x.shape), medians, qs)

    def compress_and_quantize(
        self, x: Tensor, qs: Tensor | None = None
    ) -> tuple[list[bytes], Tensor]:
        """As :meth:`compress`, and what :meth:`decompress` makes of the strings."""
        if overridden(self, _STRINGS):
            return self._code_by_methods(
                lambda: self.compress(x, qs),
                lambda strings: self.decompress(strings, x.shape[2:], qs),
            )
        medians = self._expanded_medians(x.size(0), x.dim() - 2)
        return self._code(x, self._build_indexes(x.shape), medians, qs)

    def decompress(
        self, strings: Sequence[bytes], size: Iterable[int], qs: Tensor | None = None
    ) -> Tensor:
        """Decode ``N`` strings of spatial size ``size`` that were coded with step ``qs``."""
        size = self._output_size(strings, size)
        medians = self._expanded_medians(len(strings), len(size) - 2)
        self._check_tables()
        return super().decompress(strings, self._build_indexes(size), medians.dtype, medians, qs)


def _add_noise(values: Tensor, noise: Tensor, qs: Tensor | None) -> Tensor:
    return values + (noise if qs is None else noise * qs)


def _check_step(qs: Tensor | None) -> None:
    if qs is not None and qs.dim() != 0:
        raise AssertionError(f"qs must be 0-dimensional, got shape {tuple(qs.shape)}")
