# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Training objectives: what a model pays in bits and in distortion."""

from __future__ import annotations

from .cca import CCARateDistortionLoss
from .rate_distortion import RateDistortionLoss
from .video import VideoRateDistortionLoss

__all__ = ["CCARateDistortionLoss", "RateDistortionLoss", "VideoRateDistortionLoss"]
