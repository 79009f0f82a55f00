# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What all channel-slice models share, and everything that a new one is built from.

A model of this family sets its transforms and its entropy stack (:func:`build_slice_hyperprior`
and the finer factories, re-exported here), and gets coding, loading of native and of authors'
weights, and the auxiliary branch of CCA from :class:`ChannelSliceModel`. Needs no optional package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compressai.latent_codecs import HyperpriorLatentCodec
from compressai.latent_codecs._slice_helpers import (
    infer_max_support_slices,
    infer_num_slices,
    make_entropy_transform,
)
from compressai.models._helpers.auxt import OLP
from compressai.models._helpers.auxt import aux_loss as ortho_loss
from compressai.models._helpers.channel_context import MeanScaleContextHead, build_mean_scale_head
from compressai.models._helpers.channel_slice import (
    build_channel_slice_codec,
    build_lrp_slice_codec,
    build_slice_hyperprior,
    equal_slices,
    proportional_slices,
)
from compressai.models._helpers.sizes import consecutive
from compressai.models._loading import ConvertedModel
from compressai.models.causal_context import CausalContextAdjustmentEntropyModel

__all__ = [
    "CausalContextAdjustmentEntropyModel",
    "ChannelSliceModel",
    "MeanScaleContextHead",
    "ORTHO_WEIGHT",
    "build_channel_slice_codec",
    "build_lrp_slice_codec",
    "build_mean_scale_head",
    "build_slice_hyperprior",
    "equal_slices",
    "make_entropy_transform",
    "proportional_slices",
]

ORTHO_WEIGHT = 0.1
"""Weight of :meth:`ChannelSliceModel.ortho_loss` in the loss (Li et al. 2025)."""

_AUXILIARY = "aux_entropy_model.inner_codec.channel_context.y0"


class ChannelSliceModel(ConvertedModel):
    """Base class of models whose latent is coded in slices of channels.

    A subclass sets ``g_a``, ``g_s`` (modules or methods) and ``latent_codec``, and calls
    :meth:`add_auxiliary` last. To load weights without being told sizes it overrides
    :meth:`infer_arguments`; to load weights in the layout of its authors, :meth:`convert`.

    Args:
        use_cca: add the auxiliary entropy model of CCA; :meth:`forward` then gives
            ``"aux_likelihoods"`` too, for
            :class:`~compressai.losses.cca.CCARateDistortionLoss`.
        cca_hidden_channels: width of the auxiliary model's support transforms.
        cca_num_layers: NAF blocks in each of these.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.
    """

    latent_codec: HyperpriorLatentCodec
    aux_entropy_model: CausalContextAdjustmentEntropyModel | None
    whole_units = True
    # What the halves of the side information are.
    _side_order = ("means", "scales")

    def __init__(
        self,
        *,
        use_cca: bool = False,
        cca_hidden_channels: int = 224,
        cca_num_layers: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.use_cca = bool(use_cca)
        self.cca_hidden_channels = cca_hidden_channels
        self.cca_num_layers = cca_num_layers
        self.aux_entropy_model = None

    def add_auxiliary(self, side_channels: int | None = None, **options: Any) -> None:
        """Build the auxiliary model for the slices of ``latent_codec``, if it was asked for.

        Args:
            side_channels: width of the means' half of the side information; ``None`` asks the
                context of the first slice.
            options: further arguments of :class:`CausalContextAdjustmentEntropyModel`.
        """
        if self.use_cca:
            slices = self.latent_codec.y
            self.aux_entropy_model = CausalContextAdjustmentEntropyModel(
                sum(slices.groups),
                slices.groups,
                self.cca_hidden_channels,
                self.cca_num_layers,
                side_channels=side_channels or slices.channel_context["y0"].side_split,
                **options,
            )

    def forward(self, x: Tensor) -> dict[str, Any]:
        """Reconstruction and likelihoods.

        Args:
            x: image ``(N, 3, H, W)`` in [0, 1].

        Returns:
            ``{"x_hat": (N, 3, H, W), not clamped, "likelihoods": {"y", "z"}}``, and
            ``"aux_likelihoods": {"y_aux", "y_cca"}`` with the auxiliary model.

        Raises:
            ValueError: height or width do not fit the transforms.
        """
        return self._forward_latent(self._latent(x))

    def _forward_latent(self, y: Tensor) -> dict[str, Any]:
        """What :meth:`forward` gives for an image whose latent is ``y``."""
        if self.use_cca and self.aux_entropy_model is None:
            raise RuntimeError(
                f"use_cca has no effect yet: {type(self).__name__} must call "
                "self.add_auxiliary() at the end of its constructor"
            )
        out = self.latent_codec(y)
        result = {"x_hat": self.g_s(out["y_hat"]), "likelihoods": out["likelihoods"]}
        if self.aux_entropy_model is not None:
            halves = dict(zip(self._side_order, out["params"].chunk(2, dim=1)))
            result["aux_likelihoods"] = self.aux_entropy_model(y, halves["means"], halves["scales"])
        return {**result, **self._further_outputs(y, out)}

    def _further_outputs(self, y: Tensor, out: Mapping[str, Any]) -> dict[str, Any]:
        """What else :meth:`forward` gives; ``out`` is what the codec gave for the latent."""
        return {}

    @property
    def has_projections(self) -> bool:
        """Whether the model has linear projections that :meth:`ortho_loss` is about."""
        return any(isinstance(module, OLP) for module in self.modules())

    def ortho_loss(self) -> Tensor:
        """How far the linear projections of the model's auxiliary transforms are from orthogonal.

        To be added to the loss with the weight :data:`ORTHO_WEIGHT`, which is 0.1.

        Returns:
            0-dimensional; 0 for a model without such projections.
        """
        return ortho_loss(self)

    def aux_loss(self) -> Tensor | int:
        """Auxiliary losses of the bottlenecks, and :meth:`ortho_loss` where there is any.

        An optimizer of the quantiles alone trains no projection by it: add :meth:`ortho_loss` to
        the main loss.
        """
        loss = super().aux_loss()
        return loss + self.ortho_loss() if self.has_projections else loss

    # -- loading --------------------------------------------------------------------------------

    @staticmethod
    def infer_auxiliary(state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """The arguments of this base class; none if the weights have no auxiliary model."""
        transform = f"{_AUXILIARY}.mean_support_transform"
        projection = state_dict.get(f"{transform}.input_projection.weight")
        if projection is None:
            return {}
        return {
            "use_cca": True,
            "cca_hidden_channels": projection.size(0),
            "cca_num_layers": consecutive(state_dict, transform + ".blocks.{}.beta"),
        }

    @classmethod
    def infer_slices(cls, state_dict: Mapping[str, Tensor], M: int) -> dict[str, Any]:
        """Arguments about equal slices of a latent of ``M`` channels, and the auxiliary model's."""
        num_slices = infer_num_slices(state_dict)
        if num_slices == 0:
            raise ValueError(f"this state dict is not of {cls.__name__}: it has no slices")
        return {
            "num_slices": num_slices,
            "max_support_slices": infer_max_support_slices(state_dict, M, num_slices),
            **cls.infer_auxiliary(state_dict),
        }
