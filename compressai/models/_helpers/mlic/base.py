# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What the models of the MLIC family share: architecture, and weights of the authors' program."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from math import isqrt
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneck
from compressai.latent_codecs import (
    EntropyBottleneckLatentCodec,
    HyperpriorLatentCodec,
    MultiContextCheckerboardLatentCodec,
)
from compressai.models._helpers.mlic import (
    AnalysisTransform,
    ChannelContext,
    HyperAnalysis,
    HyperSynthesis,
    LatentResidualPrediction,
    SynthesisTransform,
)
from compressai.models._helpers.mlic.context import LocalContext
from compressai.models._helpers.mlic.utils import PARITY
from compressai.models._helpers.multi_context_slice import (
    OrderedHead,
    SliceContext,
    correction_input,
)
from compressai.models._helpers.sizes import numbers_after
from compressai.models._helpers.upstream import rename, replicate, strip_wrapper
from compressai.models._state_dict import entry_size
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_channel_slice_codec,
    equal_slices,
)

__all__ = ["LEAF", "BaseMLIC", "convert_upstream_mlicpp_state_dict"]

LEAF = "latent_codec.y.latent_codec.y"
_CONTEXT = "latent_codec.y.channel_context.y"


class BaseMLIC(ChannelSliceModel):
    """The architecture that the models share.

    ===================  ===========================================================================
    part                 networks, for slice ``k`` of width ``c``
    ===================  ===========================================================================
    transforms           residual blocks with GELU and GDN, 4 halvings
    hyper transforms     3x3 convolutions with GELU, 2 halvings; ``[scales | means]``
    channel context      ``P`` (earlier slices) to ``C``, 4c channels
    inter-slice context  ``P`` to ``I``, 2c channels: attention over all positions
    spatial context      anchors to 2c channels
    intra-slice context  slice ``k - 1`` and anchors to 2c channels: attention over all positions
    heads                pointwise, to scales and means
    corrections          residual prediction behind each pass
    ===================  ===========================================================================

    Args:
        N: width of the transforms and of ``z``.
        M: width of ``y``.
        slice_num: number of slices, equal ones.
        context_window: side of the windows of the spatial context.
        local_kernel, local_layers: of MLIC's spatial context.
        legacy: the networks of the checkpoints of 2023.
        kwargs: arguments of :class:`ChannelSliceModel`.
    """

    _side_order = ("scales", "means")

    def __init__(
        self,
        *,
        N: int,
        M: int,
        slice_num: int,
        context_window: int = 5,
        local_kernel: int = 5,
        local_layers: int = 3,
        legacy: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if slice_num <= 0:
            raise ValueError(f"slice_num must be at least 1, got {slice_num}")
        if M % slice_num:
            raise ValueError(f"M must be divisible by slice_num, got M={M}, slice_num={slice_num}")
        if context_window < 1 or context_window % 2 == 0:
            raise ValueError(f"context_window must be odd and positive, got {context_window}")
        self.N, self.M, self.slice_num = N, M, slice_num
        self.slice_ch = M // slice_num
        self.context_window = context_window
        self.local_kernel, self.local_layers = local_kernel, local_layers
        self.legacy = bool(legacy)
        self.g_a, self.g_s = self._transforms()
        self.latent_codec = HyperpriorLatentCodec(
            {
                "y": build_channel_slice_codec(
                    groups=equal_slices(M, slice_num),
                    leaf_factory=self._leaf,
                    channel_context_factory=self._slice_context,
                    side_in_context=True,
                    side_channels=2 * M,
                ),
                "z": EntropyBottleneckLatentCodec(EntropyBottleneck(N), quantizer="ste"),
            },
            h_a=HyperAnalysis(N, M),
            h_s=HyperSynthesis(N, M),
        )
        self.add_auxiliary()

    # -- what models differ in --------------------------------------------------------------------

    def _transforms(self) -> tuple[nn.Module, nn.Module]:
        return (AnalysisTransform(self.N, self.M), SynthesisTransform(self.N, self.M, self.legacy))

    def _inter(self, in_dim: int, out_dim: int) -> nn.Module | None:
        """Context of all positions of earlier slices."""
        raise NotImplementedError

    def _intra(self, channels: int) -> nn.Module:
        """Context of all positions of the slice before, with :class:`PreviousSlice`."""
        raise NotImplementedError

    def _spatial(self, channels: int) -> nn.Module:
        """Context of the anchors around."""
        return LocalContext(channels, self.context_window)

    def _anchor_context(self, k: int, channels: int) -> nn.Module | None:
        """Context of the anchors of slice ``k``, in the form of a spatial one."""
        return None

    def _selection(self, channels: int, side_channels: int) -> nn.Module | None:
        """What tells which values of a slice are coded; ``None`` if all are."""
        return None

    # -- slices -----------------------------------------------------------------------------------

    def _slice_context(self, k: int, channels: int, _: int) -> SliceContext:
        if k == 0:
            return SliceContext(self.M)
        support = k * channels
        return SliceContext(
            self.M, ChannelContext(support, channels), self._inter(support, 2 * channels)
        )

    def _leaf(self, k: int, channels: int) -> MultiContextCheckerboardLatentCodec:
        intra = None
        if k:
            intra = self._intra(channels)
            intra.first, intra.last = 2 * self.M + (k - 1) * channels, 2 * self.M + k * channels
        anchor_context = self._anchor_context(k, channels)
        support = self.M + k * channels
        corrections = [
            LatentResidualPrediction(support + channels, channels, self.legacy) for _ in range(2)
        ]
        return MultiContextCheckerboardLatentCodec(
            entropy_parameters_anchor=self._head(
                k, channels, spatial=anchor_context is not None, intra=False
            ),
            entropy_parameters_nonanchor=self._head(k, channels, spatial=True, intra=k > 0),
            spatial_context_anchor=anchor_context,
            selective_predictor=self._selection(channels, self._side_width(k, channels)),
            spatial_context_nonanchor=self._spatial(channels),
            intra_channel_context_nonanchor=intra,
            lrp_anchor=corrections[0],
            lrp_nonanchor=corrections[1],
            lrp_input_builder=partial(correction_input, first=self.M, last=self.M + support),
            lrp_activation=None,
            lrp_scale=1.0,
            anchor_parity=PARITY,
        )

    def _head(self, k: int, channels: int, *, spatial: bool, intra: bool) -> OrderedHead:
        """A head: gets ``[spatial | H | P | I | C | intra]``, takes all but ``P``."""
        has_inter = k > 0 and self._has_inter
        widths = {
            "spatial": 2 * channels * spatial,
            "H": 2 * self.M,
            "P": k * channels,
            "I": 2 * channels * has_inter,
            "C": 4 * channels * (k > 0),
            "intra": 2 * channels * intra,
        }
        ends, position = {}, 0
        for name, width in widths.items():
            ends[name] = (position, position := position + width)
        order = ("spatial", "intra", "I", "C", "H")
        return OrderedHead([ends[name] for name in order if widths[name]], 2 * channels)

    def _side_width(self, k: int, channels: int) -> int:
        """Width of a slice's side information ``[H | P | I | C]``."""
        contexts = (4 + 2 * self._has_inter) * channels if k else 0
        return 2 * self.M + k * channels + contexts

    @property
    def _has_inter(self) -> bool:
        return True

    # -- loading ----------------------------------------------------------------------------------

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_mlicpp_state_dict`."""
        return convert_upstream_mlicpp_state_dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "N": entry_size(state_dict, "g_a.analysis_transform.0.conv1.weight", 0, cls),
            "M": entry_size(state_dict, "g_a.analysis_transform.6.weight", 0, cls),
            "slice_num": 1 + max(numbers_after(state_dict, LEAF), default=9),
            **cls.infer_auxiliary(state_dict),
        }

    @staticmethod
    def _infer_window(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        local = f"{LEAF}0.spatial_context_nonanchor"
        index = state_dict.get(f"{local}.relative_position_index")
        if index is not None:
            return {"context_window": isqrt(index.size(0))}
        table = state_dict.get(f"{local}.relative_position_table")
        return {} if table is None else {"context_window": (isqrt(table.size(0)) + 1) // 2}


# -- weights of the authors' program ------------------------------------------------------------

_LEAF_PARTS = "entropy_parameters_anchor|entropy_parameters_nonanchor|lrp_anchor|lrp_nonanchor"
_RULES = (
    (r"^(h_a\.reduction\.|h_s\.increase\.)", r"latent_codec.\1"),
    (r"^entropy_bottleneck\.", "latent_codec.z.entropy_bottleneck."),
    (r"^local_context\.(\d+)\.", rf"{LEAF}\1.spatial_context_nonanchor."),
    (r"^global_intra_context\.(\d+)\.", rf"{LEAF}\1.intra_channel_context_nonanchor."),
    (rf"^({_LEAF_PARTS})\.(\d+)\.", rf"{LEAF}\2.\1."),
    (rf"^({LEAF}\d+)\.gaussian_conditional\.", r"\1.y.gaussian_conditional."),
    (r"^channel_context\.(\d+)\.", rf"{_CONTEXT}\1.channel_part."),
    (r"^global_inter_context\.(\d+)\.", rf"{_CONTEXT}\1.global_inter_part."),
)
_COUNTED = "entropy_parameters_anchor"
_ROOTS = ("global_inter_context.", "entropy_parameters_anchor.")


def _is_upstream_mlicpp_state_dict(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the authors' program."""
    return any(key.startswith(_ROOTS) for key in strip_wrapper(state_dict))


def convert_upstream_mlicpp_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the MLIC++ authors' program under the names of :class:`MLICPlusPlus`.

    Args:
        state_dict: names to tensors, of either generation of the authors' program; parts of a
            model will do. Names of this library pass.

    Returns:
        New dict.
    """
    state_dict = strip_wrapper(state_dict)
    # A fork of upstream had its entropy model in a codec without a name of its own.
    inner = rf"^latent_codec\.(?={_LEAF_PARTS}|local_context\.|global_int|channel_context\.\d)"
    state_dict = {re.sub(inner, "", key): value for key, value in state_dict.items()}
    return rename(replicate(state_dict, _COUNTED), _RULES)
