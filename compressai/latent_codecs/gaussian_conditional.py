# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codecs of the conditional Gaussian, the leaves of most entropy stacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai import _CXX
from compressai.entropy_models import GaussianConditional
from compressai.latent_codecs.base import LatentCodec, only_strings
from compressai.latent_codecs.entropy_bottleneck import check_quantizer
from compressai.ops import quantize_ste, rounding_is_relaxed
from compressai.registry import register_module

__all__ = ["GaussianConditionalLatentCodec", "LRPGaussianLatentCodec"]

_CHUNKS = (("scales", "means"), ("means", "scales"), ("scales",))


@register_module("GaussianConditionalLatentCodec")
class GaussianConditionalLatentCodec(LatentCodec):
    """Codes a latent around predicted means, with predicted scales.

    Args:
        scale_table: as in :class:`~compressai.entropy_models.GaussianConditional`.
        gaussian_conditional: the entropy model; ``None`` builds one.
        entropy_parameters: network from side information to scales and means; ``None`` leaves
            them as they come.
        quantizer: ``"noise"``, or ``"ste"`` for values that are rounded around the means with the
            gradient of the identity. The likelihoods are those of the noisy values in both.
        chunks: what the channels of the predicted parameters are, in order:
            ``("scales", "means")``, ``("means", "scales")`` or ``("scales",)``.
        dead_zone: how much coding, and evaluation, prefer symbols near the means, whose bits are
            fewer, to the nearest. A residual between integers ``n`` and ``n + 1`` becomes the
            upper one if it lies above their middle by more than
            ``dead_zone * (2 n + 1) / (scale**2 + 1/12)``. 0 rounds. Decoders need not know it.
        kwargs: arguments of the ``GaussianConditional`` that is built.

    Raises:
        ValueError: unknown ``quantizer`` or ``chunks``, ``"ste"`` without means, or ``dead_zone``
            is negative or not finite.
        TypeError: both an entropy model and arguments for one.
    """

    def __init__(
        self,
        scale_table: list[float] | tuple[float, ...] | None = None,
        gaussian_conditional: GaussianConditional | None = None,
        entropy_parameters: nn.Module | None = None,
        quantizer: str = "noise",
        chunks: tuple[str, ...] = ("scales", "means"),
        dead_zone: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if not 0 <= dead_zone < float("inf"):
            raise ValueError(f"dead_zone must be finite and not negative, got {dead_zone}")
        self.dead_zone = float(dead_zone)
        if gaussian_conditional is not None and (kwargs or scale_table is not None):
            raise TypeError(
                "a gaussian_conditional is given, scale_table and "
                f"{sorted(kwargs)} would have no use"
            )
        self.quantizer = check_quantizer(quantizer)
        self.chunks = tuple(chunks)
        if self.chunks not in _CHUNKS:
            raise ValueError(f"chunks must be one of {_CHUNKS}, got {chunks!r}")
        if self.quantizer == "ste" and "means" not in self.chunks:
            raise ValueError("quantizer='ste' rounds around means, but chunks has no 'means'")
        self.gaussian_conditional = gaussian_conditional or GaussianConditional(
            scale_table, **kwargs
        )
        self.entropy_parameters = (
            nn.Identity() if entropy_parameters is None else entropy_parameters
        )

    def forward(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, C, H, W)``.
            ctx_params: side information ``(N, D, H, W)``.

        Returns:
            ``{"likelihoods": {"y"}, "y_hat"}``.
        """
        scales, means = self._predict(ctx_params)
        if not self.training:
            y = self._off_dead_zone(y, scales, means)
        y_hat, likelihoods = self.gaussian_conditional(y, scales, means)
        if self.quantizer == "ste":
            y_hat = quantize_ste(y - means) + means
        return {"likelihoods": {"y": likelihoods}, "y_hat": y_hat}

    def compress(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        """``{"strings": [y], "shape": (H, W), "y_hat"}``; arguments as in :meth:`forward`."""
        scales, means = self._predict(ctx_params)
        y = self._off_dead_zone(y, scales, means)
        strings, y_hat = self.gaussian_conditional.code(
            y, scales, means, self._correction(ctx_params)
        )
        return {"strings": [strings], "shape": y.shape[2:4], "y_hat": y_hat}

    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Sequence[int],
        ctx_params: Tensor,
    ) -> dict[str, Any]:
        """``{"y_hat"}``, perhaps ``"y_fine"``, see :class:`LatentCodec`.

        Args:
            strings: one list of strings.
            shape: ``(H, W)`` or ``(C, H, W)``.
            ctx_params: side information ``(N, D, H, W)``.

        Raises:
            ValueError: ``shape`` is not that of the side information, or a string is damaged.
        """
        y_strings = only_strings(strings, type(self).__name__)
        scales, means = self._predict(ctx_params)
        if tuple(scales.shape[2:4]) != tuple(shape)[-2:]:
            raise ValueError(
                f"shape {tuple(shape)} does not fit side information of size "
                f"{tuple(scales.shape[2:4])}"
            )
        return self.gaussian_conditional.decode(
            y_strings, scales, means, self._correction(ctx_params)
        )

    def _off_dead_zone(self, y: Tensor, scales: Tensor, means: Tensor | None) -> Tensor:
        """Values that become by rounding what the dead zone makes of ``y``; gradients pass."""
        if not self.dead_zone or rounding_is_relaxed():
            return y
        latents = [y, means, scales]
        rows = [None if t is None else t.detach().float().cpu().flatten(1) for t in latents]
        try:
            symbols = _CXX.dead_zone_symbols(*rows, self.dead_zone)
        except ValueError:
            # Says where, or what else does not fit.
            return y
        values = torch.from_numpy(symbols).view(y.shape).to(y)
        if means is not None:
            values += means.detach()
        return y + (values - y).detach()

    def _predict(self, ctx_params: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._chunk(self.entropy_parameters(ctx_params))

    def _correction(self, ctx_params: Tensor) -> Callable[[Tensor], Tensor] | None:
        """What a subclass does to quantised values; nothing here."""
        return None

    def _chunk(self, params: Tensor) -> tuple[Tensor, Tensor | None]:
        """``(scales, means)`` of predicted parameters; no means where there are none."""
        if self.chunks == ("scales",):
            return params, None
        first, second = params.chunk(2, 1)
        return (first, second) if self.chunks[0] == "scales" else (second, first)


@register_module("LRPGaussianLatentCodec")
class LRPGaussianLatentCodec(GaussianConditionalLatentCodec):
    """Conditional Gaussian followed by latent residual prediction.

    After quantisation, a network predicts the rounding error from the support and the quantised
    values, and the prediction is added: ``y_hat + lrp_scale * tanh(lrp_transform([s | y_hat]))``.
    Likelihoods and strings are those of the values before.

    Args:
        lrp_transform: network from support and slice to slice.
        lrp_scale: largest correction; may be reassigned.
        mean_support_trail_channels: that many last channels of the side information are the
            support ``s``, and are kept from ``entropy_parameters``; 0 takes all of the side
            information for both.
        gc_kwargs: arguments of :class:`GaussianConditionalLatentCodec`.

    Raises:
        ValueError: at call time, ``mean_support_trail_channels`` leaves no side information.

    Source: Minnen and Singh 2020, "Channel-wise autoregressive entropy models for learned image
    compression", section 3.2.
    """

    def __init__(
        self,
        lrp_transform: nn.Module,
        *,
        lrp_scale: float = 0.5,
        mean_support_trail_channels: int = 0,
        **gc_kwargs: Any,
    ) -> None:
        super().__init__(**gc_kwargs)
        self.lrp_transform = lrp_transform
        self.lrp_scale = float(lrp_scale)
        self.mean_support_trail_channels = int(mean_support_trail_channels)

    def forward(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        """As the base class, ``y_hat`` after the correction."""
        out = super().forward(y, ctx_params)
        return {**out, "y_hat": self._correct(out["y_hat"], ctx_params)}

    def _split(self, ctx_params: Tensor) -> tuple[Tensor, Tensor]:
        trail = self.mean_support_trail_channels
        if trail <= 0:
            return ctx_params, ctx_params
        if trail >= ctx_params.size(1):
            raise ValueError(
                f"mean_support_trail_channels={trail} leaves nothing of the "
                f"{ctx_params.size(1)} channels of side information"
            )
        return ctx_params[:, :-trail], ctx_params[:, -trail:]

    def _predict(self, ctx_params: Tensor) -> tuple[Tensor, Tensor | None]:
        return super()._predict(self._split(ctx_params)[0])

    def _correction(self, ctx_params: Tensor) -> Callable[[Tensor], Tensor]:
        return partial(self._correct, ctx_params=ctx_params)

    def _correct(self, y_hat: Tensor, ctx_params: Tensor) -> Tensor:
        _, support = self._split(ctx_params)
        residual = self.lrp_transform(torch.cat((support, y_hat), dim=1))
        return y_hat + self.lrp_scale * torch.tanh(residual)
