# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec of the factorized prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs.base import LatentCodec, only_strings
from compressai.ops import quantize_ste
from compressai.registry import register_module

__all__ = ["EntropyBottleneckLatentCodec", "bottleneck_forward"]


def bottleneck_forward(
    entropy_bottleneck: EntropyBottleneck, y: Tensor, quantizer: str
) -> tuple[Tensor, Tensor]:
    """Values and likelihoods of a bottleneck, with the chosen quantiser for the values.

    Args:
        entropy_bottleneck: the entropy model.
        y: ``(N, C, H, W)``.
        quantizer: ``"noise"``, or ``"ste"`` for values that are rounded around the medians with
            the gradient of the identity. The likelihoods are those of the noisy values in both.

    Returns:
        ``(y_hat, likelihoods)``.
    """
    y_hat, likelihoods = entropy_bottleneck(y)
    if quantizer == "ste":
        medians = entropy_bottleneck._get_medians()
        medians = entropy_bottleneck._extend_ndims(medians, y.dim() - 2)
        y_hat = quantize_ste(y - medians) + medians
    return y_hat, likelihoods


def check_quantizer(quantizer: str) -> str:
    """``quantizer`` itself, if it is one that the codecs know."""
    if quantizer not in ("noise", "ste"):
        raise ValueError(f"quantizer must be 'noise' or 'ste', got {quantizer!r}")
    return quantizer


@register_module("EntropyBottleneckLatentCodec")
class EntropyBottleneckLatentCodec(LatentCodec):
    """Codes a latent with an :class:`~compressai.entropy_models.EntropyBottleneck`.

    Args:
        entropy_bottleneck: the entropy model; ``None`` builds one.
        quantizer: ``"noise"`` or ``"ste"``, see :func:`bottleneck_forward`.
        kwargs: arguments of the ``EntropyBottleneck`` that is built, such as ``channels``.

    Raises:
        ValueError: unknown ``quantizer``.
        TypeError: both an entropy model and arguments for one.
    """

    def __init__(
        self,
        entropy_bottleneck: EntropyBottleneck | None = None,
        quantizer: str = "noise",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if entropy_bottleneck is not None and kwargs:
            raise TypeError(f"an entropy_bottleneck is given, {sorted(kwargs)} have no use")
        self.quantizer = check_quantizer(quantizer)
        self.entropy_bottleneck = entropy_bottleneck or EntropyBottleneck(**kwargs)

    def forward(self, y: Tensor) -> dict[str, Any]:
        """``{"likelihoods": {"y"}, "y_hat"}`` for ``y`` ``(N, C, H, W)``."""
        y_hat, likelihoods = bottleneck_forward(self.entropy_bottleneck, y, self.quantizer)
        return {"likelihoods": {"y": likelihoods}, "y_hat": y_hat}

    def compress(self, y: Tensor) -> dict[str, Any]:
        """``{"strings": [y], "shape": (H, W), "y_hat"}``."""
        strings, y_hat = self.entropy_bottleneck.compress_and_quantize(y)
        return {"strings": [strings], "shape": y.size()[-2:], "y_hat": y_hat}

    def decompress(
        self, strings: Sequence[Sequence[bytes]], shape: Sequence[int]
    ) -> dict[str, Any]:
        """``{"y_hat"}``."""
        y_strings = only_strings(strings, type(self).__name__)
        return {"y_hat": self.entropy_bottleneck.decompress(y_strings, shape)}
