# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Making a finished model fast: precision, memory layout and fusion of its transforms.

``g_a`` and ``g_s`` are converted. What encoder and decoder both compute, from ``h_a`` to the
contexts, stays as it is, so that what one precision codes any other decodes. Only in synchronised
coding, whose strings allow for other digits, does that run on native code, too.
"""

from __future__ import annotations

from compressai._freed_memory import keep_freed_memory
from compressai.inference.bundle import ExportedBundle, export_bundle
from compressai.inference.export import ExportedTransform, export_onnx
from compressai.inference.precision import (
    PRECISIONS,
    choose_precision,
    has_native_bfloat16,
    name_precision,
)
from compressai.inference.prepare import Preparation, prepare
from compressai.inference.recipe import export_recipe
from compressai.models.effort import EFFORTS, MAX_EFFORT, compress_with_effort
from compressai.models.integer import quantize_entropy_path

__all__ = [
    "EFFORTS",
    "MAX_EFFORT",
    "PRECISIONS",
    "ExportedBundle",
    "ExportedTransform",
    "Preparation",
    "choose_precision",
    "compress_with_effort",
    "export_bundle",
    "export_onnx",
    "export_recipe",
    "has_native_bfloat16",
    "keep_freed_memory",
    "name_precision",
    "prepare",
    "quantize_entropy_path",
]
