# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Full-range BT.709 colour conversion and 4:4:4 / 4:2:0 chroma resampling of tensors.

Everything is differentiable and keeps the floating dtype and the device of its input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["YCBCR_WEIGHTS", "rgb2ycbcr", "ycbcr2rgb", "yuv_420_to_444", "yuv_444_to_420"]

YCBCR_WEIGHTS = {
    # (K_r, K_g, K_b), ITU-R BT.709-6, item 3.2.
    "ITU-R_BT.709": (0.2126, 0.7152, 0.0722),
}

DOWNSAMPLING_MODES = ("avg_pool",)
UPSAMPLING_MODES = ("bilinear", "bicubic", "nearest")


def check_mode(mode: str, choices: Sequence[str]) -> None:
    """Raise ValueError unless ``mode`` is one of ``choices``."""
    if mode not in choices:
        raise ValueError(f"mode must be one of {tuple(choices)}, got {mode!r}")


def _check_input_tensor(tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"expected a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise ValueError(f"expected a floating point tensor, got {tensor.dtype}")
    if tensor.dim() not in (3, 4) or tensor.size(-3) != 3:
        raise ValueError(f"expected the shape (3, H, W) or (N, 3, H, W), got {tuple(tensor.shape)}")


def rgb2ycbcr(rgb: Tensor) -> Tensor:
    """RGB to full-range Y'CbCr, BT.709.

    Args:
        rgb: floating tensor ``(3, H, W)`` or ``(N, 3, H, W)``, range [0, 1]; not clamped.

    Returns:
        Same shape and dtype. Luma in [0, 1], chroma in [0, 1] around 0.5.

    Raises:
        ValueError: not such a tensor.

    Source: ITU-R BT.709-6, items 3.2 and 3.3, with the chroma offset 1/2.
    """
    _check_input_tensor(rgb)
    red, green, blue = rgb.chunk(3, -3)
    k_r, k_g, k_b = YCBCR_WEIGHTS["ITU-R_BT.709"]
    luma = k_r * red + k_g * green + k_b * blue
    c_b = (blue - luma) / (2 * (1 - k_b)) + 0.5
    c_r = (red - luma) / (2 * (1 - k_r)) + 0.5
    return torch.cat((luma, c_b, c_r), dim=-3)


def ycbcr2rgb(ycbcr: Tensor) -> Tensor:
    """Inverse of :func:`rgb2ycbcr`.

    Args:
        ycbcr: floating tensor ``(3, H, W)`` or ``(N, 3, H, W)``, range [0, 1].

    Returns:
        Same shape and dtype; not clamped, so colours outside of the RGB cube leave [0, 1].

    Raises:
        ValueError: not such a tensor.
    """
    _check_input_tensor(ycbcr)
    luma, c_b, c_r = ycbcr.chunk(3, -3)
    k_r, k_g, k_b = YCBCR_WEIGHTS["ITU-R_BT.709"]
    red = luma + 2 * (1 - k_r) * (c_r - 0.5)
    blue = luma + 2 * (1 - k_b) * (c_b - 0.5)
    green = (luma - k_r * red - k_b * blue) / k_g
    return torch.cat((red, green, blue), dim=-3)


def yuv_444_to_420(
    yuv: Tensor | Sequence[Tensor], mode: str = "avg_pool"
) -> tuple[Tensor, Tensor, Tensor]:
    """Halve the resolution of the chroma planes.

    Args:
        yuv: tensor ``(N, 3, H, W)``, or three tensors ``(N, 1, H, W)``.
        mode: ``"avg_pool"``, the mean of 2 x 2 samples. An odd last row or column is dropped.

    Returns:
        ``y (N, 1, H, W)`` as given, ``u`` and ``v`` ``(N, 1, H // 2, W // 2)``.

    Raises:
        ValueError: unknown mode, or not three planes.
    """
    check_mode(mode, DOWNSAMPLING_MODES)
    given = [tuple(plane.shape) for plane in ((yuv,) if isinstance(yuv, Tensor) else yuv)]
    planes = yuv.split(1, dim=1) if isinstance(yuv, Tensor) and yuv.dim() == 4 else tuple(yuv)
    if len(planes) != 3 or any(plane.dim() != 4 or plane.size(1) != 1 for plane in planes):
        raise ValueError(
            f"yuv must be one tensor (N, 3, H, W) or three tensors (N, 1, H, W), got {given}"
        )
    y, u, v = planes
    return y, F.avg_pool2d(u, kernel_size=2), F.avg_pool2d(v, kernel_size=2)


def yuv_420_to_444(
    yuv: Sequence[Tensor], mode: str = "bilinear", return_tuple: bool = False
) -> Tensor | tuple[Tensor, Tensor, Tensor]:
    """Bring the chroma planes to twice their resolution.

    Args:
        yuv: ``y (N, 1, H, W)``, ``u`` and ``v`` ``(N, 1, H / 2, W / 2)``.
        mode: ``"bilinear"``, ``"bicubic"`` (both with pixel centres at half positions) or
            ``"nearest"``.
        return_tuple: return three planes instead of one tensor.

    Returns:
        A tensor ``(N, 3, H, W)``, or three tensors ``(N, 1, H, W)``.

    Raises:
        ValueError: unknown mode, or not three tensors.
        RuntimeError: the luma plane has not twice the size of the chroma planes (odd sizes), and
            one tensor was asked for.
    """
    check_mode(mode, UPSAMPLING_MODES)
    if isinstance(yuv, Tensor) or len(yuv) != 3 or any(not isinstance(p, Tensor) for p in yuv):
        raise ValueError(f"yuv must be three tensors y, u and v, got {type(yuv).__name__}")
    align_corners = None if mode == "nearest" else False
    y, u, v = yuv
    u, v = (
        F.interpolate(plane, scale_factor=2, mode=mode, align_corners=align_corners)
        for plane in (u, v)
    )
    if return_tuple:
        return y, u, v
    if not y.shape == u.shape == v.shape:
        raise RuntimeError(
            "luma must have twice the size of chroma to be joined in one tensor, "
            f"got y {tuple(y.shape)} with upsampled u {tuple(u.shape)}, v {tuple(v.shape)}"
        )
    return torch.cat((y, u, v), dim=1)
