# SPDX-License-Identifier: BSD-3-Clause-Clear
"""MLIC, MLIC+, MLIC++ and MLICv2: slices that refer to channels, neighbours and far positions.

Each slice is coded in two passes over a checkerboard, and every pass sees contexts of several
kinds. What the models have in common is the table of :class:`_BaseMLIC`; they differ in how far
positions are attended to, and MLICv2 in its transforms, too.
"""

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
    PARITY,
    AnalysisTransform,
    ChannelContext,
    HyperAnalysis,
    HyperSynthesis,
    LatentResidualPrediction,
    LinearGlobalInterContext,
    LinearGlobalIntraContext,
    LocalContext,
    StackedCheckerboardConv,
    SynthesisTransform,
    VanillaGlobalInterContext,
    VanillaGlobalIntraContext,
    head_count,
)
from compressai.models._helpers.mlicv2 import (
    GSCModule,
    HGCPModule,
    RefinedContext,
    STMAnalysis,
    STMSynthesis,
)
from compressai.models._helpers.multi_context_slice import (
    OrderedHead,
    PreviousSlice,
    SliceContext,
    correction_input,
)
from compressai.models._helpers.sizes import numbers_after
from compressai.models._helpers.upstream import has_names, rename, replicate, strip_wrapper
from compressai.models._state_dict import entry_size
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_channel_slice_codec,
    equal_slices,
)
from compressai.registry import (
    ModelEntry,
    at_qualities,
    known_lambdas,
    register_entry,
    register_model,
)

__all__ = [
    "MLIC",
    "MLICPlus",
    "MLICPlusPlus",
    "MLICv2",
    "convert_upstream_mlicpp_state_dict",
]

_LEAF = "latent_codec.y.latent_codec.y"
_CONTEXT = "latent_codec.y.channel_context.y"


class _LinearIntra(PreviousSlice, LinearGlobalIntraContext):
    """Linear attention within a slice."""


class _VanillaIntra(PreviousSlice, VanillaGlobalIntraContext):
    """Quadratic attention within a slice."""


class _RefinedIntra(PreviousSlice, RefinedContext):
    """Refined linear attention within a slice."""


class _FirstAnchors(nn.Module):
    """:class:`HGCPModule` as a spatial context of anchors."""

    requires_side_params = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.hgcp = HGCPModule(*args, **kwargs)

    def forward(self, y_hat: Tensor, *, side_params: Tensor) -> Tensor:
        return self.hgcp(y_hat, side_params=side_params)


class _BaseMLIC(ChannelSliceModel):
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
        return (
            AnalysisTransform(self.N, self.M),
            SynthesisTransform(self.N, self.M, self.legacy),
        )

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
            "slice_num": 1 + max(numbers_after(state_dict, _LEAF), default=9),
            **cls.infer_auxiliary(state_dict),
        }

    @staticmethod
    def _infer_window(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        local = f"{_LEAF}0.spatial_context_nonanchor"
        index = state_dict.get(f"{local}.relative_position_index")
        if index is not None:
            return {"context_window": isqrt(index.size(0))}
        table = state_dict.get(f"{local}.relative_position_table")
        return {} if table is None else {"context_window": (isqrt(table.size(0)) + 1) // 2}


@register_model("mlicpp")
class MLICPlusPlus(_BaseMLIC):
    """MLIC++: contexts of far positions by attention whose cost is linear in the positions.

    Args:
        N: width of the transforms and of ``z``.
        M: width of ``y``.
        slice_num: number of slices, equal ones.
        context_window: side of the windows of the spatial context.
        legacy: the networks of the authors' checkpoints of 2023, which are all but one that there
            are: a first block of the synthesis that reduces the width, and residual prediction
            with four convolutions.
        kwargs: arguments of :class:`~compressai.models.channel_slice.ChannelSliceModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: no slices, ``slice_num`` that does not divide ``M``, or an even
            ``context_window``.

    Source: Jiang et al. 2023, "MLIC++: linear complexity multi-reference entropy modeling for
    learned image compression".
    """

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        slice_num: int = 10,
        context_window: int = 5,
        *,
        legacy: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            N=N, M=M, slice_num=slice_num, context_window=context_window, legacy=legacy, **kwargs
        )

    def _inter(self, in_dim: int, out_dim: int) -> nn.Module:
        return LinearGlobalInterContext(in_dim, out_dim, head_count(in_dim))

    def _intra(self, channels: int) -> nn.Module:
        return _LinearIntra(channels)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            **super().infer_arguments(state_dict),
            **cls._infer_window(state_dict),
            "legacy": cls._infer_generation(state_dict),
        }

    @staticmethod
    def _infer_generation(state_dict: Mapping[str, Tensor]) -> bool:
        """Whether weights are of the older one; ValueError if their parts disagree."""
        older = {"g_s.synthesis_transform.0": "g_s.synthesis_transform.0.skip.weight" in state_dict}
        for number in numbers_after(state_dict, _LEAF):
            for name in ("lrp_anchor", "lrp_nonanchor"):
                part = f"{_LEAF}{number}.{name}"
                if f"{part}.lrp_transform.0.weight" not in state_dict:
                    continue  # Loading will tell.
                older[part] = f"{part}.lrp_transform.6.weight" in state_dict
        if len(set(older.values())) > 1:
            old, new = ([k for k, v in older.items() if v is kind] for kind in (True, False))
            raise ValueError(
                "these weights are a mixture of both generations of MLIC++: of 2023 are "
                f"{', '.join(old[:2])}, of 2024 {', '.join(new[:2])}; all must be of one"
            )
        return next(iter(older.values()))


@register_model("mlicplus")
class MLICPlus(_BaseMLIC):
    """MLIC+: as :class:`MLICPlusPlus`, with attention of every position to every position.

    Args:
        N, M, slice_num, context_window, kwargs: as there.

    Shape, Raises: as there.

    Source: Jiang et al. 2023, "MLIC: multi-reference entropy model for learned image compression".
    No program or weights of the authors exist.
    """

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        slice_num: int = 10,
        context_window: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(N=N, M=M, slice_num=slice_num, context_window=context_window, **kwargs)

    def _inter(self, in_dim: int, out_dim: int) -> nn.Module:
        return VanillaGlobalInterContext(in_dim, out_dim, head_count(in_dim))

    def _intra(self, channels: int) -> nn.Module:
        return _VanillaIntra(channels)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        return {**super().infer_arguments(state_dict), **cls._infer_window(state_dict)}


@register_model("mlic")
class MLIC(_BaseMLIC):
    """MLIC: convolutions as spatial context, and no attention between slices.

    Args:
        N: width of the transforms and of ``z``.
        M: width of ``y``.
        slice_num: number of slices, equal ones.
        local_kernel: side of the kernels of the spatial context.
        local_layers: number of its convolutions.
        kwargs: arguments of :class:`~compressai.models.channel_slice.ChannelSliceModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: no slices, ``slice_num`` that does not divide ``M``, an even ``local_kernel``,
            or no layers.

    Source: Jiang et al. 2023, "MLIC: multi-reference entropy model for learned image compression".
    No program or weights of the authors exist.
    """

    def __init__(
        self,
        N: int = 192,
        M: int = 192,
        slice_num: int = 6,
        local_kernel: int = 5,
        local_layers: int = 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            N=N,
            M=M,
            slice_num=slice_num,
            local_kernel=local_kernel,
            local_layers=local_layers,
            **kwargs,
        )

    @property
    def _has_inter(self) -> bool:
        return False

    def _inter(self, in_dim: int, out_dim: int) -> None:
        return None

    def _intra(self, channels: int) -> nn.Module:
        return _VanillaIntra(channels)

    def _spatial(self, channels: int) -> nn.Module:
        return StackedCheckerboardConv(channels, self.local_kernel, self.local_layers)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        context = f"{_LEAF}0.spatial_context_nonanchor.context."
        return {
            **super().infer_arguments(state_dict),
            "local_kernel": entry_size(state_dict, f"{context}0.weight", -1, cls),
            "local_layers": len(numbers_after(state_dict, context)),
        }


@register_model("mlicv2")
class MLICv2(_BaseMLIC):
    """MLICv2: as :class:`MLICPlusPlus`, with token mixing, refined contexts, and skipping.

    Residual blocks of the transforms become token mixing. Contexts of far positions are rotated by
    position, and their channels reweighted. The first anchors get a context from the hyperprior.
    Values that a network finds not worth coding are left to their means. In synchronised coding
    they are coded, too, since what the network finds is not the same on all machines.

    Args:
        N, M, slice_num, context_window, kwargs: as there.

    Shape, Raises: as there.

    Source: Jiang et al. 2025, "MLICv2: enhanced multi-reference entropy modeling for learned image
    compression". No program or weights of the authors exist.
    """

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        slice_num: int = 10,
        context_window: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(N=N, M=M, slice_num=slice_num, context_window=context_window, **kwargs)

    def _transforms(self) -> tuple[nn.Module, nn.Module]:
        return STMAnalysis(self.N, self.M), STMSynthesis(self.N, self.M)

    def _inter(self, in_dim: int, out_dim: int) -> nn.Module:
        context = LinearGlobalInterContext(in_dim, out_dim, head_count(in_dim))
        return RefinedContext(context, out_dim)

    def _intra(self, channels: int) -> nn.Module:
        return _RefinedIntra(LinearGlobalIntraContext(channels), 2 * channels)

    def _anchor_context(self, k: int, channels: int) -> nn.Module | None:
        if k:
            return None
        return _FirstAnchors(self.M, channels, num_heads=head_count(channels))

    def _selection(self, channels: int, side_channels: int) -> nn.Module:
        return GSCModule(channels, side_channels)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        return {**super().infer_arguments(state_dict), **cls._infer_window(state_dict)}


# -- weights of the authors' program ------------------------------------------------------------

_LEAF_PARTS = "entropy_parameters_anchor|entropy_parameters_nonanchor|lrp_anchor|lrp_nonanchor"
_RULES = (
    (r"^(h_a\.reduction\.|h_s\.increase\.)", r"latent_codec.\1"),
    (r"^entropy_bottleneck\.", "latent_codec.z.entropy_bottleneck."),
    (r"^local_context\.(\d+)\.", rf"{_LEAF}\1.spatial_context_nonanchor."),
    (r"^global_intra_context\.(\d+)\.", rf"{_LEAF}\1.intra_channel_context_nonanchor."),
    (rf"^({_LEAF_PARTS})\.(\d+)\.", rf"{_LEAF}\2.\1."),
    (rf"^({_LEAF}\d+)\.gaussian_conditional\.", r"\1.y.gaussian_conditional."),
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


# -- rows --------------------------------------------------------------------------------------

_SMALL = {"N": 8, "M": 16, "slice_num": 4}
_PAPER = "Jiang et al. 2023, MLIC: Multi-reference entropy model for learned image compression"


def _is_mlic(weights: Mapping[str, Tensor]) -> bool:
    names = ("entropy_parameters_anchor.0.", f"{_LEAF}0.entropy_parameters_anchor.")
    return any(has_names(weights, name) for name in names)


def _has_inter(weights: Mapping[str, Tensor]) -> bool:
    return any("global_inter_" in key for key in weights)


register_entry(
    ModelEntry(
        name="mlic",
        model=MLIC,
        summary="Slices that refer to channels, neighbours and the slice before",
        paper=_PAPER,
        sizes=at_qualities((6, {})),
        small={**_SMALL, "local_kernel": 3, "local_layers": 2},
        source="mlic",
        detect=lambda weights: _is_mlic(weights) and not _has_inter(weights),
    )
)
register_entry(
    ModelEntry(
        name="mlicplus",
        model=MLICPlus,
        summary="MLIC+: slices that refer to all positions of earlier slices, too",
        paper=_PAPER,
        sizes=at_qualities((6, {})),
        small={**_SMALL, "context_window": 3},
        # Its networks have the names and shapes of those of MLIC++.
        source="mlicplus",
    )
)
register_entry(
    ModelEntry(
        name="mlicpp",
        model=MLICPlusPlus,
        summary="MLIC++: the same with attention of linear cost",
        paper="Jiang et al. 2023, MLIC++: Linear complexity multi-reference entropy modeling for "
        "learned image compression",
        sizes=at_qualities((6, {})),
        losses=known_lambdas(*range(1, 7)),
        small={**_SMALL, "context_window": 3},
        source="mlicpp",
        detect=lambda weights: (
            _is_mlic(weights)
            and _has_inter(weights)
            and not any(".selective_predictor." in key for key in weights)
        ),
    )
)
register_entry(
    ModelEntry(
        name="mlicv2",
        model=MLICv2,
        summary="MLICv2: MLIC++ with token mixing, refined contexts and skipping",
        paper="Jiang et al. 2025, MLICv2: Enhanced multi-reference entropy modeling for learned "
        "image compression",
        sizes=at_qualities((6, {})),
        small={**_SMALL, "context_window": 3},
        source="mlicv2",
        detect=lambda weights: (
            _is_mlic(weights) and any(".selective_predictor." in key for key in weights)
        ),
    )
)
