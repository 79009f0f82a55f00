# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image and video compression models, one file for each group of authors.

Models know tensors and strings; files, weights and command lines are on higher floors.
"""

from __future__ import annotations

from compressai.models.base import (
    CompressionModel,
    SimpleVAECompressionModel,
    get_scale_table,
)
from compressai.models.google import (
    FactorizedPrior,
    FactorizedPriorReLU,
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from compressai.models.lite import Lite
from compressai.models.lite_integer import IntegerLite
from compressai.models.lite_vbr import LiteVbr
from compressai.models.sensetime import (
    Cheng2020AnchorCheckerboard,
    Elic2022Chandelier,
    Elic2022Official,
)
from compressai.models.vbr import (
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperpriorVbr,
    ScaleHyperpriorVbr,
)
from compressai.models.video import ScaleSpaceFlow
from compressai.models.waseda import Cheng2020Anchor, Cheng2020Attention

__all__ = [
    "Cheng2020Anchor",
    "Cheng2020AnchorCheckerboard",
    "Cheng2020Attention",
    "CompressionModel",
    "Elic2022Chandelier",
    "Elic2022Official",
    "FactorizedPrior",
    "FactorizedPriorReLU",
    "IntegerLite",
    "JointAutoregressiveHierarchicalPriors",
    "JointAutoregressiveHierarchicalPriorsVbr",
    "Lite",
    "LiteVbr",
    "MeanScaleHyperprior",
    "MeanScaleHyperpriorVbr",
    "ScaleHyperprior",
    "ScaleHyperpriorVbr",
    "ScaleSpaceFlow",
    "SimpleVAECompressionModel",
    "get_scale_table",
]
