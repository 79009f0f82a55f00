# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Names of models, with the configurations and weights that were published for them."""

from __future__ import annotations

from collections.abc import Callable

from compressai.models.base import CompressionModel
from compressai.zoo.image import (
    bmshj2018_factorized,
    bmshj2018_factorized_relu,
    bmshj2018_hyperprior,
    cca,
    cheng2020_anchor,
    cheng2020_anchor_checkerboard,
    cheng2020_attn,
    elic2022_chandelier,
    elic2022_official,
    hpcm_1b,
    hpcm_base,
    hpcm_large,
    hpcm_phi,
    lite,
    lite_integer,
    mbt2018,
    mbt2018_mean,
    stf,
    stf_wacnn,
    tcm,
)
from compressai.zoo.image_vbr import bmshj2018_hyperprior_vbr, mbt2018_mean_vbr, mbt2018_vbr
from compressai.zoo.pretrained import load_pretrained as load_state_dict
from compressai.zoo.video import ssf2020

__all__ = [
    "bmshj2018_factorized",
    "bmshj2018_factorized_relu",
    "bmshj2018_hyperprior",
    "bmshj2018_hyperprior_vbr",
    "cca",
    "cheng2020_anchor",
    "cheng2020_anchor_checkerboard",
    "cheng2020_attn",
    "elic2022_chandelier",
    "elic2022_official",
    "image_models",
    "hpcm_1b",
    "hpcm_base",
    "hpcm_large",
    "hpcm_phi",
    "lite",
    "lite_integer",
    "load_state_dict",
    "mbt2018",
    "mbt2018_mean",
    "mbt2018_mean_vbr",
    "mbt2018_vbr",
    "models",
    "ssf2020",
    "stf",
    "stf_wacnn",
    "tcm",
    "video_models",
]

image_models: dict[str, Callable[..., CompressionModel]] = {
    "bmshj2018-factorized": bmshj2018_factorized,
    "bmshj2018-factorized-relu": bmshj2018_factorized_relu,
    "bmshj2018-hyperprior": bmshj2018_hyperprior,
    "mbt2018-mean": mbt2018_mean,
    "mbt2018": mbt2018,
    "cheng2020-anchor": cheng2020_anchor,
    "cheng2020-attn": cheng2020_attn,
    "bmshj2018-hyperprior-vbr": bmshj2018_hyperprior_vbr,
    "mbt2018-mean-vbr": mbt2018_mean_vbr,
    "mbt2018-vbr": mbt2018_vbr,
    "cheng2020-anchor-checkerboard": cheng2020_anchor_checkerboard,
    "elic2022-official": elic2022_official,
    "elic2022-chandelier": elic2022_chandelier,
    "stf": stf,
    "stf-wacnn": stf_wacnn,
    "tcm": tcm,
    "cca": cca,
    "hpcm-base": hpcm_base,
    "hpcm-large": hpcm_large,
    "hpcm-phi": hpcm_phi,
    "hpcm-1b": hpcm_1b,
    "lite": lite,
    "lite-integer": lite_integer,
}

video_models: dict[str, Callable[..., CompressionModel]] = {"ssf2020": ssf2020}

models: dict[str, Callable[..., CompressionModel]] = {**image_models, **video_models}
