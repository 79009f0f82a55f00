# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The entropy stack: codecs of latents, as containers that nest.

A codec turns a latent into strings and back, and gives likelihoods for training. Leaves code one
tensor (:class:`EntropyBottleneckLatentCodec`, :class:`GaussianConditionalLatentCodec`); the others
hold codecs and decide in which order and in which context they are used. State-dict keys read like
the nesting::

    HyperpriorLatentCodec                       latent_codec.
    ├── h_a, h_s (DualHyperSynthesis)           latent_codec.h_a.*, latent_codec.h_s.*
    ├── z: EntropyBottleneckLatentCodec         latent_codec.z.entropy_bottleneck.*
    └── y: ChannelGroupsLatentCodec             latent_codec.y.
        ├── channel_context: y0, y1, ...        latent_codec.y.channel_context.y0.*
        └── latent_codec: y0, y1, ...           latent_codec.y.latent_codec.y0.*
            (each a LRPGaussianLatentCodec)
"""

from __future__ import annotations

from compressai.latent_codecs._hyper_synthesis import DualHyperSynthesis
from compressai.latent_codecs.base import LatentCodec
from compressai.latent_codecs.channel_groups import ChannelGroupsLatentCodec
from compressai.latent_codecs.checkerboard import CheckerboardLatentCodec
from compressai.latent_codecs.entropy_bottleneck import EntropyBottleneckLatentCodec
from compressai.latent_codecs.gain import GainHyperLatentCodec, GainHyperpriorLatentCodec
from compressai.latent_codecs.gaussian_conditional import (
    GaussianConditionalLatentCodec,
    LRPGaussianLatentCodec,
)
from compressai.latent_codecs.hyper import HyperLatentCodec
from compressai.latent_codecs.hyperprior import HyperpriorLatentCodec
from compressai.latent_codecs.rasterscan import RasterScanLatentCodec

__all__ = [
    "LatentCodec",
    "ChannelGroupsLatentCodec",
    "CheckerboardLatentCodec",
    "DualHyperSynthesis",
    "EntropyBottleneckLatentCodec",
    "GainHyperLatentCodec",
    "GainHyperpriorLatentCodec",
    "GaussianConditionalLatentCodec",
    "HyperLatentCodec",
    "HyperpriorLatentCodec",
    "LRPGaussianLatentCodec",
    "RasterScanLatentCodec",
]
