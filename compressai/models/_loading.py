# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models that take weights in several layouts, and read their own sizes off them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compressai.models._state_dict import NativeStateDict, clean_state_dict
from compressai.models.base import SimpleVAECompressionModel

__all__ = ["ConvertedModel"]


class ConvertedModel(SimpleVAECompressionModel):
    """Base class of models that are loaded from authors' weights, without being told sizes.

    A subclass overrides :meth:`infer_arguments`, and :meth:`convert` if there is another layout.
    """

    # How the names of buffers end that need not be in weights.
    _CONSTANTS: tuple[str, ...] = (".relative_position_index",)

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Native weights from those in the layout of the authors' program; native ones pass."""
        return dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor arguments of the model that native weights are of."""
        raise NotImplementedError(f"{cls.__name__} cannot be built from a state dict alone")

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Any]) -> Any:
        """Build a model of the size that a state dict has, and load it.

        Args:
            state_dict: weights or a checkpoint that holds them, in the layout of this library or
                of the authors' program.

        Returns:
            The model.

        Raises:
            ValueError: the weights are of another model.
            RuntimeError: some are missing or unexpected; the message lists them.
        """
        state_dict = NativeStateDict(cls.convert(clean_state_dict(state_dict)))
        net = cls(**cls.infer_arguments(state_dict))
        net.load_state_dict(state_dict)
        return net

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights in any layout that :meth:`from_state_dict` takes.

        Args and result as in :meth:`CompressionModel.load_state_dict`. Constant index buffers of
        window attention may be absent.
        """
        own = self.state_dict()
        cleaned = clean_state_dict(state_dict, known=own.keys())
        native = isinstance(cleaned, NativeStateDict)
        weights = NativeStateDict(cleaned if native else self.convert(cleaned))
        for key, value in own.items():
            if key.endswith(self._CONSTANTS):
                weights.setdefault(key, value)
        return super().load_state_dict(weights, strict, assign)
