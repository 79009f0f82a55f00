# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What MLIC, MLIC+ and MLIC++ are made of: networks of convolutions, and contexts by attention."""

from .context import (
    LinearGlobalInterContext,
    LinearGlobalIntraContext,
    LocalContext,
    VanillaGlobalInterContext,
    VanillaGlobalIntraContext,
    WindowCheckerboardAttn,
)
from .networks import (
    AnalysisTransform,
    ChannelContext,
    EntropyParameters,
    HyperAnalysis,
    HyperSynthesis,
    LatentResidualPrediction,
    StackedCheckerboardConv,
    SynthesisTransform,
)

__all__ = [
    "AnalysisTransform",
    "ChannelContext",
    "EntropyParameters",
    "HyperAnalysis",
    "HyperSynthesis",
    "LatentResidualPrediction",
    "LinearGlobalInterContext",
    "LinearGlobalIntraContext",
    "LocalContext",
    "StackedCheckerboardConv",
    "SynthesisTransform",
    "VanillaGlobalInterContext",
    "VanillaGlobalIntraContext",
    "WindowCheckerboardAttn",
]
