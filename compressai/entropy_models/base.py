# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What every entropy model shares: quantisation, CDF tables, and coding of whole tensors.

The probability models themselves are in the sibling modules; this one knows how values become
symbols and how a batch of symbols becomes one string per item.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn as nn
from torch import Tensor

from compressai import _CXX, ans
from compressai.entropy_models._coder import EntropyCoder
from compressai.entropy_models._interleaving import interleaves
from compressai.entropy_models._loading import equal, is_strict, loading
from compressai.entropy_models._overrides import of_this_package, overridden
from compressai.entropy_models._recording import note_symbols
from compressai.entropy_models._refusals import check_codable
from compressai.entropy_models.noise import uniform_noise
from compressai.entropy_models.session import note_coded, strings_at_once, write_strings
from compressai.ops import LowerBound, rounded

__all__ = ["EntropyModel", "pmf_to_quantized_cdf"]

_TABLES = ("_offset", "_quantized_cdf", "_cdf_length")
_STRINGS = ("compress", "decompress")
_QUANTIZE = ("quantize",)
_CODER = ("encode_with_indexes", "decode_with_indexes")


def pmf_to_quantized_cdf(pmf: Tensor, precision: int = 16) -> Tensor:
    """Quantise a probability mass function to a cumulative table that a coder can use.

    Args:
        pmf: probabilities ``(n,)``, not negative and finite; they need not sum to one.
        precision: the table ends at ``2 ** precision``.

    Returns:
        int32 tensor ``(n + 1,)``: starts with 0, strictly increasing, ends with ``2 ** precision``.

    Raises:
        ValueError: a negative, infinite or NaN probability, no mass at all, or more symbols than
            ``2 ** precision``.
    """
    cdf = _CXX.pmf_to_quantized_cdf(pmf.detach().float().cpu().numpy(), precision)
    return torch.tensor(cdf, dtype=torch.int32)


def quantize_rows(
    pmf: np.ndarray, tail_mass: np.ndarray, length: np.ndarray, precision: int
) -> np.ndarray:
    """Cumulative tables of many rows at once; see :meth:`EntropyModel._pmf_to_cdf`."""
    return _CXX.pmfs_to_quantized_cdfs(
        np.ascontiguousarray(pmf, dtype=np.float32),
        np.ascontiguousarray(tail_mass.reshape(-1), dtype=np.float32),
        np.ascontiguousarray(length, dtype=np.int32),
        precision,
    )


@of_this_package
class EntropyModel(nn.Module):
    """Base class of the entropy models.

    A subclass, or an instance, may have its own ``quantize``, ``dequantize``, ``compress``,
    ``decompress``, ``_pmf_to_cdf`` and density: encoder and decoder then go by these, in models and
    latent codecs, too. Only where none of them is changed, the same is done in native code.

    Holds the integer tables of a quantised probability model: one row of a cumulative
    distribution for each index. The tables are buffers, empty until a subclass fills them in its
    ``update()``, and are saved with the weights. Loading a state dict adapts their size, whatever
    it was. A state dict without tables empties them, since those of other weights do not suit; one
    that is loaded with ``strict=False`` takes nothing away that it does not have. (In a module that
    is no model of this package, tables stay where their density stays or is not complete.)

    Args:
        likelihood_bound: likelihoods are clamped from below at this value; 0 turns that off.
        entropy_coder: name of the entropy coder; ``None`` selects the default of the package
            (:func:`compressai.get_entropy_coder`).
        entropy_coder_precision: bits of a probability in the tables. The coders use 16.

    Raises:
        ValueError: unknown ``entropy_coder``.
    """

    _quantized_cdf: Tensor
    _offset: Tensor
    _cdf_length: Tensor

    def __init__(
        self,
        likelihood_bound: float = 1e-9,
        entropy_coder: str | None = None,
        entropy_coder_precision: int = 16,
    ) -> None:
        super().__init__()
        self.entropy_coder = EntropyCoder(entropy_coder)
        self.entropy_coder_precision = int(entropy_coder_precision)
        self.use_likelihood_bound = likelihood_bound > 0
        if self.use_likelihood_bound:
            self.likelihood_lower_bound = LowerBound(likelihood_bound)
        for name in _TABLES:
            self.register_buffer(name, torch.empty(0, dtype=torch.int32))
        self._native_tables: tuple[Any, ...] | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state["_native_tables"] = None
        return state

    # `nn.Module.__prepare_scriptable__` is the hook that torch.jit.script calls first.
    def __prepare_scriptable__(self) -> EntropyModel:
        raise NotImplementedError(f"{type(self).__name__} cannot be scripted; use torch.compile")

    @property
    def offset(self) -> Tensor:
        """int32 ``(K,)``: the value that slot 0 of each row of the tables stands for."""
        return self._offset

    @property
    def quantized_cdf(self) -> Tensor:
        """int32 ``(K, L + 2)``: one cumulative distribution a row, padded with zeros."""
        return self._quantized_cdf

    @property
    def cdf_length(self) -> Tensor:
        """int32 ``(K,)``: the number of valid entries of each row of :attr:`quantized_cdf`."""
        return self._cdf_length

    @property
    def has_tables(self) -> bool:
        """Whether the tables needed for coding have been built or loaded."""
        return self._offset.numel() > 0

    def forward(self, *args: Any) -> Any:
        """Likelihoods and quantised values; defined by the subclasses."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    # -- quantisation ---------------------------------------------------------------------------

    def quantize(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        """Quantise to integers around ``means``, or simulate that with noise.

        Args:
            inputs: any shape.
            mode: ``"noise"`` adds noise uniform in [-0.5, 0.5) (and ignores ``means``),
                ``"dequantize"`` gives ``round(inputs - means) + means``, ``"symbols"`` the
                integers ``round(inputs - means)`` as int32.
            means: broadcastable to ``inputs``; ``None`` stands for 0.

        Returns:
            Tensor of the shape of ``inputs``, which is never modified.

        Raises:
            ValueError: any other ``mode``.
        """
        if mode not in ("noise", "dequantize", "symbols"):
            raise ValueError(f"mode must be 'noise', 'dequantize' or 'symbols', got {mode!r}")
        if mode == "noise":
            return inputs + uniform_noise(inputs)
        residual = inputs if means is None else inputs - means
        if mode == "symbols":
            return torch.round(residual).to(torch.int32)
        return rounded(residual) if means is None else rounded(residual) + means

    @staticmethod
    def dequantize(
        inputs: Tensor, means: Tensor | None = None, dtype: torch.dtype = torch.float
    ) -> Tensor:
        """Values of symbols: ``inputs + means``.

        Args:
            inputs: integers of any shape; never modified.
            means: broadcastable to ``inputs``; the result takes its type and device.
            dtype: type of the result where there are no means.

        Returns:
            New tensor of the shape of ``inputs``.
        """
        if means is None:
            return inputs.to(dtype, copy=True)
        return inputs.to(device=means.device, dtype=means.dtype) + means

    def _quantize(self, inputs: Tensor, mode: str, means: Tensor | None = None) -> Tensor:
        _warn_renamed("_quantize", "quantize")
        return self.quantize(inputs, mode, means)

    @classmethod
    def _dequantize(cls, inputs: Tensor, means: Tensor | None = None) -> Tensor:
        _warn_renamed("_dequantize", "dequantize")
        return cls.dequantize(inputs, means)

    # -- tables ---------------------------------------------------------------------------------

    def _set_tables(self, cdf: Tensor, length: Tensor, offset: Tensor) -> None:
        # Tensors made in inference mode could not be replaced in a later load or moved in place.
        with torch.inference_mode(False):
            device = self._offset.device
            for name, value in zip(_TABLES, (offset, cdf, length)):
                setattr(self, name, value.detach().to(device, torch.int32).clone())

    def _pmf_to_cdf(
        self, pmf: Tensor, tail_mass: Tensor, pmf_length: Tensor, max_length: int
    ) -> Tensor:
        """Quantise rows of probabilities, each followed by the mass of its tails.

        Args:
            pmf: float ``(K, max_length)``; row ``i`` holds ``pmf_length[i]`` probabilities.
            tail_mass: float ``(K, 1)``, the probability of the escape symbol of each row.
            pmf_length: int ``(K,)``.
            max_length: widest row.

        Returns:
            int32 ``(K, max_length + 2)``, padded with zeros on the right.
        """
        if pmf.size(1) != max_length:
            raise ValueError(f"pmf must be {max_length} wide, got {tuple(pmf.shape)}")
        rows = (t.detach().float().cpu().numpy() for t in (pmf, tail_mass))
        length = pmf_length.detach().cpu().numpy()
        return torch.from_numpy(quantize_rows(*rows, length, self.entropy_coder_precision))

    def _check_cdf_size(self) -> None:
        """Raise ValueError unless there is a table of cumulative distributions."""
        self._check_table("_quantized_cdf", 2)

    def _check_cdf_length(self) -> None:
        """Raise ValueError unless the lengths of its rows are known."""
        self._check_table("_cdf_length", 1)

    def _check_offsets_size(self) -> None:
        """Raise ValueError unless the offsets of its rows are known."""
        self._check_table("_offset", 1)

    def _check_table(self, name: str, ndim: int) -> None:
        table = getattr(self, name)
        if table.numel() == 0:
            raise ValueError(f"{name} is empty: run update() first, or load a checkpoint")
        if table.dim() != ndim:
            raise ValueError(f"{name} must have {ndim} dimensions, got {tuple(table.shape)}")

    def _check_tables(self) -> None:
        self._check_cdf_size()
        self._check_cdf_length()
        self._check_offsets_size()

    def _has_native_coder(self) -> bool:
        """Whether strings are those of the package's own rANS coder."""
        coder = self.entropy_coder
        return (
            isinstance(coder, EntropyCoder)
            and coder.name == "ans"
            and not overridden(coder, _CODER)
        )

    def _coder_tables(self) -> tuple[Any, ...]:
        """The tables as the entropy coder takes them, prepared once for the present buffers."""
        self._check_tables()
        buffers = (self._quantized_cdf, self._cdf_length, self._offset)
        if not self._has_native_coder():
            return tuple(table.tolist() for table in buffers)
        if any(table.is_inference() for table in buffers):
            return (_native_tables(buffers),)  # such tensors do not tell when they change
        versions = tuple(table._version for table in buffers)
        cached = self._native_tables
        if cached is not None:
            known, known_versions, native = cached
            if known_versions == versions and all(a is b for a, b in zip(known, buffers)):
                return (native,)
        native = _native_tables(buffers)
        self._native_tables = (buffers, versions, native)
        return (native,)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As :meth:`torch.nn.Module.load_state_dict`, with tables of any size, or without."""
        with loading(strict):
            return super().load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        keep = self._keeps_tables(state_dict, prefix)
        for name in self._resizable_buffers():
            value = state_dict.get(prefix + name)
            buffer = getattr(self, name)
            if value is None or (value.numel() == 0 and is_strict() is False):
                lost = not keep and name in _TABLES
                value = state_dict[prefix + name] = buffer.new_empty(0) if lost else buffer
            if value.shape != buffer.shape:
                setattr(self, name, buffer.new_empty(value.shape))
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def _keeps_tables(self, state_dict: Mapping[str, Any], prefix: str) -> bool:
        """Whether tables that ``state_dict`` lacks stay; better none than of other weights."""
        if (strict := is_strict()) is not None:
            return not (strict and any(key.startswith(prefix) for key in state_dict))
        # In a module of torch that is no model of this package: by what the tables are made of.
        own = {n: value for n, value in self.state_dict().items() if n not in _TABLES}
        return any(prefix + name not in state_dict for name in own) or all(
            equal(state_dict[prefix + name], value) for name, value in own.items()
        )

    def _resizable_buffers(self) -> tuple[str, ...]:
        return _TABLES

    # -- coding ---------------------------------------------------------------------------------

    def compress(self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None) -> list[bytes]:
        """Code a batch of tensors, one string per item.

        Args:
            inputs: float ``(N, C, ...)``.
            indexes: int, shape of ``inputs``: the row of the tables for each element.
            means: broadcastable to ``inputs``.

        Returns:
            ``N`` strings.

        Raises:
            ValueError: shapes do not fit, there are no tables, or ``inputs`` holds NaN or values
                outside of int32.
        """
        return self._code(inputs, indexes, means)[0]

    def compress_and_quantize(
        self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None
    ) -> tuple[list[bytes], Tensor]:
        """As :meth:`compress`, and the values that the decoder will see.

        Returns:
            ``(strings, quantized)``: ``quantized`` equals, bit for bit, what :meth:`decompress`
            makes of the strings.
        """
        if overridden(self, _STRINGS):
            return self._code_by_methods(
                lambda: self.compress(inputs, indexes, means),
                lambda strings: self.decompress(strings, indexes, inputs.dtype, means),
            )
        return self._code(inputs, indexes, means)

    def _code_by_methods(
        self, compress: Callable[[], list[bytes]], decompress: Callable[[list[bytes]], Tensor]
    ) -> tuple[list[bytes], Tensor]:
        # What a decoder makes of the strings of somebody's own method, only that decoder knows.
        with strings_at_once():
            strings = compress()
            return strings, decompress(strings)

    def _code(
        self, inputs: Tensor, indexes: Tensor, means: Tensor | None = None
    ) -> tuple[list[bytes], Tensor]:
        symbols = self._symbols(inputs, means)
        strings = self._encode(symbols, indexes)
        return strings, self.dequantize(symbols, means, inputs.dtype)

    def _symbols(self, inputs: Tensor, means: Tensor | None) -> Tensor:
        """int32 symbols of values, by whatever quantises in this class.

        Raises:
            ValueError: values, means or symbols are not finite or no int32.
        """
        if overridden(self, _QUANTIZE):
            check_codable(self, inputs, means)
            symbols = self.quantize(inputs, "symbols", means)
            check_codable(self, symbols.double())
            return symbols.to(torch.int32)
        residual = inputs if means is None else inputs - means
        check_codable(self, residual)
        return torch.round(residual).to(torch.int32)

    def _encode(self, symbols: Tensor, indexes: Tensor) -> list[bytes]:
        if symbols.dim() < 2:
            raise ValueError(f"inputs must have 2 or more dimensions, got {tuple(symbols.shape)}")
        if symbols.shape != indexes.shape:
            raise ValueError(
                "inputs and indexes must have the same shape, got "
                f"{tuple(symbols.shape)} and {tuple(indexes.shape)}"
            )
        return self._encode_rows(int_rows(symbols), int_rows(indexes))

    def _encode_rows(self, rows: np.ndarray, index_rows: np.ndarray) -> list[bytes]:
        tables = self._coder_tables()
        note_coded()
        note_symbols(self, rows, index_rows, tables)
        if not self._has_native_coder():
            return [
                self.entropy_coder.encode_with_indexes(row.tolist(), index.tolist(), *tables)
                for row, index in zip(rows, index_rows)
            ]
        how = {"threads": torch.get_num_threads(), "interleave": interleaves()}
        return write_strings(
            lambda: ans.encode_batch(rows, index_rows, *tables, **how),
            len(rows),
            rows.size,
        )

    def decompress(
        self,
        strings: Sequence[bytes | None],
        indexes: Tensor,
        dtype: torch.dtype = torch.float,
        means: Tensor | None = None,
    ) -> Tensor:
        """Decode a batch of strings.

        Args:
            strings: list or tuple of ``N`` strings. ``None`` stands for one that is lost: its
                symbols are taken to be 0, so that the result has the means in its place.
            indexes: int ``(N, C, ...)``: the row of the tables for each element.
            dtype: type of the result where there are no means.
            means: of the shape of ``indexes``, or ``(N, C, 1, ...)``.

        Returns:
            Tensor of the shape of ``indexes``, on the device of ``means``, else of ``indexes``.

        Raises:
            ValueError: arguments do not fit each other, there are no tables, or a string is
                damaged.
        """
        symbols = self._decode(strings, indexes, means)
        return self.dequantize(symbols, means, dtype)

    def _decode(
        self, strings: Sequence[bytes | None], indexes: Tensor, means: Tensor | None = None
    ) -> Tensor:
        if not isinstance(strings, (tuple, list)):
            raise ValueError(f"strings must be a list or tuple, got {type(strings).__name__}")
        if len(strings) != indexes.size(0):
            raise ValueError(
                f"strings and indexes must have the same batch size, got {len(strings)} "
                f"and {indexes.size(0)}"
            )
        if indexes.dim() < 2:
            raise ValueError(f"indexes must have 2 or more dimensions, got {tuple(indexes.shape)}")
        self._check_tables()
        if means is not None and (
            means.shape[:2] != indexes.shape[:2]
            or (means.shape != indexes.shape and any(size != 1 for size in means.shape[2:]))
        ):
            raise ValueError(
                f"means must have the shape of indexes {tuple(indexes.shape)} or one value a "
                f"channel, got {tuple(means.shape)}"
            )
        rows = int_rows(indexes)
        kept = [number for number, string in enumerate(strings) if string is not None]
        if len(kept) == len(strings):
            values = self._decode_rows(list(strings), rows)
        else:
            values = np.zeros_like(rows)
            if kept:
                values[kept] = self._decode_rows([strings[i] for i in kept], rows[kept])
        return torch.from_numpy(values).reshape(indexes.shape).to(indexes.device)

    def _decode_rows(self, strings: list[Any], index_rows: np.ndarray) -> np.ndarray:
        tables = self._coder_tables()
        if not self._has_native_coder():
            decode = self.entropy_coder.decode_with_indexes
            decoded = [decode(s, row.tolist(), *tables) for s, row in zip(strings, index_rows)]
            return np.array(decoded, dtype=np.int32)
        threads = torch.get_num_threads()
        return ans.decode_batch(strings, index_rows, *tables, threads=threads, check_end=True)


def _native_tables(buffers: Sequence[Tensor]) -> Any:
    return ans.CdfTables(*(np.ascontiguousarray(table.cpu().numpy()) for table in buffers))


def int_rows(values: Tensor) -> np.ndarray:
    """``(N, ...)`` integers as a contiguous int32 array ``(N, elements of an item)``."""
    rows = values.detach().to(device="cpu", dtype=torch.int32).contiguous()
    return rows.numpy().reshape(len(rows), int(np.prod(rows.shape[1:])))


def _warn_renamed(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated, use {new}", UserWarning, stacklevel=3)
