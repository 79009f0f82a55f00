# SPDX-License-Identifier: BSD-3-Clause-Clear
"""MambaVC: transforms that scan feature maps, and the entropy model of TCM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from compressai.layers.attn import SWAtten
from compressai.layers.ssm import build_vss_backbone
from compressai.models._helpers.vss import (
    SMALL_VSS,
    attention_sizes,
    has_scans,
    vss_sizes,
)
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_slice_hyperprior,
    equal_slices,
)
from compressai.models.tcm import convert_upstream_tcm_state_dict
from compressai.registry import ModelEntry, register_entry, register_model

__all__ = ["MambaVC", "convert_upstream_mambavc_state_dict"]

_ATTENTION = "latent_codec.y.channel_context.y0.mean_support_transform"


@register_model("mambavc")
class MambaVC(ChannelSliceModel):
    """Selective scans in all transforms, and slices with attended support.

    ``-> C`` stands for a (transposed) convolution of stride 2 to C channels, ``n V`` for n
    :class:`~compressai.layers.ssm.VSSBlock`; with the default arguments::

        g_a                  -> 256, 2 V, -> 256, 2 V, -> 256, 9 V, -> 320
        g_s                  -> 256, 9 V, -> 256, 2 V, -> 256, 2 V, -> 3
        h_a                  -> 256, 2 V, -> 192
        h_mean_s, h_scale_s  -> 256, 2 V, -> 320

    Args:
        depths: blocks in each stage of the analysis, and in the hyper transforms.
        drop_path_rate: stochastic depth of the last block of the transforms, ascending from 0.
        N: half the width of the feature maps.
        M: channels of the latent.
        hyper_channels: channels of ``z``.
        num_slices: number of (equal) slices.
        max_support_slices: how many earlier slices a slice sees, the first ones; negative for all.
        window_size: side of the attention windows.
        support_head_dim: channels of an attention head.
        support_attention_dim: width of the attention to the support.
        ssm_d_state: states of each channel in a scan.
        ssm_ratio: channels of a scan over those of its block.
        ssm_conv: side of the depthwise kernels in front of scans.
        scan_backend: as in :func:`~compressai.layers.ssm.selective_scan`.
        kwargs: handed to :class:`~compressai.models.channel_slice.ChannelSliceModel`, such as
            ``use_cca``.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: not four ``depths``, or a negative one, ``support_head_dim`` that does not
            divide ``support_attention_dim``, or ``num_slices`` that does not divide ``M``.

    Source: Qin et al. 2024, "MambaVC: learned visual compression with selective state spaces".
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
        window_size: int = 8,
        support_head_dim: int = 16,
        support_attention_dim: int = 128,
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
        self.window_size = window_size
        self.support_head_dim = support_head_dim
        self.support_attention_dim = support_attention_dim
        self.ssm_d_state = ssm_d_state
        self.ssm_ratio = ssm_ratio
        self.ssm_conv = ssm_conv
        self.scan_backend = scan_backend

        block = {
            "d_state": ssm_d_state,
            "ssm_ratio": ssm_ratio,
            "d_conv": ssm_conv,
            "scan_backend": scan_backend,
        }
        nets = build_vss_backbone(self.depths, drop_path_rate, N, M, hyper_channels, **block)
        self.g_a = nets.g_a
        self.g_s = nets.g_s
        self.latent_codec = build_slice_hyperprior(
            z_channels=hyper_channels,
            h_a=nets.h_a,
            h_mean_s=nets.h_mean_s,
            h_scale_s=nets.h_scale_s,
            groups=equal_slices(M, num_slices),
            side_channels=M,
            widths=(224, 128),
            support_transform_factory=partial(
                SWAtten,
                head_dim=support_head_dim,
                window_size=window_size,
                drop_path=0.0,
                inter_dim=support_attention_dim,
            ),
            emit_mean_support="post",
            max_support_slices=max_support_slices,
        )
        self.add_auxiliary()

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_mambavc_state_dict`."""
        return convert_upstream_mambavc_state_dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        sizes = vss_sizes(state_dict, cls)
        window, head_dim, width = attention_sizes(state_dict, _ATTENTION, cls)
        return {
            **sizes,
            "window_size": window,
            "support_head_dim": head_dim,
            "support_attention_dim": width,
            **cls.infer_slices(state_dict, sizes["M"]),
        }


def convert_upstream_mambavc_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the MambaVC authors' program under the names of :class:`MambaVC`.

    Its entropy model is that of TCM, and its transforms have the names that they have here: this is
    :func:`~compressai.models.tcm.convert_upstream_tcm_state_dict`.

    Args:
        state_dict: names to tensors; parts of a model will do. Names of this library pass.

    Returns:
        New dict.
    """
    return convert_upstream_tcm_state_dict(state_dict)


register_entry(
    ModelEntry(
        name="mambavc",
        model=MambaVC,
        summary="Selective scans as transforms, attended support",
        paper="Qin et al. 2024, MambaVC: Learned visual compression with selective state spaces",
        sizes={1: {}},
        losses={"mse": {1: {"lmbda": 0.05}}},
        extra="attn",
        small=SMALL_VSS,
        source="mambavc",
        detect=lambda weights: has_scans(weights) and not any("context_vss" in k for k in weights),
    )
)
