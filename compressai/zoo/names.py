# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The names in the zoo, for those who only want to list them: without importing a model."""

from __future__ import annotations

import sys

__all__ = ["IMAGE_MODELS", "VIDEO_MODELS", "image_model_names"]

# As the rows have them, and in their order; a test compares, because importing those takes long.
IMAGE_MODELS = (
    *("bmshj2018-factorized", "bmshj2018-factorized-relu", "bmshj2018-hyperprior"),
    *("mbt2018-mean", "mbt2018", "cheng2020-anchor", "cheng2020-attn"),
    *("bmshj2018-hyperprior-vbr", "mbt2018-mean-vbr", "mbt2018-vbr"),
    *("cheng2020-anchor-checkerboard", "elic2022-official", "elic2022-chandelier"),
    *("lite", "lite-integer", "stf", "stf-wacnn", "tcm", "tcm-auxt", "cca", "dcae", "saaf"),
    *("mlic", "mlicplus", "mlicpp", "mlicv2", "hpcm-base", "hpcm-large", "hpcm-phi", "hpcm-1b"),
    *("mambavc", "mambaic"),
)
VIDEO_MODELS = ("ssf2020",)


def image_model_names() -> list[str]:
    """Names of the image models, those registered elsewhere included.

    Models are imported only where one is already.
    """
    if "compressai.models" not in sys.modules:
        return list(IMAGE_MODELS)
    from compressai.zoo.build import image_models

    return list(image_models)
