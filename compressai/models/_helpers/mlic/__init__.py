# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What MLIC, MLIC+ and MLIC++ are made of: networks of convolutions, and contexts by attention."""

from compressai.models._helpers.mlic.context import (
    LinearGlobalInterContext,
    LinearGlobalIntraContext,
    LocalContext,
    VanillaGlobalInterContext,
    VanillaGlobalIntraContext,
    WindowCheckerboardAttn,
)
from compressai.models._helpers.mlic.networks import (
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
