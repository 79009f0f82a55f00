# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How good a codec is: images through codecs, rates of real files, metrics, curves, deltas.

``compressai eval``, ``compressai plot`` and the programs of ``compressai.utils`` are made of this.
"""

from __future__ import annotations

from compressai._moved import old_names
from compressai.evaluation.bjontegaard import bd_psnr, bd_rate
from compressai.evaluation.codecs import CODECS, Coded, ImageCodec, PillowCodec, find_codec
from compressai.evaluation.evaluate import evaluate, evaluate_image
from compressai.evaluation.image_files import find_images
from compressai.evaluation.metrics import (
    LPIPS,
    METRICS,
    MS_SSIM,
    PSNR,
    compute_metrics,
    lpips,
    ms_ssim,
    psnr,
)
from compressai.evaluation.model import ModelCodec
from compressai.evaluation.published import (
    PublishedBdRate,
    PublishedCurve,
    bd_rates_against,
    known_curve,
    published_bd_rates,
    published_curves,
)
from compressai.evaluation.results import BdRate, EmbeddedImage, Evaluation, Point
from compressai.evaluation.speed import Speed, StageTimes, measure_speed

__all__ = [
    "CODECS",
    "LPIPS",
    "METRICS",
    "MS_SSIM",
    "PSNR",
    "BdRate",
    "Coded",
    "EmbeddedImage",
    "Evaluation",
    "ImageCodec",
    "ModelCodec",
    "PillowCodec",
    "Point",
    "PublishedBdRate",
    "PublishedCurve",
    "Speed",
    "StageTimes",
    "bd_psnr",
    "bd_rate",
    "bd_rates_against",
    "compute_metrics",
    "evaluate",
    "evaluate_image",
    "find_codec",
    "find_images",
    "known_curve",
    "lpips",
    "measure_speed",
    "ms_ssim",
    "psnr",
    "published_bd_rates",
    "published_curves",
]

__getattr__ = old_names(__name__)
