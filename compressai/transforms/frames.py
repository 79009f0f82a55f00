# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Frames of raw video to tensors and back, of any pixel format and bit depth.

YUV is full-range BT.709, as in :mod:`compressai.transforms.functional`. Chroma samples lie in the
middle of the pixels that share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from compressai.datasets.rawvideo import VideoFormat, make_dtype, subsampling
from compressai.transforms.functional import UPSAMPLING_MODES, check_mode, rgb2ycbcr, ycbcr2rgb

__all__ = ["frame_to_planes", "planes_to_frame", "planes_to_rgb", "rgb_to_planes"]


def frame_to_planes(
    frame: np.void, max_value: float = 1, device: torch.device | str = "cpu"
) -> tuple[Tensor, ...]:
    """The planes of a frame as tensors.

    Args:
        frame: record of a :class:`~compressai.datasets.RawVideoSequence`.
        max_value: what code values are divided by: ``2 ** bitdepth - 1`` for the range [0, 1],
            1 for code values.
        device: where the tensors go.

    Returns:
        For each plane a float32 tensor ``(1, 1, H, W)``; chroma of 4:0:0 has no samples.
    """
    return tuple(
        torch.from_numpy(frame[name].astype(np.float32))[None, None].to(device) / max_value
        for name in frame.dtype.names
    )


def planes_to_frame(
    planes: Sequence[Tensor], format: VideoFormat, bitdepth: int, value_type: Any
) -> np.ndarray:
    """Planes as a frame of code values, rounded and clamped to what the bits can hold.

    Args:
        planes: as :func:`rgb_to_planes` gives them, range [0, 1].
        format: what planes these are.
        bitdepth: bits of a sample.
        value_type: type of a sample, such as ``np.uint8``.

    Returns:
        A record; its ``tobytes()`` is the frame in a file.
    """
    height, width = planes[0].shape[-2:]
    frame = np.zeros((), make_dtype(format, value_type, width, height))
    white = 2**bitdepth - 1
    for name, plane in zip(frame.dtype.names, planes, strict=True):
        values = plane.detach().float().cpu().mul(white).round().clamp(0, white)
        frame[name] = values[0, 0].numpy()
    return frame


def planes_to_rgb(planes: Sequence[Tensor], format: VideoFormat, mode: str = "bicubic") -> Tensor:
    """Planes to an image.

    Args:
        planes: three tensors ``(N, 1, H, W)`` in [0, 1], chroma in the resolution of ``format``.
        format: what planes these are.
        mode: how chroma is enlarged: ``"bilinear"``, ``"bicubic"`` or ``"nearest"``.

    Returns:
        RGB ``(N, 3, H, W)``. It is not clamped: YUV holds colours that RGB does not.

    Raises:
        ValueError: unknown mode, or planes whose sizes do not fit the format.
    """
    check_mode(mode, UPSAMPLING_MODES)
    _check_planes(planes, format)
    if format is VideoFormat.RGB:
        return torch.cat(tuple(planes), dim=1)
    luma, *chroma = planes
    if format is VideoFormat.YUV400:
        return luma.expand(-1, 3, -1, -1).contiguous()
    horizontal, vertical = subsampling[format]
    if (horizontal, vertical) != (1, 1):
        height, width = luma.shape[-2:]
        options: dict[str, Any] = {} if mode == "nearest" else {"align_corners": False}
        chroma = [
            # The last sample of an odd side stands for one pixel and one beyond the edge.
            F.interpolate(plane, scale_factor=(vertical, horizontal), mode=mode, **options)[
                ..., :height, :width
            ]
            for plane in chroma
        ]
    return ycbcr2rgb(torch.cat((luma, *chroma), dim=1))


def rgb_to_planes(rgb: Tensor, format: VideoFormat) -> tuple[Tensor, ...]:
    """An image to planes; chroma samples are means of the pixels that share them.

    Args:
        rgb: ``(N, 3, H, W)`` in [0, 1].
        format: what planes to make.

    Returns:
        Three tensors ``(N, 1, H, W)``, chroma in the resolution of ``format``, not clamped.
    """
    if format is VideoFormat.RGB:
        return rgb.split(1, dim=1)
    luma, *chroma = rgb2ycbcr(rgb).split(1, dim=1)
    if format is VideoFormat.YUV400:
        return (luma, *(plane[..., :0, :0] for plane in chroma))
    horizontal, vertical = subsampling[format]
    height, width = luma.shape[-2:]
    edge = (0, width % horizontal, 0, height % vertical)
    small = (
        F.avg_pool2d(F.pad(plane, edge, mode="replicate"), (vertical, horizontal))
        for plane in chroma
    )
    return (luma, *small)


def _check_planes(planes: Sequence[Tensor], format: VideoFormat) -> None:
    sizes = [tuple(plane.shape[-2:]) for plane in planes]
    if len(sizes) == 3:
        dtype = make_dtype(format, np.uint8, sizes[0][1], sizes[0][0])
        if sizes == [dtype[name].shape for name in dtype.names]:
            return
    raise ValueError(f"planes must be three of {format.value}, got the sizes {sizes}")
