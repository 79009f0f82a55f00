# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Callable objects around :mod:`compressai.transforms.functional`, for transform pipelines."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from compressai.transforms import functional as F

__all__ = ["RGB2YCbCr", "YCbCr2RGB", "YUV420To444", "YUV444To420"]


class RGB2YCbCr:
    """RGB to full-range BT.709 Y'CbCr, see :func:`.functional.rgb2ycbcr`."""

    def __call__(self, rgb: Tensor) -> Tensor:
        """Convert ``(3, H, W)`` or ``(N, 3, H, W)``."""
        return F.rgb2ycbcr(rgb)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class YCbCr2RGB:
    """Full-range BT.709 Y'CbCr to RGB, see :func:`.functional.ycbcr2rgb`."""

    def __call__(self, ycbcr: Tensor) -> Tensor:
        """Convert ``(3, H, W)`` or ``(N, 3, H, W)``."""
        return F.ycbcr2rgb(ycbcr)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class YUV444To420:
    """Halve the chroma resolution, see :func:`.functional.yuv_444_to_420`.

    Args:
        mode: ``"avg_pool"``.

    Raises:
        ValueError: unknown mode.
    """

    def __init__(self, mode: str = "avg_pool") -> None:
        F.check_mode(mode, F.DOWNSAMPLING_MODES)
        self.mode = mode

    def __call__(self, yuv: Tensor | Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Resample ``(N, 3, H, W)``, or three planes ``(N, 1, H, W)``."""
        return F.yuv_444_to_420(yuv, mode=self.mode)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class YUV420To444:
    """Double the chroma resolution, see :func:`.functional.yuv_420_to_444`.

    Args:
        mode: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.
        return_tuple: return three planes instead of one tensor.

    Raises:
        ValueError: unknown mode.
    """

    def __init__(self, mode: str = "bilinear", return_tuple: bool = False) -> None:
        F.check_mode(mode, F.UPSAMPLING_MODES)
        self.mode = mode
        self.return_tuple = bool(return_tuple)

    def __call__(self, yuv: Sequence[Tensor]) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Resample the planes ``(N, 1, H, W)`` and twice ``(N, 1, H / 2, W / 2)``."""
        return F.yuv_420_to_444(yuv, mode=self.mode, return_tuple=self.return_tuple)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(return_tuple={self.return_tuple})"
