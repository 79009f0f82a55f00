# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec with a spatially autoregressive context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import GaussianConditional
from compressai.entropy_models.scan import (
    PlainScanDecoder,
    PlainScanEncoder,
    scan_decoders,
    scan_encoders,
)
from compressai.latent_codecs._positions import Merge, RasterScan, ScanRate, concatenate
from compressai.latent_codecs.base import LatentCodec, only_strings
from compressai.registry import register_module

__all__ = [
    "RasterScanLatentCodec",
    "default_collate",
    "raster_scan_compress_single_stream",
    "raster_scan_decompress_single_stream",
]


@register_module("RasterScanLatentCodec")
class RasterScanLatentCodec(LatentCodec):
    """Codes a latent position by position, each in the context of its decoded neighbours.

    As in the joint autoregressive model, :meth:`forward` takes its context from values that are
    rounded without means (in training: noisy), so its ``y_hat`` is not that of the coder.

    Args:
        gaussian_conditional: the entropy model.
        entropy_parameters: pointwise network from ``[side | context]`` to ``[scales | means]``.
        context_prediction: :class:`~compressai.layers.MaskedConv2d` of type A with an odd square
            kernel, from ``y_hat`` to context.

    Raises:
        ValueError: at coding, the kernel is not odd and square or not causal.

    Source: Minnen et al. 2018, "Joint autoregressive and hierarchical priors for learned image
    compression".
    """

    def __init__(
        self,
        gaussian_conditional: GaussianConditional,
        entropy_parameters: nn.Module,
        context_prediction: nn.Conv2d,
    ) -> None:
        super().__init__()
        self.gaussian_conditional = gaussian_conditional
        self.entropy_parameters = entropy_parameters
        self.context_prediction = context_prediction

    def forward(self, y: Tensor, params: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, C, H, W)``.
            params: side information ``(N, D, H, W)``.

        Returns:
            ``{"likelihoods": {"y"}, "y_hat"}``.
        """
        mode = "noise" if self.training else "dequantize"
        y_hat = self.gaussian_conditional.quantize(y, mode)
        merged = concatenate(params, self.context_prediction(y_hat))
        scales, means = self.entropy_parameters(merged).chunk(2, 1)
        _, likelihoods = self.gaussian_conditional(y, scales, means)
        return {"likelihoods": {"y": likelihoods}, "y_hat": y_hat}

    def compress(self, y: Tensor, ctx_params: Tensor) -> dict[str, Any]:
        """``{"strings": [y], "shape": (H, W), "y_hat"}``; arguments as in :meth:`forward`."""
        strings, y_hat = scan_compress(self, y, ctx_params)
        return {"strings": [strings], "shape": y.shape[-2:], "y_hat": y_hat}

    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Sequence[int],
        ctx_params: Tensor,
    ) -> dict[str, Any]:
        """``{"y_hat", "y_fine"}``, see :class:`LatentCodec`.

        Raises:
            ValueError: sizes do not fit, or a string is damaged.
        """
        y_strings = only_strings(strings, type(self).__name__)
        if tuple(shape)[-2:] != tuple(ctx_params.shape[-2:]) or len(y_strings) != len(ctx_params):
            raise ValueError(
                f"shape {tuple(shape)} and {len(y_strings)} strings do not fit side information "
                f"of size {tuple(ctx_params.shape)}"
            )
        y_hat, y_fine = scan_decompress(self, y_strings, ctx_params)
        return {"y_hat": y_hat, "y_fine": y_fine}


def scan_compress(
    modules: Any, y: Tensor, params: Tensor, rate: ScanRate | None = None
) -> tuple[list[bytes], Tensor]:
    """Code each item of a batch with the networks of ``modules``.

    Args:
        modules: has ``gaussian_conditional``, ``entropy_parameters`` and ``context_prediction``.
        y: ``(N, C, H, W)``.
        params: side information ``(N, D, H, W)``.
        rate: changes for a variable rate.

    Returns:
        ``(strings, y_hat)``.
    """
    scan = _scan_of(modules, rate)
    with scan_encoders(modules.gaussian_conditional, len(y)) as coders:
        coded = [scan.compress(*item) for item in zip(y, params, coders)]
    y_hat = torch.stack([item[1] for item in coded]).to(y)
    return [item[0] for item in coded], y_hat


def scan_decompress(
    modules: Any,
    strings: Sequence[bytes | None],
    params: Tensor,
    rate: ScanRate | None = None,
) -> tuple[Tensor, Tensor]:
    """Inverse of :func:`scan_compress`.

    Returns:
        ``(y_hat, y_fine)``, each ``(N, C, H, W)``, like ``params`` in type and device.

    Raises:
        ValueError: a string is damaged.
    """
    scan = _scan_of(modules, rate)
    _, _, height, width = params.shape
    coders = scan_decoders(modules.gaussian_conditional, strings, height * width, scan.channels)
    items = []
    for item, coder in zip(params, coders):
        items.append(scan.decompress(item, coder))
        coder.check_finished()
    y_hat, fine = (torch.stack(part).to(params) for part in zip(*items))
    return y_hat, fine


def _scan_of(modules: Any, rate: ScanRate | None) -> RasterScan:
    return RasterScan(
        modules.gaussian_conditional,
        modules.entropy_parameters,
        modules.context_prediction,
        rate=rate,
    )


def raster_scan_compress_single_stream(
    encoder: Any,
    y: Tensor,
    params: Tensor,
    *,
    gaussian_conditional: GaussianConditional,
    entropy_parameters: nn.Module,
    context_prediction: nn.Conv2d,
    height: int,
    width: int,
    padding: int,
    kernel_size: int,
    merge: Merge = concatenate,
) -> Tensor:
    """Append one item to an encoder.

    Args:
        encoder: a ``compressai.ans.BufferedRansEncoder``.
        y: ``(1, C, height, width)``.
        params: side information ``(1, D, height, width)``.
        gaussian_conditional, entropy_parameters, context_prediction: the networks.
        height, width: size of the latent.
        padding, kernel_size: those of ``context_prediction``.
        merge: joins side information and context.

    Returns:
        ``y_hat`` ``(1, C, height, width)``.

    Raises:
        ValueError: sizes do not fit.
    """
    scan = _checked_scan(
        gaussian_conditional, entropy_parameters, context_prediction, merge, padding, kernel_size
    )
    if tuple(y.shape[-2:]) != (height, width):
        raise ValueError(f"y must be {height} x {width}, got {tuple(y.shape)}")
    _, y_hat = scan.compress(y[0], params[0], PlainScanEncoder(gaussian_conditional, encoder))
    return y_hat[None].to(y)


def raster_scan_decompress_single_stream(
    decoder: Any,
    params: Tensor,
    *,
    gaussian_conditional: GaussianConditional,
    entropy_parameters: nn.Module,
    context_prediction: nn.Conv2d,
    height: int,
    width: int,
    padding: int,
    kernel_size: int,
    device: torch.device | str = "cpu",
    merge: Merge = concatenate,
) -> Tensor:
    """Decode one item from a decoder whose stream is set; arguments as for compression.

    Returns:
        ``y_hat`` ``(1, C, height, width)`` on ``device``.

    Raises:
        ValueError: sizes do not fit, or the string is damaged.
    """
    scan = _checked_scan(
        gaussian_conditional, entropy_parameters, context_prediction, merge, padding, kernel_size
    )
    if tuple(params.shape[-2:]) != (height, width):
        raise ValueError(f"params must be {height} x {width}, got {tuple(params.shape)}")
    y_hat, _ = scan.decompress(params[0], PlainScanDecoder(gaussian_conditional, decoder))
    return y_hat[None].to(device)


def _checked_scan(
    gaussian_conditional: GaussianConditional,
    entropy_parameters: nn.Module,
    context_prediction: nn.Conv2d,
    merge: Merge,
    padding: int,
    kernel_size: int,
) -> RasterScan:
    scan = RasterScan(gaussian_conditional, entropy_parameters, context_prediction, merge)
    if (padding, kernel_size) != (scan.padding, 2 * scan.padding + 1):
        raise ValueError(
            f"padding {padding} and kernel_size {kernel_size} are not those of context_prediction"
        )
    return scan


def default_collate(batch: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Turn a list of dicts into a dict of lists."""
    keys = batch[0].keys() if batch else ()
    return {key: [item[key] for item in batch] for key in keys}
