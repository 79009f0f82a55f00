# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The factorized prior: an entropy model that needs no side information."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.entropy_models._factorized_density import FactorizedDensity
from compressai.entropy_models._overrides import of_this_package, overridden
from compressai.entropy_models.base import _STRINGS, EntropyModel

__all__ = ["EntropyBottleneck"]

# `_matrix0` (earlier releases) and `_matrices.0` (older still) stand for `matrices.0`.
_LEGACY_NAME = re.compile(r"_(?:(matrix|bias|factor)|(matrices|biases|factors)\.)(\d+)")
_PLURAL = {"matrix": "matrices", "bias": "biases", "factor": "factors"}


@of_this_package
class EntropyBottleneck(FactorizedDensity, EntropyModel):
    """Entropy model with one learned density a channel, independent of anything else.

    In training, values get noise uniform in [-0.5, 0.5); otherwise they are rounded around the
    channel's median. Parameter names of earlier releases (``_matrix0``, ``_matrices.0`` and the
    like) are understood when a state dict is loaded.

    Args:
        channels: number of channels ``C``.
        args: handed to :class:`EntropyModel`.
        tail_mass: mass outside of the outer quantiles.
        init_scale: a fresh density is spread over about ``[-init_scale, init_scale]``.
        filters: widths of the hidden layers of the network of the cumulative.
        kwargs: handed to :class:`EntropyModel`.

    Shape: input ``(N, C, ...)`` with any number of spatial axes; outputs alike.

    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior",
    appendix 6.1.
    """

    def _build_density(self) -> None:
        self.matrices = nn.ParameterList()
        self.biases = nn.ParameterList()
        self.factors = nn.ParameterList()
        super()._build_density()

    def _add_layer(self, index: int, matrix: Tensor, bias: Tensor, factor: Tensor | None) -> None:
        self.matrices.append(nn.Parameter(matrix))
        self.biases.append(nn.Parameter(bias))
        if factor is not None:
            self.factors.append(nn.Parameter(factor))

    def _layer(self, index: int) -> tuple[Tensor, Tensor, Tensor | None]:
        factor = self.factors[index] if index < len(self.filters) else None
        return self.matrices[index], self.biases[index], factor

    def forward(self, x: Tensor, training: bool | None = None) -> tuple[Tensor, Tensor]:
        """Quantised values and their likelihoods.

        Args:
            x: float ``(N, C, ...)``.
            training: noise if true, rounding if false; ``None`` follows the module's mode.

        Returns:
            ``(x_hat, likelihoods)``, both of the shape of ``x``.
        """
        noisy = self.training if training is None else training

        def quantize(values: Tensor, medians: Tensor, noise: Callable[[], Tensor]) -> Tensor:
            return values + noise() if noisy else self.quantize(values, "dequantize", medians)

        return self._forward(x, quantize)

    def update(self, force: bool = False, update_quantiles: bool = False) -> bool:
        """Build the tables that coding needs.

        Args:
            force: build them even if there are some.
            update_quantiles: first solve for the quantiles by bisection, so that a model trained
                without the auxiliary loss works too.

        Returns:
            Whether the tables were built.
        """
        if self.has_tables and not force:
            return False
        if update_quantiles:
            self._update_quantiles()
        self._build_tables()
        return True

    def compress(self, x: Tensor) -> list[bytes]:
        """Code a batch, one string per item.

        Args:
            x: float ``(N, C, ...)``.

        Returns:
            ``N`` strings.

        Raises:
            ValueError: there are no tables, or ``x`` is not finite.
        """
        medians = self._expanded_medians(x.size(0), x.dim() - 2)
        return super().compress(x, self._build_indexes(x.shape), medians)

    def compress_and_quantize(self, x: Tensor) -> tuple[list[bytes], Tensor]:
        """As :meth:`compress`, and what :meth:`decompress` makes of the strings."""
        if overridden(self, _STRINGS):
            return self._code_by_methods(
                lambda: self.compress(x), lambda strings: self.decompress(strings, x.shape[2:])
            )
        medians = self._expanded_medians(x.size(0), x.dim() - 2)
        return self._code(x, self._build_indexes(x.shape), medians)

    def decompress(self, strings: Sequence[bytes], size: Iterable[int]) -> Tensor:
        """Decode a batch of strings.

        Args:
            strings: ``N`` strings.
            size: spatial size of an item, empty for ``(N, C)``.

        Returns:
            Tensor ``(N, C, *size)``.

        Raises:
            TypeError: ``size`` is no sequence of integers.
            ValueError: there are no tables, a string is damaged, or ``size`` has a negative side or
                2**31 values and more in all channels.
        """
        size = self._output_size(strings, size)
        medians = self._expanded_medians(len(strings), len(size) - 2)
        self._check_tables()
        return super().decompress(strings, self._build_indexes(size), medians.dtype, medians)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for key in [key for key in state_dict if key.startswith(prefix + "_")]:
            match = _LEGACY_NAME.fullmatch(key[len(prefix) :])
            if match:
                name = match[2] or _PLURAL[match[1]]
                state_dict[f"{prefix}{name}.{match[3]}"] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
