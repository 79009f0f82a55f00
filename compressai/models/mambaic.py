# SPDX-License-Identifier: BSD-3-Clause-Clear
"""MambaIC: the transforms of MambaVC, and slices in two passes with scans in their contexts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs import (
    DualHyperSynthesis,
    EntropyBottleneckLatentCodec,
    HyperpriorLatentCodec,
    MambaICLatentCodec,
)
from compressai.latent_codecs._slice_helpers import (
    infer_max_support_slices,
    infer_num_slices,
    lrp_support_channels,
    make_entropy_transform,
    slice_support_channels,
)
from compressai.layers import CheckerboardMaskedConv2d
from compressai.layers.attn import SWAtten
from compressai.layers.ssm import build_vss_backbone, build_vss_context_stage
from compressai.layers.stochastic_depth import drop_path_rates
from compressai.models._helpers.sizes import consecutive
from compressai.models._helpers.upstream import HYPER_RULES, STACK, strip_wrapper
from compressai.models._helpers.vss import (
    SMALL_VSS,
    attention_sizes,
    has_scans,
    vss_sizes,
)
from compressai.models.channel_slice import ChannelSliceModel, equal_slices
from compressai.models.tcm import ATTENTION_RULES, convert_attention
from compressai.registry import ModelEntry, register_entry, register_model

__all__ = ["MambaIC", "convert_upstream_mambaic_state_dict"]


@register_model("mambaic")
class MambaIC(ChannelSliceModel):
    """Selective scans in all transforms and in the contexts of slices.

    Transforms as in :class:`~compressai.models.mambavc.MambaVC`; the networks of slice k, whose
    width is s and whose support has c channels::

        mean_support_transforms, scale_support_transforms  SWAtten, c
        cc_mean_transforms, cc_scale_transforms            c, 224, 128, s   3x3 and GELU
        context_prediction                                 s, 2 s           5x5, masked
        context_vss                                        2 M + 4 s (slice 0: 2 M + 2 s), 2 V, 2 s
        context_mean_transforms, context_scale_transforms  SWAtten, s
        lrp_transforms                                     c + s, 224, 128, s

    Args:
        depths: blocks in each stage of the analysis, and in the hyper transforms.
        drop_path_rate: stochastic depth of the last block of the transforms and of the contexts,
            ascending from 0.
        N: half the width of the feature maps.
        M: channels of the latent.
        hyper_channels: channels of ``z``.
        num_slices: number of (equal) slices.
        max_support_slices: how many earlier slices a slice sees, the first ones; negative for all.
        context_depths: blocks in the context of each slice; ``None`` takes two.
        window_size: side of the attention windows.
        support_head_dim, context_head_dim: channels of an attention head.
        support_attention_dim, context_attention_dim: width of the attention.
        ssm_d_state: states of each channel in a scan.
        ssm_ratio: channels of a scan over those of its block.
        ssm_conv: side of the depthwise kernels in front of scans.
        scan_backend: as in :func:`~compressai.layers.ssm.selective_scan`.
        kwargs: handed to :class:`~compressai.models.channel_slice.ChannelSliceModel`, such as
            ``use_cca``.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: not four ``depths``, or not one of ``context_depths`` a slice, a negative one, a
            ``head_dim`` that does not divide the width of its attention, or ``num_slices`` that
            does not divide ``M``.

    Source: Zeng et al. 2025, "MambaIC: state space models for high-performance learned image
    compression".
    """

    def __init__(
        self,
        depths: Sequence[int] = (2, 2, 9, 2),
        drop_path_rate: float = 0.1,
        N: int = 128,
        M: int = 320,
        hyper_channels: int = 192,
        num_slices: int = 5,
        max_support_slices: int = 5,
        context_depths: Sequence[int] | None = None,
        window_size: int = 8,
        support_head_dim: int = 16,
        context_head_dim: int = 16,
        support_attention_dim: int = 128,
        context_attention_dim: int = 128,
        ssm_d_state: int = 16,
        ssm_ratio: float = 2.0,
        ssm_conv: int = 3,
        scan_backend: str = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.depths = tuple(depths)
        self.N = N
        self.M = M
        self.hyper_channels = hyper_channels
        self.num_slices = num_slices
        self.max_support_slices = max_support_slices
        self.context_depths = tuple((2,) * num_slices if context_depths is None else context_depths)
        self.window_size = window_size
        self.support_head_dim = support_head_dim
        self.context_head_dim = context_head_dim
        self.support_attention_dim = support_attention_dim
        self.context_attention_dim = context_attention_dim
        self.ssm_d_state = ssm_d_state
        self.ssm_ratio = ssm_ratio
        self.ssm_conv = ssm_conv
        self.scan_backend = scan_backend
        s = equal_slices(M, num_slices)[0]
        if len(self.context_depths) != num_slices or min(self.context_depths) < 0:
            raise ValueError(
                f"context_depths must have num_slices={num_slices} entries, none negative, got "
                f"{self.context_depths}"
            )

        block = {
            "d_state": ssm_d_state,
            "ssm_ratio": ssm_ratio,
            "d_conv": ssm_conv,
            "scan_backend": scan_backend,
        }
        rates = drop_path_rates(drop_path_rate, self.context_depths)
        support = [slice_support_channels(M, s, k, max_support_slices) for k in range(num_slices)]
        lrp = [lrp_support_channels(M, s, k, max_support_slices) for k in range(num_slices)]

        def each(make: Any) -> list[nn.Module]:
            return [make(k) for k in range(num_slices)]

        def support_transform(k: int) -> nn.Module:
            width, head_dim = support_attention_dim, support_head_dim
            return SWAtten(support[k], support[k], head_dim, window_size, 0.0, width)

        def predictor(k: int) -> nn.Module:
            return make_entropy_transform(support[k], s, widths=(224, 128))

        def masked_convolution(k: int) -> nn.Module:
            return CheckerboardMaskedConv2d(s, 2 * s, kernel_size=5, padding=2)

        def context(k: int) -> nn.Module:
            width = 2 * M + (4 * s if k else 2 * s)
            return build_vss_context_stage(rates[k], width, 2 * s, **block)

        def context_transform(k: int) -> nn.Module:
            return SWAtten(s, s, context_head_dim, window_size, 0.0, context_attention_dim)

        def residual_predictor(k: int) -> nn.Module:
            return make_entropy_transform(lrp[k], s, widths=(224, 128))

        nets = build_vss_backbone(self.depths, drop_path_rate, N, M, hyper_channels, **block)
        self.g_a = nets.g_a
        self.g_s = nets.g_s
        self.latent_codec = HyperpriorLatentCodec(
            {
                "y": MambaICLatentCodec(
                    mean_support_transforms=each(support_transform),
                    scale_support_transforms=each(support_transform),
                    cc_mean_transforms=each(predictor),
                    cc_scale_transforms=each(predictor),
                    context_prediction=each(masked_convolution),
                    context_vss=each(context),
                    context_mean_transforms=each(context_transform),
                    context_scale_transforms=each(context_transform),
                    lrp_transforms=each(residual_predictor),
                    num_slices=num_slices,
                    max_support_slices=max_support_slices,
                ),
                "z": EntropyBottleneckLatentCodec(
                    EntropyBottleneck(hyper_channels), quantizer="ste"
                ),
            },
            h_a=nets.h_a,
            h_s=DualHyperSynthesis(nets.h_mean_s, nets.h_scale_s),
        )
        self.add_auxiliary(side_channels=M)

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_mambaic_state_dict`."""
        return convert_upstream_mambaic_state_dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        sizes = vss_sizes(state_dict, cls)
        heads = {"prefix": f"{STACK}.cc_mean_transforms.", "suffix": ".0.weight"}
        num_slices = infer_num_slices(state_dict, **heads)
        if num_slices == 0:
            raise ValueError(f"this state dict is not of {cls.__name__}: it has no slices")
        window, support_head_dim, support_width = attention_sizes(
            state_dict, f"{STACK}.mean_support_transforms.0", cls
        )
        _, context_head_dim, context_width = attention_sizes(
            state_dict, f"{STACK}.context_mean_transforms.0", cls
        )
        return {
            **sizes,
            "num_slices": num_slices,
            "max_support_slices": infer_max_support_slices(
                state_dict, sizes["M"], num_slices, **heads
            ),
            "context_depths": [
                consecutive(state_dict, f"{STACK}.context_vss.{k}.{{}}.norm.weight")
                for k in range(num_slices)
            ],
            "window_size": window,
            "support_head_dim": support_head_dim,
            "context_head_dim": context_head_dim,
            "support_attention_dim": support_width,
            "context_attention_dim": context_width,
            **cls.infer_auxiliary(state_dict),
        }


# -- weights of the authors' program ------------------------------------------------------------

_LISTS = (
    *("mean_support_transforms", "scale_support_transforms", "cc_mean_transforms"),
    *("cc_scale_transforms", "context_prediction", "context_vss", "context_mean_transforms"),
    *("context_scale_transforms", "lrp_transforms", "gaussian_conditional"),
)
_RULES = (
    # The authors wrap each attention in a Sequential of one.
    (r"^atten_(mean|scale)\.(\d+)\.0\.", r"\1_support_transforms.\2."),
    (r"^anchor_atten_(mean|scale)\.(\d+)\.0\.", r"context_\1_transforms.\2."),
    # Others keep the lists one level higher.
    (rf"^(?:latent_codec\.)?({'|'.join(_LISTS)})\.", rf"{STACK}.\1."),
    *ATTENTION_RULES,
    *HYPER_RULES,
)
_SECOND_NAME = re.compile(r"^context_vss_(\d+)\.(.*)")


def convert_upstream_mambaic_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the MambaIC authors' program under the names of :class:`MambaIC`.

    The authors' weights have each context twice, as ``context_vss.0`` and ``context_vss_1``; one of
    the two will do. The attention is fitted as in
    :func:`~compressai.models.tcm.convert_upstream_tcm_state_dict`. Weights whose hyperprior is
    outside of ``latent_codec``, and the lists of the slices directly in it, are understood, too.

    Args:
        state_dict: names to tensors; parts of a model will do. Names of this library pass.

    Returns:
        New dict.
    """
    weights: dict[str, Tensor] = {}
    stripped = strip_wrapper(state_dict)
    for key, value in stripped.items():
        second = _SECOND_NAME.match(key)
        if second is None:
            weights[key] = value
        else:
            weights.setdefault(f"context_vss.{int(second[1]) - 1}.{second[2]}", value)
    return convert_attention(weights, _RULES)


register_entry(
    ModelEntry(
        name="mambaic",
        model=MambaIC,
        summary="Selective scans as transforms and in the contexts of two passes a slice",
        paper="Zeng et al. 2025, MambaIC: State space models for high-performance learned image "
        "compression",
        sizes={1: {}},
        losses={"mse": {1: {"lmbda": 0.025}}},
        extra="attn",
        small={
            **SMALL_VSS,
            "context_depths": (1, 2, 0),
            "context_head_dim": 8,
            "context_attention_dim": 16,
        },
        source="mambaic",
        detect=lambda weights: has_scans(weights) and any("context_vss" in k for k in weights),
    )
)
