# SPDX-License-Identifier: BSD-3-Clause-Clear
"""MLIC, MLIC+, MLIC++ and MLICv2: slices that refer to channels, neighbours and far positions.

Each slice is coded in two passes over a checkerboard, and every pass sees contexts of several
kinds. What the models have in common is the table of :class:`BaseMLIC`; they differ in how far
positions are attended to, and MLICv2 in its transforms, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai._moved import old_names
from compressai.models._helpers.mlic import StackedCheckerboardConv
from compressai.models._helpers.mlic.base import LEAF, BaseMLIC, convert_upstream_mlicpp_state_dict
from compressai.models._helpers.mlic.base import (
    _is_upstream_mlicpp_state_dict as _is_upstream_mlicpp_state_dict,
)
from compressai.models._helpers.mlic.context import (
    LinearGlobalInterContext,
    LinearGlobalIntraContext,
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
from compressai.models._helpers.multi_context_slice import PreviousSlice
from compressai.models._helpers.sizes import numbers_after
from compressai.models._helpers.upstream import has_names
from compressai.models._state_dict import entry_size
from compressai.registry import (
    ModelEntry,
    at_qualities,
    known_lambdas,
    register_entry,
    register_model,
)

__all__ = ["MLIC", "MLICPlus", "MLICPlusPlus", "MLICv2", "convert_upstream_mlicpp_state_dict"]

__getattr__ = old_names(__name__)


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


@register_model("mlicpp")
class MLICPlusPlus(BaseMLIC):
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
        for number in numbers_after(state_dict, LEAF):
            for name in ("lrp_anchor", "lrp_nonanchor"):
                part = f"{LEAF}{number}.{name}"
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
class MLICPlus(BaseMLIC):
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
class MLIC(BaseMLIC):
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
        context = f"{LEAF}0.spatial_context_nonanchor.context."
        return {
            **super().infer_arguments(state_dict),
            "local_kernel": entry_size(state_dict, f"{context}0.weight", -1, cls),
            "local_layers": len(numbers_after(state_dict, context)),
        }


@register_model("mlicv2")
class MLICv2(BaseMLIC):
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


# -- rows --------------------------------------------------------------------------------------

_SMALL = {"N": 8, "M": 16, "slice_num": 4}
_PAPER = "Jiang et al. 2023, MLIC: Multi-reference entropy model for learned image compression"


def _is_mlic(weights: Mapping[str, Tensor]) -> bool:
    names = ("entropy_parameters_anchor.0.", f"{LEAF}0.entropy_parameters_anchor.")
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
