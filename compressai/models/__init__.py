# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image and video compression models, a file for each paper or group of authors.

Models know tensors and strings; files, weights and command lines are on higher floors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from compressai.models.cca import CCAModel
    from compressai.models.dcae import DCAE
    from compressai.models.hpcm import HPCM
    from compressai.models.mlic import MLIC, MLICPlus, MLICPlusPlus, MLICv2
    from compressai.models.saaf import SAAF
    from compressai.models.stf import WACNN, SymmetricalTransFormer
    from compressai.models.tcm import TCM

__all__ = [
    "CCAModel",
    "Cheng2020Anchor",
    "Cheng2020AnchorCheckerboard",
    "Cheng2020Attention",
    "CompressionModel",
    "DCAE",
    "Elic2022Chandelier",
    "Elic2022Official",
    "FactorizedPrior",
    "FactorizedPriorReLU",
    "HPCM",
    "IntegerLite",
    "JointAutoregressiveHierarchicalPriors",
    "JointAutoregressiveHierarchicalPriorsVbr",
    "Lite",
    "LiteVbr",
    "MLIC",
    "MLICPlus",
    "MLICPlusPlus",
    "MLICv2",
    "MeanScaleHyperprior",
    "MeanScaleHyperpriorVbr",
    "SAAF",
    "ScaleHyperprior",
    "ScaleHyperpriorVbr",
    "ScaleSpaceFlow",
    "SimpleVAECompressionModel",
    "SymmetricalTransFormer",
    "TCM",
    "WACNN",
    "get_scale_table",
]

# Imported when first used: some need the optional package timm, and all have long files.
_LAZY = {
    "CCAModel": "compressai.models.cca",
    "DCAE": "compressai.models.dcae",
    "HPCM": "compressai.models.hpcm",
    "MLIC": "compressai.models.mlic",
    "MLICPlus": "compressai.models.mlic",
    "MLICPlusPlus": "compressai.models.mlic",
    "MLICv2": "compressai.models.mlic",
    "SAAF": "compressai.models.saaf",
    "SymmetricalTransFormer": "compressai.models.stf",
    "TCM": "compressai.models.tcm",
    "WACNN": "compressai.models.stf",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
