# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How far decoded video is from its source, frame by frame, and video models as codecs.

Two conventions are in use for the PSNR of a sequence: the mean of the frames' decibels
(:func:`mean_metrics`, that of the learned codecs here), and the decibels of the mean error
(:func:`pooled_metrics`, that of the classical ones). The second is never higher; figures of the two
are not comparable.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from compressai._decibels import psnr_of
from compressai._files import atomic_write
from compressai.bitstream.legacy_video import (
    LEGACY_MULTIPLE,
    LegacyVideoReader,
    write_legacy_frame,
    write_legacy_start,
)
from compressai.bitstream.video_codec import FrameCoder, check_video_model, frame_to_rgb
from compressai.datasets import RawVideoSequence, VideoFormat
from compressai.evaluation.metrics import MS_SSIM_MIN_SIDE
from compressai.transforms import rgb_to_planes

__all__ = [
    "code_video",
    "compare_frames",
    "compare_rgb",
    "estimate_bits",
    "estimate_video",
    "frame_metrics",
    "kbps",
    "mean_metrics",
    "pooled_metrics",
    "psnr_of",
]

_PLANES = ("y", "u", "v")


def compare_rgb(a: Tensor, b: Tensor, white: int) -> dict[str, float | None]:
    """Compare two images as code values.

    Args:
        a, b: RGB ``(1, 3, H, W)`` in [0, 1]; both are rounded to code values first.
        white: code value of 1.

    Returns:
        ``mse-rgb`` of code values, and ``ms-ssim-rgb``, ``None`` where a side is shorter than 161.
    """
    # Slow to import, and needed here only.
    from pytorch_msssim import ms_ssim

    x, y = (rgb.detach().float().clamp(0, 1).mul(white).round() for rgb in (a, b))
    small = min(x.shape[2:]) < MS_SSIM_MIN_SIDE
    return {
        "mse-rgb": float(F.mse_loss(x.double(), y.double())),
        "ms-ssim-rgb": None if small else float(ms_ssim(x, y, data_range=white)),
    }


def compare_frames(
    a: np.void, b: np.void, sequence: RawVideoSequence, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Compare two frames of raw video.

    Args:
        a, b: records of a :class:`~compressai.datasets.RawVideoSequence`.
        sequence: tells the format of both.
        device: where RGB is compared.

    Returns:
        Mean squared errors of code values, ``mse-y``, ``mse-u``, ``mse-v``, ``mse-rgb``, and
        ``ms-ssim-rgb``.
    """
    errors = {
        f"mse-{plane}": float(np.mean((a[plane].astype(np.float64) - b[plane]) ** 2))
        for plane in a.dtype.names
    }
    x, y = (frame_to_rgb(frame, sequence).to(device) for frame in (a, b))
    return {**errors, **compare_rgb(x, y, 2**sequence.bitdepth - 1)}


def _weighted(metrics: Mapping[str, float]) -> float:
    return (4 * metrics["psnr-y"] + metrics["psnr-u"] + metrics["psnr-v"]) / 6


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else fmean(values)


def mean_metrics(frames: Iterable[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Mean of each metric over the frames; of decibels, too."""
    frames = list(frames)
    return {key: _mean([frame[key] for frame in frames]) for key in frames[0]}


def pooled_metrics(
    frames: Iterable[Mapping[str, float | None]], white: int
) -> dict[str, float | None]:
    """Metrics of a sequence from those of :func:`compare_frames`: errors are averaged first.

    Returns:
        ``ms-ssim-rgb``, ``psnr-rgb``, ``psnr-y``, ``psnr-u``, ``psnr-v``, ``psnr-yuv``.
    """
    mean = mean_metrics(frames)
    psnr = {f"psnr-{key}": psnr_of(mean[f"mse-{key}"], white) for key in ("rgb", *_PLANES)}
    return {"ms-ssim-rgb": mean["ms-ssim-rgb"], **psnr, "psnr-yuv": _weighted(psnr)}


def frame_metrics(frame: np.void, rgb: Tensor, x_hat: Tensor, white: int) -> dict[str, Any]:
    """What the learned codecs report of a frame: planes of both sides as code values."""
    planes = rgb_to_planes(x_hat, VideoFormat.YUV420)
    metrics: dict[str, Any] = {}
    for name, plane in zip(_PLANES, planes):
        values = plane[0, 0].detach().float().cpu().mul(white).round().clamp(0, white).double()
        error = float(np.mean((frame[name].astype(np.float64) - values.numpy()) ** 2))
        metrics[f"psnr-{name}"] = psnr_of(error, white)
    metrics["psnr-yuv"] = _weighted(metrics)
    similarity = compare_rgb(rgb, x_hat, white)
    return {
        **metrics,
        "ms-ssim-rgb": similarity["ms-ssim-rgb"],
        "mse-rgb": similarity["mse-rgb"],
        "psnr-rgb": psnr_of(similarity["mse-rgb"], white),
    }


def kbps(bits: float, frames: int, sequence: RawVideoSequence) -> float:
    """Thousands of bits per second of a part of a sequence.

    Raises:
        ValueError: the frame rate is unknown.
    """
    if not sequence.framerate:
        raise ValueError(
            "the frame rate is unknown: name the file like clip_832x480_30Hz_8bit_yuv420.yuv"
        )
    return float(Fraction(sequence.framerate) * Fraction(bits) / frames / 1000)


def _open_source(source: str | os.PathLike[str] | RawVideoSequence) -> RawVideoSequence:
    sequence = source
    if not isinstance(source, RawVideoSequence):
        sequence = RawVideoSequence.from_file(source)
    if sequence.format is not VideoFormat.YUV420:
        raise NotImplementedError(f"only yuv420 can be evaluated, got {sequence.format.value}")
    if not len(sequence):
        raise ValueError("the sequence has no frames")
    kbps(0, 1, sequence)
    return sequence


def code_video(
    net: nn.Module,
    source: str | os.PathLike[str] | RawVideoSequence,
    binpath: str | os.PathLike[str],
    keep_binaries: bool = False,
) -> dict[str, float | None]:
    """Code a 4:2:0 sequence into a file, decode that file, and compare.

    The file is that of CompressAI's evaluation, see :mod:`compressai.bitstream.legacy_video`; its
    length is the rate.

    Args:
        net: video model.
        source: the sequence, or its file, whose name tells what is in it.
        binpath: the coded file.
        keep_binaries: keep it.

    Returns:
        ``psnr-y``, ``psnr-u``, ``psnr-v``, ``psnr-yuv``, ``ms-ssim-rgb``, ``mse-rgb``,
        ``psnr-rgb``, means over the frames, and ``bitrate`` in kbit/s.

    Raises:
        NotImplementedError: the sequence is not 4:2:0.
        ValueError: it has no frames, or no known frame rate, or ``net`` is no video model.
    """
    check_video_model(net)
    sequence = _open_source(source)
    height, width = sequence.height, sequence.width
    device = next(net.parameters()).device
    binpath = Path(binpath)
    try:
        with atomic_write(binpath) as unfinished, open(unfinished, "wb") as file:
            write_legacy_start(file, height, width, sequence.bitdepth, len(sequence))
            coder = FrameCoder(net, height, width, centred=LEGACY_MULTIPLE)
            for number, frame in enumerate(sequence):
                coded, _ = coder.encode(frame_to_rgb(frame, sequence).to(device), number == 0)
                write_legacy_frame(file, coded, height, width)
        bits = 8 * binpath.stat().st_size
        metrics = []
        with open(binpath, "rb") as file:
            reader = LegacyVideoReader(file, names=("mse", 1))
            coder = FrameCoder(net, height, width, centred=LEGACY_MULTIPLE)
            for number, frame in enumerate(sequence):
                x_hat = coder.decode(reader.read(number)).float()
                rgb = frame_to_rgb(frame, sequence).to(device)
                metrics.append(frame_metrics(frame, rgb, x_hat, 2**sequence.bitdepth - 1))
    finally:
        if not keep_binaries:
            binpath.unlink(missing_ok=True)
    return {**mean_metrics(metrics), "bitrate": kbps(bits, len(sequence), sequence)}


@torch.no_grad()
def estimate_video(
    net: nn.Module, source: str | os.PathLike[str] | RawVideoSequence
) -> dict[str, float | None]:
    """As :func:`code_video`, with the rate that the likelihoods promise, and no coding.

    Args:
        net: video model, in evaluation mode.
        source: as there.

    Returns:
        The same.
    """
    check_video_model(net)
    sequence = _open_source(source)
    parameter = next(net.parameters())
    coder = FrameCoder(net, sequence.height, sequence.width, centred=LEGACY_MULTIPLE)
    metrics, bits = [], 0.0
    for frame in sequence:
        rgb = frame_to_rgb(frame, sequence).to(parameter)
        x = coder.pad(rgb)
        if coder.reference is None:
            x_hat, likelihoods = net.forward_keyframe(x)
        else:
            x_hat, likelihoods = net.forward_inter(x, coder.reference)
        bits += estimate_bits(likelihoods)
        cropped = coder.keep(x_hat).float()
        metrics.append(frame_metrics(frame, rgb, cropped, 2**sequence.bitdepth - 1))
    return {**mean_metrics(metrics), "bitrate": kbps(bits, len(sequence), sequence)}


def estimate_bits(likelihoods: Mapping[str, Any]) -> float:
    """Bits that nested likelihoods stand for: the sum of their negative logarithms to base 2."""
    return sum(
        estimate_bits(part)
        if isinstance(part, Mapping)
        else float(-part.detach().double().log2().sum())
        for part in likelihoods.values()
    )
