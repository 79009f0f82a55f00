# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How far a decoded image is from its source.

All metrics look at 8-bit RGB values, because that is what a file that people open holds. PSNR is
the logarithm of torch's ``mse_loss``: piq's adds 1e-8 to the error (0.04 dB at 60 dB), and
torchmetrics would be two more packages for this line.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from compressai._decibels import psnr_of
from compressai.evaluation._extras import require

__all__ = [
    "LPIPS",
    "METRICS",
    "MS_SSIM",
    "MS_SSIM_MIN_SIDE",
    "PSNR",
    "compute_metrics",
    "lpips",
    "lpips_at_hand",
    "ms_ssim",
    "psnr",
    "to_tensor",
]

PSNR, MS_SSIM, LPIPS = "psnr-rgb", "ms-ssim-rgb", "lpips"
# Five scales and a window of 11: smaller images have no MS-SSIM.
MS_SSIM_MIN_SIDE = 161
# torchvision's file of weights.
_ALEXNET = "alexnet-owt-7be5be79.pth"

Pixels = Image.Image | np.ndarray | Tensor


def to_tensor(image: Pixels) -> Tensor:
    """An image as the metrics see it.

    Args:
        image: image of Pillow, array ``(H, W, 3)``, or tensor ``(3, H, W)`` or
            ``(1, 3, H, W)``, with values in [0, 255] (or up to the ``max_val`` of the metric).

    Returns:
        float64 ``(1, 3, H, W)``.

    Raises:
        ValueError: another shape.
    """
    if isinstance(image, Tensor):
        pixels = image[None] if image.dim() == 3 else image
    else:
        values = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if values.ndim != 3:
            raise ValueError(f"an image must have shape (H, W, 3), got {values.shape}")
        pixels = torch.from_numpy(np.ascontiguousarray(values.transpose(2, 0, 1)))[None]
    if pixels.dim() != 4 or pixels.shape[:2] != (1, 3):
        raise ValueError(f"an image must have three channels, got shape {tuple(pixels.shape)}")
    return pixels.detach().cpu().double()


def _pair(a: Pixels, b: Pixels) -> tuple[Tensor, Tensor]:
    x, y = to_tensor(a), to_tensor(b)
    if x.shape != y.shape:
        raise ValueError(
            "the images must have the same size, got "
            f"{x.size(3)} x {x.size(2)} and {y.size(3)} x {y.size(2)}"
        )
    return x, y


def psnr(a: Pixels, b: Pixels, max_val: float = 255.0) -> float:
    """Peak signal-to-noise ratio over all pixels and channels.

    Args:
        a, b: see :func:`to_tensor`.
        max_val: highest value of a sample.

    Returns:
        Decibels; infinite for equal images.

    Raises:
        ValueError: sizes differ.
    """
    return psnr_of(float(F.mse_loss(*_pair(a, b))), max_val)


def ms_ssim(a: Pixels, b: Pixels, max_val: float = 255.0) -> float:
    """Multi-scale structural similarity, mean of the channels, from pytorch-msssim.

    Args:
        a, b: see :func:`to_tensor`.
        max_val: highest value of a sample.

    Returns:
        Similarity, 1 for equal images.

    Raises:
        ValueError: sizes differ, or a side is shorter than 161 pixels.

    Source: Wang, Simoncelli and Bovik 2003, Multi-scale structural similarity for image quality
    assessment.
    """
    # Slow to import, and needed here only.
    from pytorch_msssim import ms_ssim as library_ms_ssim

    x, y = _pair(a, b)
    if min(x.shape[2:]) < MS_SSIM_MIN_SIDE:
        raise ValueError(
            f"MS-SSIM needs sides of at least {MS_SSIM_MIN_SIDE} pixels, got "
            f"{x.size(3)} x {x.size(2)}"
        )
    return float(library_ms_ssim(x.float(), y.float(), data_range=max_val))


def lpips(a: Pixels, b: Pixels, max_val: float = 255.0) -> float:
    """Learned perceptual distance, version 0.1 on AlexNet, from the package lpips.

    The package brings the weights of the metric; those of AlexNet come from torchvision, which
    fetches them once and keeps them in torch's cache.

    Args:
        a, b: see :func:`to_tensor`.
        max_val: highest value of a sample.

    Returns:
        Distance, 0 for equal images; lower is better.

    Raises:
        ImportError: the extra ``lpips`` is not installed.
        RuntimeError: the weights of AlexNet are neither in the cache nor to be fetched.
        ValueError: sizes differ.

    Source: Zhang et al. 2018, The unreasonable effectiveness of deep features as a perceptual
    metric.
    """
    x, y = (2 * pixels.float() / max_val - 1 for pixels in _pair(a, b))
    with torch.no_grad():
        return float(_lpips_net()(x, y))


def lpips_at_hand() -> bool:
    """Whether :func:`lpips` would work without fetching anything."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return find_spec("lpips") is not None and (folder / _ALEXNET).is_file()


@cache
def _lpips_net() -> nn.Module:
    module = require("lpips", "lpips", "LPIPS")
    try:
        with warnings.catch_warnings():
            # It asks torchvision for the weights in a way that torchvision warns of.
            warnings.simplefilter("ignore", UserWarning)
            return module.LPIPS(net="alex", verbose=False).eval()
    except OSError as error:
        raise RuntimeError(
            f"LPIPS needs torchvision's weights of AlexNet, which cannot be fetched ({error}): put "
            f"their file ({_ALEXNET}) into {torch.hub.get_dir()}/checkpoints"
        ) from error


METRICS: dict[str, Callable[..., float]] = {PSNR: psnr, MS_SSIM: ms_ssim, LPIPS: lpips}


def compute_metrics(
    a: Pixels, b: Pixels, metrics: Iterable[str] | None = None, max_val: float = 255.0
) -> dict[str, Any]:
    """Several metrics of a pair of images.

    Args:
        a, b: see :func:`to_tensor`.
        metrics: keys of :data:`METRICS`; PSNR if ``None``.
        max_val: highest value of a sample.

    Returns:
        A value for each.

    Raises:
        ValueError: unknown metric; and what the metrics raise.
    """
    names = [PSNR] if metrics is None else list(metrics)
    for name in names:
        if name not in METRICS:
            raise ValueError(f"metrics must be among {', '.join(METRICS)}, got {name!r}")
    return {name: METRICS[name](a, b, max_val) for name in names}
