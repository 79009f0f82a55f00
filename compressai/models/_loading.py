# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models that take weights in several layouts, and read their own sizes off them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from torch import Tensor, nn

from compressai.entropy_models import EntropyModel
from compressai.latent_codecs import HyperpriorLatentCodec
from compressai.models._state_dict import NativeStateDict, clean_state_dict
from compressai.models.base import SimpleVAECompressionModel

__all__ = ["ConvertedModel", "SizedModel"]


class SizedModel:
    """Base of models that read their sizes off weights, by :meth:`infer_arguments`."""

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments of the model that native weights are of."""
        raise NotImplementedError(f"{cls.__name__} cannot be built from a state dict alone")

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any], **arguments: Any) -> Any:
        """Build a model of the size that a state dict has, and load it.

        Args:
            state_dict: weights or a checkpoint that holds them, in the layout of this library or
                of the authors' program.
            arguments: of the constructor, in place of what the weights tell.

        Returns:
            The model.

        Raises:
            ValueError: the weights are of another model.
            RuntimeError: some are missing, unexpected or of another shape; the message tells what
                was found and what was expected.
        """
        weights = cls._native(clean_state_dict(state_dict))
        net: Any = cls(**{**cls._sizes(weights), **arguments})
        net.load_state_dict(weights)
        return net

    @classmethod
    def _sizes(cls, weights: Mapping[str, Tensor]) -> dict[str, Any]:
        """Sizes from weights, whatever these hold: where shapes make no sense, that is said."""
        try:
            return cls.infer_arguments(weights)
        except (ArithmeticError, LookupError, StopIteration) as error:
            raise ValueError(
                f"this state dict is not of {cls.__name__}: entries that tell its size are missing "
                f"or have other dimensions ({error or type(error).__name__})"
            ) from error

    @classmethod
    def _native(cls, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights in the layout of this library, from clean ones."""
        return state_dict


class ConvertedModel(SizedModel, SimpleVAECompressionModel):
    """Base class of models that are loaded from authors' weights, too.

    A subclass overrides :meth:`infer_arguments`, and :meth:`convert` if there is another layout.
    """

    # How the names of buffers end that need not be in weights.
    _CONSTANTS: tuple[str, ...] = (".relative_position_index",)

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native weights from those in the layout of the authors' program; native ones pass."""
        return dict(state_dict)

    @classmethod
    def _native(cls, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        return NativeStateDict(cls.convert(state_dict))

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights in any layout that :meth:`from_state_dict` takes.

        Args and result as in :meth:`CompressionModel.load_state_dict`. Constant index buffers of
        window attention may be absent. Weights that do not fit are refused before any is loaded.
        """
        own = self.state_dict()
        cleaned = clean_state_dict(state_dict, known=own.keys())
        native = isinstance(cleaned, NativeStateDict)
        weights = NativeStateDict(cleaned if native else self.convert(cleaned))
        for key, value in own.items():
            if key.endswith(self._CONSTANTS):
                weights.setdefault(key, value)
        if strict:
            _check_entries(self, weights)
        return super().load_state_dict(weights, strict, assign)


def _check_entries(net: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not all those of a model, and no others.

    Tables of entropy models are left to these, which take them of any size.

    Raises:
        RuntimeError: says what was found and what was expected.
    """
    found = dict(weights)
    coders = []
    for name, module in net.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(module, HyperpriorLatentCodec):
            module.adopt_layout(found, prefix)
        elif isinstance(module, EntropyModel):
            coders.append(prefix)
    theirs = tuple(coders)
    own = {k: v for k, v in net.state_dict().items() if not k.startswith(theirs)}
    learned = [k for k, _ in net.named_parameters() if k.startswith(theirs)]
    known = {_numbered(k) for k in found}
    missing = [k for k in learned if _numbered(k) not in known]
    found = {k: v for k, v in found.items() if not k.startswith(theirs)}
    missing += [key for key in own if key not in found]
    others = [
        f"{key} is {tuple(value.shape)}, expected {tuple(own[key].shape)}"
        for key, value in found.items()
        if key in own and isinstance(value, Tensor) and value.shape != own[key].shape
    ]
    problems = [
        *_parts("missing", missing),
        *_parts("unexpected", [key for key in found if key not in own]),
        *others[:1],
        *([f"{len(others) - 1} more have another shape"] if len(others) > 1 else []),
    ]
    if problems:
        raise RuntimeError(
            f"these weights do not fit {type(net).__name__}: found {len(found)} entries, expected "
            f"the {len(own)} of the size that they tell; {'; '.join(problems)}"
        )


def _numbered(name: str) -> str:
    """One name for what bottlenecks call ``_matrix0`` or ``matrices.0``."""
    return re.sub(r"_?(matri|bias|factor)(?:x|ces|es|s|)\.?(\d+)$", r"\1.\2", name)


_MOST = 2


def _parts(kind: str, keys: Collection[str]) -> list[str]:
    """How many names are of a kind in which parts of a model, and the first one of each part."""
    parts: dict[str, list[str]] = {}
    for key in keys:
        # Layers and slices of a part have numbers.
        parts.setdefault(re.sub(r"\d+", "*", key).partition(".*")[0], []).append(key)
    told = [
        f"{kind} {keys[0]}" + (f" and {len(keys) - 1} more of {part}" if len(keys) > 1 else "")
        for part, keys in islice(parts.items(), _MOST)
    ]
    if len(parts) > _MOST:
        rest = sum(len(keys) for keys in islice(parts.values(), _MOST, None))
        told.append(f"{rest} more are {kind}, in {len(parts) - _MOST} other parts")
    return told
