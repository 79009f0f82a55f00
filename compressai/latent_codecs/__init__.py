# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The entropy stack: codecs of latents, as containers that nest.

A codec turns a latent into strings and back, and gives likelihoods for training. Leaves code one
tensor (:class:`EntropyBottleneckLatentCodec`, :class:`GaussianConditionalLatentCodec`); the others
hold codecs and decide in which order and in which context they are used. State-dict keys read like
the nesting. This is the stack of a channel-slice model, such as STF, TCM or CCA::

    HyperpriorLatentCodec                       latent_codec.
    ├── h_a                                     latent_codec.h_a.*
    ├── z: EntropyBottleneckLatentCodec         latent_codec.z.entropy_bottleneck.*
    ├── h_s: DualHyperSynthesis                 latent_codec.h_s.h_mean_s.*, ...h_scale_s.*
    └── y: ChannelGroupsLatentCodec             latent_codec.y.
        ├── channel_context: y0, y1, ...        latent_codec.y.channel_context.y0.*
        └── latent_codec: y0, y1, ...           latent_codec.y.latent_codec.y0.*
            (each a LRPGaussianLatentCodec)

and this is how values flow through it. The latent is cut into slices of channels; slice ``k`` is
coded given side information and the slices that were reconstructed before it (its support)::

    y ──h_a──> z ──bottleneck──> z_hat ──h_s──> [means | scales]
                                                       │
    y_hat_0 ... y_hat_(k-1) ──first m, or filter──> support
                                                       │
                                     channel_context y{k} (a head)
                                                       │
                                     scale_k, mean_k, mean support
                                                       │
    y_k ──round(y_k - mean_k), coded with scale_k──> q_k = ... + mean_k
                                                       │
                 y_hat_k = q_k + 0.5 tanh(lrp_transform([mean support | q_k]))

``channel_context`` networks are no codecs; :mod:`compressai.models.channel_slice` has factories for
them, for the leaves, and for the whole stack. With the defaults of
:class:`ChannelGroupsLatentCodec` the same container is that of ELIC: side information then bypasses
the contexts, and leaves are :class:`CheckerboardLatentCodec`.
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
from compressai.latent_codecs.hierarchical import (
    HierarchicalProgressiveLatentCodec,
    ProgressivePrior,
)
from compressai.latent_codecs.hyper import HyperLatentCodec
from compressai.latent_codecs.hyperprior import HyperpriorLatentCodec
from compressai.latent_codecs.learned_scale import LearnedScaleLatentCodec
from compressai.latent_codecs.mambaic import MambaICLatentCodec
from compressai.latent_codecs.multi_context_checkerboard import (
    MultiContextCheckerboardLatentCodec,
)
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
    "HierarchicalProgressiveLatentCodec",
    "HyperLatentCodec",
    "HyperpriorLatentCodec",
    "LRPGaussianLatentCodec",
    "MambaICLatentCodec",
    "MultiContextCheckerboardLatentCodec",
    "LearnedScaleLatentCodec",
    "ProgressivePrior",
    "RasterScanLatentCodec",
]
