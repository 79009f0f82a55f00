# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The conditional Gaussian: an entropy model whose scales (and means) are predicted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compressai import _CXX
from compressai.entropy_models._grid import PreparedScales
from compressai.entropy_models._loading import equal
from compressai.entropy_models._overrides import CODING_METHODS, of_this_package, overridden
from compressai.entropy_models._refusals import check_codable, check_parameters, refused
from compressai.entropy_models.base import EntropyModel, int_rows, quantize_rows
from compressai.entropy_models.session import Correction, active_coder
from compressai.ops import LowerBound

__all__ = ["GaussianConditional"]


# What the exact tables of the scale table stand for.
DENSITY = ("_standardized_cumulative", "_likelihood", "_pmf_to_cdf")


@of_this_package
class GaussianConditional(EntropyModel):
    """Entropy model of values that are normally distributed around predicted means.

    For coding, scales are sorted into the bins of a table, each with a precomputed distribution.

    Args:
        scale_table: ascending positive scales as a list or tuple, or ``None`` to set it later
            with :meth:`update_scale_table`.
        args: handed to :class:`EntropyModel`.
        scale_bound: scales are clamped from below at this value. ``None`` takes the lowest entry
            of ``scale_table``.
        tail_mass: mass outside of the range that a table row covers; symbols there are escaped.
        kwargs: handed to :class:`EntropyModel`.

    Shape: inputs, scales and means ``(N, C, ...)``, all alike.

    Raises:
        ValueError: ``scale_table`` is no list or tuple, empty, not ascending or not positive;
            ``scale_bound`` is not positive, or ``None`` without a table.

    Source: Ballé et al. 2018, "Variational image compression with a scale hyperprior", section 3;
    with means: Minnen et al. 2018.
    """

    scale_table: Tensor
    scale_bound: Tensor
    _density = DENSITY

    def __init__(
        self,
        scale_table: list[float] | tuple[float, ...] | None,
        *args: Any,
        scale_bound: float | None = 0.11,
        tail_mass: float = 1e-9,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if scale_table is not None:
            _check_scale_table(scale_table)
        if scale_bound is None:
            if scale_table is None:
                raise ValueError("scale_bound=None needs a scale_table to take the bound from")
            scale_bound = scale_table[0]
        if scale_bound <= 0:
            raise ValueError(f"scale_bound must be positive, got {scale_bound}")
        self.tail_mass = float(tail_mass)
        self.lower_bound_scale = LowerBound(scale_bound)
        self.register_buffer("scale_table", self._prepare_scale_table(scale_table or ()))
        self.register_buffer("scale_bound", torch.tensor([float(scale_bound)]))
        self._prepared_scales: tuple[Any, PreparedScales] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_prepared_scales": None}

    @staticmethod
    def _prepare_scale_table(scale_table: Iterable[float]) -> Tensor:
        return torch.tensor([float(scale) for scale in scale_table], dtype=torch.float32)

    def _standardized_cumulative(self, inputs: Tensor) -> Tensor:
        """Cumulative distribution of the standard normal."""
        # erfc rather than erf: precise in the lower tail.
        return 0.5 * torch.erfc(-(2**-0.5) * inputs)

    @staticmethod
    def _standardized_quantile(quantile: float) -> float:
        """Inverse of the standard normal's cumulative distribution, in double precision."""
        # Slow to import, and needed for tables only.
        from scipy.special import ndtri

        return float(ndtri(quantile))

    def _likelihood(self, inputs: Tensor, scales: Tensor, means: Tensor | None = None) -> Tensor:
        """Mass of the unit bins around ``inputs``, all three broadcastable."""
        values = torch.abs(inputs if means is None else inputs - means)
        scales = self.lower_bound_scale(scales)
        # By symmetry both edges lie in the lower half, where the difference keeps its digits.
        upper = self._standardized_cumulative((0.5 - values) / scales)
        lower = self._standardized_cumulative((-0.5 - values) / scales)
        return upper - lower

    def forward(
        self,
        inputs: Tensor,
        scales: Tensor,
        means: Tensor | None = None,
        training: bool | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Quantised values and their likelihoods.

        Args:
            inputs: float ``(N, C, ...)``.
            scales: standard deviations, clamped from below at the bound.
            means: centres of the distributions; ``None`` stands for 0.
            training: noise if true, rounding around the means if false; ``None`` follows the
                module's mode.

        Returns:
            ``(outputs, likelihoods)``, both of the shape of ``inputs``.
        """
        mode = "noise" if (self.training if training is None else training) else "dequantize"
        outputs = self.quantize(inputs, mode, means)
        likelihood = self._likelihood(outputs, scales, means)
        if self.use_likelihood_bound:
            likelihood = self.likelihood_lower_bound(likelihood)
        return outputs, likelihood

    def build_indexes(self, scales: Tensor) -> Tensor:
        """Table row of each scale: the first whose scale is not smaller, else the last.

        Args:
            scales: standard deviations, any shape.

        Returns:
            int32 tensor of the shape of ``scales``.

        Raises:
            ValueError: coding is synchronised, which rows of predicted scales are not.
        """
        if active_coder() is not None:
            raise ValueError(
                "rows of predicted scales differ between machines: to be synchronised, a codec "
                "must code by GaussianConditional.code() and decode(); else use sync_safe=False"
            )
        if _is_native(scales) and self.scale_table.numel():
            prepared = self._scales()
            flat = scales.detach().contiguous().numpy().reshape(-1)
            rows = _CXX.table_rows(flat, prepared.native, prepared.first)
            return torch.from_numpy(rows).view(scales.shape)
        # Half-precision scales are compared in single precision, or neighbours would merge.
        scales = scales.detach().to(torch.promote_types(scales.dtype, torch.float32))
        scales = torch.maximum(scales, self.lower_bound_scale.bound.to(scales.dtype))
        edges = self.scale_table[:-1].to(scales.dtype)
        return torch.bucketize(scales, edges, out_int32=True)

    def code(
        self,
        y: Tensor,
        scales: Tensor,
        means: Tensor | None = None,
        correct: Correction | None = None,
    ) -> tuple[list[bytes], Tensor]:
        """Code a batch: :meth:`build_indexes` and :meth:`compress_and_quantize` in one.

        How it is coded is up to the coding session that is open, see
        :mod:`compressai.entropy_models.session`.

        Args:
            y: float ``(N, C, ...)``.
            scales: of the shape of ``y``.
            means: of the shape of ``y``; ``None`` stands for 0.
            correct: from the quantised values to ``y_hat``, such as residual prediction; ``None``
                leaves them.

        Returns:
            ``(strings, y_hat)``, the latter as :meth:`decode` gives it.

        Raises:
            ValueError: shapes do not fit, there are no tables, ``y`` is not finite, or scales or
                means are not finite or beyond 2**24.
        """
        self._check_predicted(scales, means)
        coder = active_coder()
        if coder is not None:
            return coder.code(self, y, scales, means, correct)
        strings, y_hat = self._code_plainly(y, scales, means)
        return strings, y_hat if correct is None else correct(y_hat)

    def decode(
        self,
        strings: Sequence[bytes | None],
        scales: Tensor,
        means: Tensor | None = None,
        correct: Correction | None = None,
    ) -> dict[str, Tensor]:
        """Inverse of :meth:`code`.

        Args:
            strings: those of :meth:`code`. ``None`` stands for one that is lost: its symbols are
                taken to be 0.
            scales, means, correct: as there.

        Returns:
            ``{"y_hat"}``; in synchronised coding also ``"y_fine"``, the values before they were
            rounded to what both sides share.

        Raises:
            ValueError: the number of strings does not fit, there are no tables, a string is
                damaged, or scales or means are not finite or beyond 2**24.
        """
        self._check_predicted(scales, means)
        coder = active_coder()
        if coder is not None:
            return coder.decode(self, strings, scales, means, correct)
        indexes = self.build_indexes(scales)
        y_hat = self.decompress(strings, indexes, dtype=scales.dtype, means=means)
        return {"y_hat": y_hat if correct is None else correct(y_hat)}

    def _check_predicted(self, scales: Tensor, means: Tensor | None) -> None:
        """Raise ValueError, with the channel and the value, for parameters of a broken network."""
        check_parameters(self, scales, "scales")
        if means is not None:
            check_parameters(self, means, "means")

    def _code_plainly(
        self, y: Tensor, scales: Tensor, means: Tensor | None
    ) -> tuple[list[bytes], Tensor]:
        latents = [y, scales] if means is None else [y, scales, means]
        if overridden(self, CODING_METHODS) or not all(map(_is_native, latents)):
            return self.compress_and_quantize(y, self.build_indexes(scales), means)
        symbols, indexes, y_hat = self.symbols_and_rows(y, scales, means)
        return self._encode_rows(symbols, indexes), y_hat

    def symbols_and_rows(
        self, y: Tensor, scales: Tensor, means: Tensor | None = None
    ) -> tuple[np.ndarray, np.ndarray, Tensor]:
        """Quantise a batch for coding.

        Args:
            y, scales, means: as in :meth:`code`.

        Returns:
            ``(symbols, rows, y_hat)``: int32 ``(N, elements of an item)`` both, with the table row
            of each symbol; and the values of the symbols, of the shape of ``y``.

        Raises:
            ValueError: as :meth:`code`.
        """
        latents = [y, scales] if means is None else [y, scales, means]
        if len({t.shape for t in latents}) != 1 or y.dim() < 2:
            raise ValueError(
                "y, scales and means must have one shape of 2 or more dimensions, got "
                f"{[tuple(t.shape) for t in latents]}"
            )
        self._check_tables()
        if overridden(self, CODING_METHODS) or not all(map(_is_native, latents)):
            symbols = self._symbols(y, means)
            indexes = int_rows(self.build_indexes(scales))
            return int_rows(symbols), indexes, self.dequantize(symbols, means, y.dtype)
        prepared = self._scales()
        count = math.prod(y.shape[1:])
        rows = [t.detach().contiguous().numpy().reshape(len(t), count) for t in latents]
        try:
            symbols, indexes = _CXX.latent_symbols(
                *(rows[0], None if means is None else rows[2], rows[1]),
                *(prepared.native, prepared.first),
            )
        except ValueError:
            check_codable(self, y if means is None else y - means)
            raise
        values = torch.from_numpy(symbols).view(y.shape)
        return symbols, indexes, self.dequantize(values, means, y.dtype)

    def _scales(self) -> PreparedScales:
        """The scale table ready for looking up, prepared once for the present buffers."""
        buffers = (self.scale_table, self.lower_bound_scale.bound)
        if any(buffer.is_inference() for buffer in buffers):
            return _prepared(*buffers)  # such tensors do not tell when they change
        versions = tuple(buffer._version for buffer in buffers)
        cached = self._prepared_scales
        if cached is not None:
            known, known_versions = cached[0]
            if known_versions == versions and all(a is b for a, b in zip(known, buffers)):
                return cached[1]
        self._prepared_scales = ((buffers, versions), _prepared(*buffers))
        return self._prepared_scales[1]

    def update_scale_table(self, scale_table: Iterable[float], force: bool = False) -> bool:
        """Set the scales and build the tables that coding needs.

        Args:
            scale_table: ascending positive scales; a tensor will do.
            force: build the tables even if there are some.

        Returns:
            Whether the tables were built.
        """
        if self.has_tables and not force:
            return False
        with torch.inference_mode(False):
            device = self.scale_table.device
            self.scale_table = self._prepare_scale_table(scale_table).to(device)
        self.update()
        return True

    def update(self) -> None:
        """Build the tables for the present scale table.

        The same integers come out on every machine: ``erfc`` is evaluated in double precision and
        rounded, everything after it is exact or a single correctly rounded operation.

        Raises:
            RuntimeError: the scale table is empty.
            ValueError: a scale is not positive, or too large to be coded.
        """
        scales, multiplier = self._scales_of_rows()
        own = overridden(self, self._density)
        if not own:
            tables = _gaussian_tables(scales.tobytes(), multiplier, self.entropy_coder_precision)
            self._set_tables(*map(torch.from_numpy, tables))
            return
        if own == {"_pmf_to_cdf"}:
            masses = _gaussian_masses(scales, multiplier)
            pmf, tail, length, center = map(torch.from_numpy, masses)
        else:
            pmf, tail, length, center = self._own_masses(torch.from_numpy(scales), multiplier, own)
        cdf = self._pmf_to_cdf(pmf, tail, length, int(length.max()))
        self._set_tables(cdf, length + 2, -center)

    def _scales_of_rows(self) -> tuple[np.ndarray, float]:
        """Scales of the rows, float32, and half of the range of each in units of its scale."""
        scales = self.scale_table.detach().cpu().float().numpy()
        if scales.size == 0:
            raise RuntimeError("scale_table is empty: set it with update_scale_table()")
        scales = self._bounded(scales)
        multiplier = -float(self._standardized_quantile(self.tail_mass / 2))
        self._check_scales(scales, multiplier)
        return scales, multiplier

    def _bounded(self, scales: np.ndarray) -> np.ndarray:
        """The scales that rows are made for."""
        return scales

    @torch.no_grad()
    def _own_masses(
        self, scales: Tensor, multiplier: float, own: frozenset[str]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :func:`_gaussian_masses`, for the density of a subclass."""
        center = torch.ceil(scales * multiplier).int()
        length = 2 * center + 1
        symbols = torch.arange(int(length.max()))[None, :] - center[:, None]
        scales = scales[:, None].expand(symbols.shape)
        if "_likelihood" in own:
            device = self.scale_table.device
            pmf = self._likelihood(symbols.float().to(device), scales.to(device)).cpu()
            inside = torch.where(symbols.abs() <= center[:, None], pmf, pmf.new_zeros(()))
            return pmf, (1 - inside.sum(1, keepdim=True)).clamp(min=0), length, center
        distance = symbols.abs().float()
        upper = self._standardized_cumulative((0.5 - distance) / scales)
        lower = self._standardized_cumulative((-0.5 - distance) / scales)
        return upper - lower, 2 * lower[:, :1], length, center

    def _check_scales(self, scales: np.ndarray, multiplier: float) -> None:
        """Raise ValueError for scales that have no table, before one is made."""
        if not 0 < multiplier < float("inf"):
            raise refused(
                self,
                f"the density's quantile of tail_mass / 2 = {self.tail_mass / 2:g} must be "
                f"negative and finite, got {-multiplier:g}",
            )
        limit = 2 ** (self.entropy_coder_precision - 1) - 1
        with np.errstate(over="ignore", invalid="ignore"):
            reach = np.ceil(scales * np.float32(multiplier))
        bad = np.flatnonzero(~((scales > 0) & (reach <= limit)))
        if bad.size:
            row = int(bad[0])
            raise refused(
                self,
                f"scale_table[{row}] = {scales[row]:g} cannot be coded: scales must be positive "
                f"and, with tail_mass={self.tail_mass:g} and tables of "
                f"{self.entropy_coder_precision} bits, not above {limit / multiplier:.6g}",
            )

    def _keeps_tables(self, state_dict: Mapping[str, Any], prefix: str) -> bool:
        # Rows of another scale table are not those that `build_indexes` means.
        table = state_dict.get(prefix + "scale_table")
        others = table is not None and table.numel() and not equal(table, self.scale_table)
        return not others and super()._keeps_tables(state_dict, prefix)

    def _resizable_buffers(self) -> tuple[str, ...]:
        return (*super()._resizable_buffers(), "scale_table")


def _is_native(t: Tensor) -> bool:
    """Whether native code can read a tensor in place."""
    return t.dtype == torch.float32 and t.device.type == "cpu"


def _prepared(table: Tensor, bound: Tensor) -> PreparedScales:
    return PreparedScales(table.detach().float().cpu().numpy(), float(bound))


# Models with many slices have one conditional a slice, all with the same table.
@lru_cache(maxsize=16)
def _gaussian_tables(
    scale_table: bytes, multiplier: float, precision: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cumulative tables, their lengths and offsets, for the float32 scales in ``scale_table``."""
    pmf, tail, length, center = _gaussian_masses(
        np.frombuffer(scale_table, dtype=np.float32), multiplier
    )
    return quantize_rows(pmf, tail, length, precision), length + 2, -center


def _gaussian_masses(
    scales: np.ndarray, multiplier: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Masses of the symbols of each row, of its tails, the number of symbols, and the central one.

    Args:
        scales: float32 ``(K,)``.
        multiplier: half of the range of a row in units of its scale.
    """
    # Slow to import, and needed for tables only.
    from scipy.special import erfc

    def cumulative(x: np.ndarray) -> np.ndarray:
        scaled = (x * np.float32(-(2**-0.5))).astype(np.float64)
        return np.float32(0.5) * erfc(scaled).astype(np.float32)

    center = np.ceil(scales * np.float32(multiplier)).astype(np.int32)
    length = 2 * center + 1
    distance = np.abs(np.arange(length.max()) - center[:, None]).astype(np.float32)
    upper = cumulative((np.float32(0.5) - distance) / scales[:, None])
    lower = cumulative((np.float32(-0.5) - distance) / scales[:, None])
    return upper - lower, 2 * lower[:, :1], length, center


def _check_scale_table(scale_table: object) -> None:
    if not isinstance(scale_table, (list, tuple)):
        raise ValueError(
            f"scale_table must be a list, a tuple or None, got {type(scale_table).__name__}"
        )
    if len(scale_table) == 0:
        raise ValueError("scale_table must not be empty; None leaves it to update_scale_table()")
    if list(scale_table) != sorted(scale_table) or any(scale <= 0 for scale in scale_table):
        raise ValueError(f"scale_table must ascend and be positive, got {scale_table}")
