# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The selective scan of state-space models, on maps, and the blocks around it.

``compressai.layers`` does not import this package. It needs no optional package: on the CPU scans
run on a native kernel or in torch, on CUDA on ``mamba_ssm`` where that is installed.
"""

from __future__ import annotations

from compressai.layers.ssm.blocks import SS2D, VSSBlock
from compressai.layers.ssm.builders import build_vss_backbone, build_vss_context_stage
from compressai.layers.ssm.inference import infer_vss_block_kwargs, infer_vss_depths
from compressai.layers.ssm.ssm_ops import (
    cross_merge,
    cross_scan,
    cross_selective_scan,
    get_selective_scan_backend,
    is_mamba_ssm_available,
    is_selective_scan_cuda_available,
    selective_scan,
    selective_scan_ref,
)

__all__ = [
    "SS2D",
    "VSSBlock",
    "build_vss_backbone",
    "build_vss_context_stage",
    "cross_merge",
    "cross_scan",
    "cross_selective_scan",
    "get_selective_scan_backend",
    "infer_vss_block_kwargs",
    "infer_vss_depths",
    "is_mamba_ssm_available",
    "is_selective_scan_cuda_available",
    "selective_scan",
    "selective_scan_ref",
]
