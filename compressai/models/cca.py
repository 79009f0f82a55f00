# SPDX-License-Identifier: BSD-3-Clause-Clear
"""CCA: uneven slices trained with the causal context adjustment loss."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.layers import ResidualBottleneckBlock
from compressai.layers.naf import NAFBlock, NAFTransform
from compressai.models._helpers.sizes import consecutive, hidden_widths, numbers_after
from compressai.models._helpers.upstream import (
    HYPER_RULES,
    has_names,
    has_root,
    rename,
    replicate,
    slice_rules,
    strip_wrapper,
)
from compressai.models._state_dict import entry_size
from compressai.models.channel_slice import (
    CausalContextAdjustmentEntropyModel,
    ChannelSliceModel,
    build_slice_hyperprior,
    proportional_slices,
)
from compressai.models.utils import conv, deconv
from compressai.registry import ModelEntry, at_qualities, register_entry, register_model

__all__ = ["CausalContextAdjustmentEntropyModel", "CCAModel", "convert_upstream_cca_state_dict"]

# Residual blocks in each stage, besides the NAF blocks.
_NUM_BOTTLENECKS = 3


def _bottlenecks(channels: int) -> list[nn.Module]:
    return [ResidualBottleneckBlock(channels, channels) for _ in range(_NUM_BOTTLENECKS)]


def _naf_blocks(channels: int, count: int) -> list[nn.Module]:
    return [NAFBlock(channels) for _ in range(count)]


class _Analysis(nn.Module):
    """Strided convolutions with residual and NAF blocks between."""

    def __init__(self, latent_channels: int, dims: Sequence[int], layers: Sequence[int]) -> None:
        super().__init__()
        self.down = nn.ModuleList(conv(a, b) for a, b in pairwise((3, *dims, latent_channels)))
        self.blocks = nn.ModuleList(
            nn.Sequential(*_bottlenecks(dim), *_naf_blocks(dim, count))
            for dim, count in zip(dims, layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        *downs, last = self.down
        for down, blocks in zip(downs, self.blocks):
            x = blocks(down(x))
        return last(x)


class _Synthesis(nn.Module):
    """Mirror image of the analysis."""

    def __init__(self, latent_channels: int, dims: Sequence[int], layers: Sequence[int]) -> None:
        super().__init__()
        dims, layers = dims[::-1], layers[::-1]
        self.up = nn.ModuleList(deconv(a, b) for a, b in pairwise((latent_channels, *dims, 3)))
        self.blocks = nn.ModuleList(
            nn.Sequential(*_naf_blocks(dim, count), *_bottlenecks(dim))
            for dim, count in zip(dims, layers)
        )

    def forward(self, y: Tensor) -> Tensor:
        *ups, last = self.up
        for up, blocks in zip(ups, self.blocks):
            y = blocks(up(y))
        return last(y)


def _hyper_synthesis(hyper_channels: int, width: int, latent_channels: int) -> nn.Sequential:
    return nn.Sequential(
        deconv(hyper_channels, width),
        nn.GELU(),
        deconv(width, width),
        nn.GELU(),
        deconv(width, latent_channels, kernel_size=3, stride=1),
    )


@register_model("cca")
class CCAModel(ChannelSliceModel):
    """NAF transforms and uneven slices, for training with causal context adjustment.

    Args:
        latent_channels: width ``M`` of the latent.
        hyper_channels: width of ``z``.
        slice_proportions: widths of the slices in relation to each other.
        encoder_dims: widths of the stages of the transforms.
        encoder_layers: NAF blocks in each of these stages.
        em_hidden_channels: width of the support transforms of the entropy model.
        em_num_layers: NAF blocks in each of these.
        cca_training: add the auxiliary entropy model; :meth:`forward` then gives
            ``"aux_likelihoods"``, for
            :class:`~compressai.losses.cca.CCARateDistortionLoss`.
        context_widths: hidden widths of the predictors; ``None`` takes
            ``(em_hidden_channels, 128)``.
        kwargs: handed to :class:`~compressai.models.CompressionModel`.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64 (for three stages).

    Raises:
        ValueError: ``encoder_dims`` and ``encoder_layers`` differ in length, or a slice would be
            empty.

    Source: Han et al. 2024, "Causal context adjustment loss for learned image compression".
    """

    def __init__(
        self,
        latent_channels: int = 320,
        hyper_channels: int = 192,
        slice_proportions: Sequence[float] = (8, 28, 56, 92, 136),
        encoder_dims: Sequence[int] = (192, 224, 256),
        encoder_layers: Sequence[int] = (4, 4, 4),
        em_hidden_channels: int = 224,
        em_num_layers: int = 4,
        cca_training: bool = False,
        *,
        context_widths: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            use_cca=cca_training,
            cca_hidden_channels=em_hidden_channels,
            cca_num_layers=em_num_layers,
            **kwargs,
        )
        if len(encoder_dims) != len(encoder_layers) or len(encoder_dims) == 0:
            raise ValueError(
                "encoder_dims and encoder_layers must have the same length, at least 1, got "
                f"{tuple(encoder_dims)} and {tuple(encoder_layers)}"
            )
        self.M = latent_channels
        self.N = hyper_channels
        self.slice_proportions = tuple(slice_proportions)
        self.slice_sizes = proportional_slices(latent_channels, self.slice_proportions)
        self.num_slices = len(self.slice_sizes)
        self.encoder_dims = tuple(encoder_dims)
        self.encoder_layers = tuple(encoder_layers)
        self.em_hidden_channels = em_hidden_channels
        self.em_num_layers = em_num_layers
        self.context_widths = tuple(context_widths or (em_hidden_channels, 128))

        self.g_a = _Analysis(latent_channels, self.encoder_dims, self.encoder_layers)
        self.g_s = _Synthesis(latent_channels, self.encoder_dims, self.encoder_layers)
        width = self.encoder_dims[-1]
        self.latent_codec = build_slice_hyperprior(
            z_channels=hyper_channels,
            h_a=nn.Sequential(
                conv(latent_channels, width, kernel_size=3, stride=1),
                nn.GELU(),
                conv(width, width),
                nn.GELU(),
                conv(width, hyper_channels),
            ),
            h_mean_s=_hyper_synthesis(hyper_channels, width, latent_channels),
            h_scale_s=_hyper_synthesis(hyper_channels, width, latent_channels),
            groups=self.slice_sizes,
            side_channels=latent_channels,
            widths=self.context_widths,
            support_transform_factory=partial(
                NAFTransform, hidden_channels=em_hidden_channels, num_layers=em_num_layers
            ),
            emit_mean_support="post",
        )
        self.add_auxiliary(context_widths=self.context_widths)

    @property
    def cca_training(self) -> bool:
        """Whether the model has the auxiliary entropy model."""
        return self.use_cca

    @property
    def downsampling_factor(self) -> int:
        """Sides of an image must be multiples of this."""
        return 2 ** (len(self.encoder_dims) + 1 + 2)

    def forward(self, x: Tensor) -> dict[str, Any]:
        """As :meth:`ChannelSliceModel.forward`, with the latent.

        Returns:
            ``{"x_hat", "likelihoods": {"y", "z"}, "y", "aux_likelihoods"}``; the last is ``None``
            without ``cca_training``.
        """
        y = self._latent(x)
        return {"y": y, "aux_likelihoods": None, **self._forward_latent(y)}

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_cca_state_dict`."""
        return convert_upstream_cca_state_dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        stages = consecutive(state_dict, "g_a.down.{}.weight") - 1
        context = "latent_codec.y.channel_context.y"
        transform = f"{context}0.mean_support_transform"
        slices = numbers_after(state_dict, context)
        if not slices:
            raise RuntimeError(f"the state dict has no slices: no name starts with {context!r}")
        widths = hidden_widths(state_dict, f"{context}0.mean_cc")
        last = f".mean_cc.{2 * len(widths)}.weight"
        return {
            "latent_channels": entry_size(state_dict, f"g_a.down.{stages}.weight", 0, cls),
            "hyper_channels": entry_size(state_dict, "latent_codec.h_a.4.weight", 0, cls),
            "slice_proportions": [
                entry_size(state_dict, f"{context}{k}{last}", 0, cls) for k in slices
            ],
            "encoder_dims": [state_dict[f"g_a.down.{i}.weight"].size(0) for i in range(stages)],
            "encoder_layers": [
                len(numbers_after(state_dict, f"g_a.blocks.{i}.")) - _NUM_BOTTLENECKS
                for i in range(stages)
            ],
            "em_hidden_channels": entry_size(
                state_dict, f"{transform}.input_projection.weight", 0, cls
            ),
            "em_num_layers": consecutive(state_dict, transform + ".blocks.{}.beta"),
            "cca_training": any(key.startswith("aux_entropy_model.") for key in state_dict),
            "context_widths": widths,
        }


# -- weights of the authors' program ------------------------------------------------------------

_HEADS = {
    "mean_NAF_transforms": "mean_support_transform",
    "scale_NAF_transforms": "scale_support_transform",
    "mean_cc_transforms": "mean_cc",
    "scale_cc_transforms": "scale_cc",
}
_ROOTS = frozenset({*_HEADS, "lrp_transforms", "aux_entropymodel", "z_entropy_bottleneck"})
_OLD_AUXILIARY, _AUXILIARY = "aux_entropymodel.", "aux_entropy_model."
_BLOCK = {
    "dwconv": "pointwise_depthwise",
    "sca": "channel_attention",
    "FFN": "feed_forward",
    "conv1": "project",
}
_TRANSFORM = {"in_conv": "input_projection", "out_conv": "output_projection"}


def _is_upstream_cca_state_dict(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the authors' program."""
    return has_root(strip_wrapper(state_dict), _ROOTS)


def convert_upstream_cca_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the CCA authors' program under the names of :class:`CCAModel`.

    Args:
        state_dict: names to tensors; parts of a model will do. Names of this library pass.

    Returns:
        New dict. The residual predictions of the last two auxiliary slices, which the authors'
        present program does not have, are zero if they are missing: nothing depends on them.
    """
    state_dict = strip_wrapper(state_dict)
    if not has_root(state_dict, _ROOTS):
        return state_dict
    state_dict = _rename_naf(state_dict)
    auxiliary = {
        key.removeprefix(_OLD_AUXILIARY): value
        for key, value in state_dict.items()
        if key.startswith(_OLD_AUXILIARY)
    }
    main = {key: v for key, v in state_dict.items() if not key.startswith(_OLD_AUXILIARY)}
    rules = (*HYPER_RULES, *slice_rules(_HEADS))
    converted = rename(replicate(main, "mean_cc_transforms"), rules)

    stack = f"{_AUXILIARY}inner_codec"
    auxiliary = rename(
        replicate(auxiliary, "mean_cc_transforms", stack),
        ((r"^y_entropy_bottleneck\.", rf"{_AUXILIARY}\g<0>"), *slice_rules(_HEADS, stack)),
    )
    return {**converted, **auxiliary, **_missing_corrections(auxiliary, stack)}


def _rename_naf(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the inside of NAF blocks and transforms, which their contents give away."""

    def owners(*parts: str) -> set[str]:
        first = f".{parts[0]}"
        found = {key.removesuffix(first) for key in state_dict if key.endswith(first)}
        return {owner for owner in found if all(f"{owner}.{p}" in state_dict for p in parts)}

    blocks = owners("beta", "gamma", "dwconv.0.weight", "FFN.0.weight")
    transforms = owners("in_conv.weight", "out_conv.weight", "blocks.0.beta")
    renamed: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        for owner_set, names in ((blocks, _BLOCK), (transforms, _TRANSFORM)):
            match = re.fullmatch(rf"(.+?)\.({'|'.join(names)})\.(.+)", key)
            if match and match[1] in owner_set:
                key = f"{match[1]}.{names[match[2]]}.{match[3]}"
        renamed[key] = value
    return renamed


def _missing_corrections(auxiliary: Mapping[str, Tensor], stack: str) -> dict[str, Tensor]:
    """Zeros for the residual predictions of the last two slices, where they are missing."""
    filled: dict[str, Tensor] = {}
    for k in numbers_after(auxiliary, f"{stack}.channel_context.y")[-2:]:
        predictor = f"{stack}.channel_context.y{k}.mean_cc"
        correction = f"{stack}.latent_codec.y{k}.lrp_transform"
        layers = numbers_after(auxiliary, f"{predictor}.")
        complete = all(
            f"{predictor}.{layer}.{kind}" in auxiliary
            for layer in layers
            for kind in ("weight", "bias")
        )
        if not complete or any(key.startswith(f"{correction}.") for key in auxiliary):
            continue
        for layer in layers:
            weight, bias = (auxiliary[f"{predictor}.{layer}.{kind}"] for kind in ("weight", "bias"))
            if layer == 0:
                # Besides the support, the correction sees the slice itself.
                slice_channels = auxiliary[f"{predictor}.{layers[-1]}.bias"].numel()
                weight = weight[:, :1].expand(-1, weight.size(1) + slice_channels, -1, -1)
            filled[f"{correction}.{layer}.weight"] = torch.zeros_like(weight).contiguous()
            filled[f"{correction}.{layer}.bias"] = torch.zeros_like(bias)
    return filled


# -- rows --------------------------------------------------------------------------------------

register_entry(
    ModelEntry(
        name="cca",
        model=CCAModel,
        summary="NAF transforms, uneven slices",
        paper="Han et al. 2024, Causal context adjustment loss for learned image compression",
        sizes=at_qualities((4, {})),
        # The authors keep the distortion's weight and vary that of the rate.
        losses={
            "mse": {
                quality: {"lmbda": 0.05, "beta": beta}
                for quality, beta in enumerate((3.5, 1.8, 0.85, 0.3), start=1)
            }
        },
        # The auxiliary entropy model is there for its loss, and for nothing but training.
        training={"cca_training": True},
        small={
            "latent_channels": 32,
            "hyper_channels": 16,
            "slice_proportions": (2, 6, 10, 14),
            "encoder_dims": (8, 12, 16),
            "encoder_layers": (1, 1, 1),
            "em_hidden_channels": 12,
            "em_num_layers": 1,
        },
        source="cca",
        detect=lambda weights: has_names(weights, "g_a.down."),
    )
)
