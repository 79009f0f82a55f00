# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models whose entropy path computes in integers, so that every machine decodes the same latent.

The layers, the forms that models have in integers, and the quantisation of a trained model into
such a form.
"""

from __future__ import annotations

from compressai.models.integer.form import EntropyNetwork, IntegerForm
from compressai.models.integer.lite import IntegerLite
from compressai.models.integer.quantize import quantize_entropy_path

__all__ = [
    "EntropyNetwork",
    "IntegerForm",
    "IntegerLite",
    "quantize_entropy_path",
]
