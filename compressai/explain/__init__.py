# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where the bits of an image are, whether a model is healthy, and where two settings part.

``compressai explain`` is made of this; ``docs/explain.md`` says what the figures mean.
"""

from __future__ import annotations

from compressai.explain.bits import GAP_LIMIT, BitMap, ImageBits, LatentBits, image_bits
from compressai.explain.health import Health, QuantileState, health_of, weights_not_finite
from compressai.explain.maps import check_map_file, save_maps
from compressai.explain.settings import Difference, Run, compare_runs, run_model
from compressai.explain.symbols import SymbolBits, symbol_bits

__all__ = [
    "GAP_LIMIT",
    "BitMap",
    "Difference",
    "Health",
    "ImageBits",
    "LatentBits",
    "QuantileState",
    "Run",
    "SymbolBits",
    "check_map_file",
    "compare_runs",
    "health_of",
    "image_bits",
    "run_model",
    "save_maps",
    "symbol_bits",
    "weights_not_finite",
]
