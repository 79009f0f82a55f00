# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What a model of integers declares, so that it can be made of a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from compressai.models.base import CompressionModel

__all__ = ["EntropyNetwork", "IntegerForm"]


@dataclass(frozen=True)
class EntropyNetwork:
    """A network that both encoder and decoder run.

    Attributes:
        owner, attribute: where it is.
        input_exponents: its inputs are multiples of 2 to the power of minus these, one a channel.
        output_exponent: likewise its outputs.
        corrects: whether the correction of residual prediction is made of its outputs.
    """

    owner: nn.Module
    attribute: str
    input_exponents: tuple[int, ...]
    output_exponent: int
    corrects: bool = False

    @property
    def module(self) -> nn.Module:
        """The network."""
        return getattr(self.owner, self.attribute)

    def replace(self, network: nn.Module) -> None:
        """Put another one into its place."""
        setattr(self.owner, self.attribute, network)


class IntegerForm:
    """Base of the models of integers, beside the class that they are the form of.

    A form has a row, by which :func:`quantize_entropy_path` finds it.

    Attributes:
        form_of: the class of the trained models that it can be made of.
    """

    form_of: ClassVar[type[CompressionModel]]

    @classmethod
    def rates(cls, net: nn.Module) -> list[dict[str, float]]:
        """Arguments that ``net`` is called with to see what comes into its networks.

        Args:
            net: a ``form_of``.
        """
        return [{}]

    @classmethod
    def entropy_networks(cls, net: CompressionModel) -> Iterator[EntropyNetwork]:
        """The networks of the entropy path of a model, in the order in which they run.

        Args:
            net: a ``form_of``, or one of this class.
        """
        raise NotImplementedError

    @classmethod
    def like(cls, net: CompressionModel) -> CompressionModel:
        """A model of this class with all that is not made of integers copied, and tables.

        Args:
            net: a ``form_of``.
        """
        raise NotImplementedError
