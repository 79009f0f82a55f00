# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Training objectives: what a model pays in bits and in distortion."""

from __future__ import annotations

from compressai.losses.cca import CCARateDistortionLoss
from compressai.losses.frame_groups import VideoRateDistortionLoss
from compressai.losses.rate_distortion import RateDistortionLoss

__all__ = ["CCARateDistortionLoss", "RateDistortionLoss", "VideoRateDistortionLoss"]
