# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How ``eval_model`` codes an image: rates of bare strings, padding on all sides.

This is CompressAI's way of measuring, kept so that figures stay comparable with its; see
:mod:`compressai.evaluation` for rates of whole files.
"""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai.evaluation.metrics import MS_SSIM, PSNR
from compressai.evaluation.metrics import compute_metrics as compute_8bit_metrics
from compressai.ops import compute_padding

__all__ = ["compute_metrics", "inference", "inference_entropy_estimation", "psnr"]

_PADDING_MULTIPLE = 64


def psnr(a: Tensor, b: Tensor, max_val: int = 255) -> float:
    """PSNR in decibels of samples up to ``max_val``."""
    return compute_8bit_metrics(a, b, [PSNR], max_val)[PSNR]


def compute_metrics(org: Tensor, rec: Tensor, max_val: int = 255) -> dict[str, Any]:
    """PSNR and MS-SSIM of images ``(1, 3, H, W)`` in [0, 1], rounded to ``max_val`` steps.

    Raises:
        ValueError: sizes differ, or a side is shorter than 161 pixels.
    """
    a, b = ((x.float() * max_val).clamp(0, max_val).round() for x in (org, rec))
    return compute_8bit_metrics(a, b, [PSNR, MS_SSIM], max_val)


@torch.inference_mode()
def inference(
    model: nn.Module, x: Tensor, vbr_stage: int | None = None, vbr_scale: Any = None
) -> dict[str, Any]:
    """Code an image and decode it.

    Args:
        model: the model, with tables.
        x: ``(1, 3, H, W)`` in [0, 1].
        vbr_stage, vbr_scale: stage and gain of a variable-rate model.

    Returns:
        ``psnr-rgb``, ``ms-ssim-rgb``, ``bpp`` of the strings alone, ``encoding_time`` and
        ``decoding_time`` in seconds.
    """
    pad, unpad = _padding(model, x)
    padded = F.pad(x, pad)
    rate = _rate(vbr_stage, vbr_scale)
    _wait(x)
    start = time.time()
    coded = model.compress(padded, **rate)
    _wait(x)
    encoding_time = time.time() - start
    start = time.time()
    decoded = model.decompress(coded["strings"], coded["shape"], **rate)
    _wait(x)
    decoding_time = time.time() - start
    size = sum(len(strings[0]) for strings in coded["strings"])
    return {
        **compute_metrics(x, F.pad(decoded["x_hat"], unpad)),
        "bpp": 8 * size / (x.size(2) * x.size(3)),
        "encoding_time": encoding_time,
        "decoding_time": decoding_time,
    }


@torch.inference_mode()
def inference_entropy_estimation(
    model: nn.Module, x: Tensor, vbr_stage: int | None = None, vbr_scale: Any = None
) -> dict[str, Any]:
    """Estimate the rate from the likelihoods, without coding.

    Args:
        model: the model.
        x: ``(1, 3, H, W)`` in [0, 1]; padded where the model needs it.
        vbr_stage, vbr_scale: stage and gain of a variable-rate model.

    Returns:
        As :func:`inference`; either time is half of that of ``forward``.
    """
    pad, unpad = _padding(model, x)
    _wait(x)
    start = time.time()
    out = model(F.pad(x, pad), **_rate(vbr_stage, vbr_scale))
    _wait(x)
    elapsed = time.time() - start
    bits = sum(float(-p.log2().sum()) for p in out["likelihoods"].values())
    return {
        **compute_metrics(x, F.pad(out["x_hat"], unpad)),
        "bpp": bits / (x.size(2) * x.size(3)),
        "encoding_time": elapsed / 2,
        "decoding_time": elapsed / 2,
    }


def _padding(model: nn.Module, x: Tensor) -> Any:
    multiple = max(_PADDING_MULTIPLE, int(getattr(model, "downsampling_factor", 0)))
    return compute_padding(x.size(2), x.size(3), min_div=multiple)


def _rate(stage: int | None, scale: Any) -> dict[str, Any]:
    return {} if stage is None else {"stage": stage, "s": 0, "inputscale": scale}


def _wait(x: Tensor) -> None:
    """Until a GPU, which is only told what to do, has done it."""
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
