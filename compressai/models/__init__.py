# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Image and video compression models, a file for each paper or group of authors.

Models know tensors and strings; files, weights and command lines are on higher floors. A file
holds all that is known of its models: the classes, their rows
(:class:`~compressai.registry.ModelEntry`), and the conversion of their authors' weights. An import
below is all that a new file needs besides; the lists of models have the order of these imports.
"""

from __future__ import annotations

# isort: off
from compressai.models.base import (
    CompressionModel as CompressionModel,
    SimpleVAECompressionModel as SimpleVAECompressionModel,
    get_scale_table as get_scale_table,
)
from compressai.models.google import (
    FactorizedPrior as FactorizedPrior,
    FactorizedPriorReLU as FactorizedPriorReLU,
    JointAutoregressiveHierarchicalPriors as JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior as MeanScaleHyperprior,
    ScaleHyperprior as ScaleHyperprior,
)
from compressai.models.waseda import (
    Cheng2020Anchor as Cheng2020Anchor,
    Cheng2020Attention as Cheng2020Attention,
)
from compressai.models.vbr import (
    JointAutoregressiveHierarchicalPriorsVbr as JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperpriorVbr as MeanScaleHyperpriorVbr,
    ScaleHyperpriorVbr as ScaleHyperpriorVbr,
)
from compressai.models.sensetime import (
    Cheng2020AnchorCheckerboard as Cheng2020AnchorCheckerboard,
    Elic2022Chandelier as Elic2022Chandelier,
    Elic2022Official as Elic2022Official,
)
from compressai.models.lite import Lite as Lite
from compressai.models.integer import IntegerLite as IntegerLite
from compressai.models.stf import SymmetricalTransFormer as SymmetricalTransFormer, WACNN as WACNN
from compressai.models.tcm import TCM as TCM
from compressai.models.cca import CCAModel as CCAModel
from compressai.models.dcae import DCAE as DCAE
from compressai.models.saaf import SAAF as SAAF
from compressai.models.mlic import (
    MLIC as MLIC,
    MLICPlus as MLICPlus,
    MLICPlusPlus as MLICPlusPlus,
    MLICv2 as MLICv2,
)
from compressai.models.hpcm import HPCM as HPCM
from compressai.models.mambavc import MambaVC as MambaVC
from compressai.models.mambaic import MambaIC as MambaIC
from compressai.models.video import ScaleSpaceFlow as ScaleSpaceFlow

__all__ = [name for name, item in list(globals().items()) if isinstance(item, type)]
__all__ += ["get_scale_table"]
