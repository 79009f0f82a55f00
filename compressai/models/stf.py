# SPDX-License-Identifier: BSD-3-Clause-Clear
"""STF, the symmetrical transformer, and WACNN, convolutions with window attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch.nn as nn
from torch import Tensor

from compressai.layers import GDN, conv3x3, subpel_conv3x3
from compressai.layers.attn import (
    PatchEmbed,
    PatchMerging,
    PatchSplit,
    SwinTransformerBlock,
    WinNoShiftAttention,
)
from compressai.layers.stochastic_depth import drop_path_rates
from compressai.models._helpers.sizes import numbers_after, window_size
from compressai.models._helpers.upstream import (
    COMMON_ROOTS,
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
    ChannelSliceModel,
    build_slice_hyperprior,
    equal_slices,
)
from compressai.models.utils import conv, deconv
from compressai.registry import ModelEntry, at_qualities, register_entry, register_model

__all__ = ["WACNN", "SymmetricalTransFormer", "convert_upstream_stf_state_dict"]

_WIDTHS = (224, 176, 128, 64)


def _hyper_analysis(*widths: int) -> nn.Sequential:
    """Five 3x3 convolutions with GELU between, which quarter the size."""
    strides = (1, 1, 2, 1, 2)
    layers: list[nn.Module] = []
    for (a, b), stride in zip(pairwise(widths), strides, strict=True):
        layers += [conv3x3(a, b, stride=stride), nn.GELU()]
    return nn.Sequential(*layers[:-1])


def _hyper_synthesis(*widths: int) -> nn.Sequential:
    """Five 3x3 convolutions, two of them sub-pixel, with GELU between: four times the size."""
    factors = (1, 2, 1, 2, 1)
    layers: list[nn.Module] = []
    for (a, b), factor in zip(pairwise(widths), factors, strict=True):
        layers += [conv3x3(a, b) if factor == 1 else subpel_conv3x3(a, b, factor), nn.GELU()]
    return nn.Sequential(*layers[:-1])


class _StfFamily(ChannelSliceModel):
    """What STF and WACNN share: the names that their authors' program gives to weights."""

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_stf_state_dict`."""
        return convert_upstream_stf_state_dict(state_dict)


@register_model("stf-wacnn")
class WACNN(_StfFamily):
    """Convolutional transforms with window attention.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent.
        num_slices: number of (equal) slices.
        max_support_slices: how many earlier slices a slice sees, the first ones; negative for all.
        kwargs: handed to :class:`~compressai.models.channel_slice.ChannelSliceModel`, such as
            ``use_cca``.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: ``num_slices`` does not divide ``M``.

    Source: Zou et al. 2022, "The devil is in the details: window-based attention for image
    compression".
    """

    def __init__(
        self,
        N: int = 192,
        M: int = 320,
        num_slices: int = 10,
        max_support_slices: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.N = N
        self.M = M
        self.num_slices = num_slices
        self.max_support_slices = max_support_slices

        def attention(channels: int, window: int) -> WinNoShiftAttention:
            return WinNoShiftAttention(
                channels,
                num_heads=8,
                window_size=window,
                shift_size=window // 2,
                output_proj=False,
            )

        self.g_a = nn.Sequential(
            conv(3, N),
            GDN(N),
            conv(N, N),
            GDN(N),
            attention(N, 8),
            conv(N, N),
            GDN(N),
            conv(N, M),
            attention(M, 4),
        )
        self.g_s = nn.Sequential(
            attention(M, 4),
            deconv(M, N),
            GDN(N, inverse=True),
            deconv(N, N),
            GDN(N, inverse=True),
            attention(N, 8),
            deconv(N, N),
            GDN(N, inverse=True),
            deconv(N, 3),
        )
        self.latent_codec = build_slice_hyperprior(
            z_channels=N,
            h_a=_hyper_analysis(M, M, 288, 256, 224, N),
            h_mean_s=_hyper_synthesis(N, N, 224, 256, 288, M),
            h_scale_s=_hyper_synthesis(N, N, 224, 256, 288, M),
            groups=equal_slices(M, num_slices),
            side_channels=M,
            widths=_WIDTHS,
            emit_mean_support=True,
            max_support_slices=max_support_slices,
        )
        self.add_auxiliary()

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        M = entry_size(state_dict, "g_a.7.weight", 0, cls)
        return {
            "N": entry_size(state_dict, "g_a.0.weight", 0, cls),
            "M": M,
            **cls.infer_slices(state_dict, M),
        }


class _Stage(nn.Module):
    """Blocks whose windows stay and shift in turn, and a change of size behind them; BHWC."""

    def __init__(
        self,
        dim: int,
        drop_path_rates: Sequence[float],
        resample: nn.Module | None,
        *,
        window_size: int,
        **block: Any,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinTransformerBlock(
                dim,
                window_size=window_size,
                shift_size=window_size // 2 if i % 2 else 0,
                drop_path=rate,
                **block,
            )
            for i, rate in enumerate(drop_path_rates)
        )
        # Called so in both directions by the authors.
        self.downsample = resample
        self.factor = {PatchMerging: (1, 2), PatchSplit: (2, 1)}.get(type(resample), (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        if self.downsample is None:
            return x
        height, width = x.shape[1:3]
        up, down = self.factor
        tokens = self.downsample(x.flatten(1, 2), height, width)
        return tokens.unflatten(1, (height * up // down, width * up // down))


@register_model("stf")
class SymmetricalTransFormer(_StfFamily):
    """Window transformers as transforms, the synthesis a mirror image of the analysis.

    The latent has ``M = embed_dim * 2 ** (len(depths) - 1)`` channels, ``z`` half of that.

    Args:
        pretrain_img_size: without effect; there for calls written for the authors' program.
        patch_size: side of the patches that become tokens.
        in_chans: channels of the image.
        embed_dim: channels of the first stage, doubled by each.
        depths: blocks in each stage of the analysis; ``None`` takes 2, 2, 6, 2.
        num_heads: attention heads in each stage; ``None`` takes 3, 6, 12, 24.
        window_size: side of the attention windows.
        num_slices: number of (equal) slices.
        max_support_slices: how many earlier slices a slice sees, the first ones; negative for all;
            ``None`` takes half of them.
        mlp_ratio: hidden width of the feed-forward networks, relative.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: factor of the dot products; ``None`` takes ``head width ** -0.5``.
        drop_rate: dropout of tokens, of projections and in feed-forward networks.
        attn_drop_rate: dropout of attention weights.
        drop_path_rate: stochastic depth of the last block, ascending from 0.
        norm_layer: class of the normalisations, called with a width.
        patch_norm: normalise the embedded patches.
        kwargs: handed to :class:`~compressai.models.channel_slice.ChannelSliceModel`, such as
            ``use_cca``.

    Shape: ``x`` ``(N, in_chans, H, W)`` in [0, 1]; sides must be multiples of 64 (with the default
    patches and stages).

    Raises:
        ValueError: fewer than three stages, ``depths`` and ``num_heads`` of different lengths, or
            ``num_slices`` that does not divide the latent's channels.

    Source: Zou et al. 2022, "The devil is in the details: window-based attention for image
    compression".
    """

    # g_a and g_s are methods: what compressai.inference.prepare() has to convert for them.
    transform_parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "g_a": ("patch_embed", "pos_drop", "layers"),
        "g_s": ("syn_layers", "end_conv"),
    }

    def __init__(
        self,
        pretrain_img_size: int = 256,
        patch_size: int = 2,
        in_chans: int = 3,
        embed_dim: int = 48,
        depths: Sequence[int] | None = None,
        num_heads: Sequence[int] | None = None,
        window_size: int = 4,
        num_slices: int = 12,
        max_support_slices: int | None = None,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.2,
        norm_layer: Callable[[int], nn.Module] = nn.LayerNorm,
        patch_norm: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        depths = tuple((2, 2, 6, 2) if depths is None else depths)
        num_heads = tuple((3, 6, 12, 24) if num_heads is None else num_heads)
        if len(depths) != len(num_heads) or len(depths) < 3:
            raise ValueError(
                "depths and num_heads must have the same length, at least 3, got "
                f"depths={depths}, num_heads={num_heads}"
            )
        self.patch_size = patch_size
        self.in_chans = in_chans
        self.embed_dim = embed_dim
        self.depths = depths
        self.num_heads = num_heads
        self.window_size = window_size
        self.M = M = embed_dim * 2 ** (len(depths) - 1)
        self.N = N = M // 2
        self.num_slices = num_slices
        self.max_support_slices = (
            num_slices // 2 if max_support_slices is None else max_support_slices
        )

        def stages(
            widths: Sequence[int], depths: Sequence[int], heads: Sequence[int], resample: Any
        ) -> nn.ModuleList:
            last = len(depths) - 1
            rates = drop_path_rates(drop_path_rate, depths)
            return nn.ModuleList(
                _Stage(
                    widths[i],
                    rates[i],
                    resample(widths[i], norm_layer) if i < last else None,
                    window_size=window_size,
                    num_heads=heads[i],
                    mlp_ratio=mlp_ratio,
                    qkv_bias=qkv_bias,
                    qk_scale=qk_scale,
                    drop=drop_rate,
                    attn_drop=attn_drop_rate,
                    norm_layer=norm_layer,
                )
                for i in range(len(depths))
            )

        E = embed_dim
        widths = [E * 2**i for i in range(len(depths))]
        self.patch_embed = PatchEmbed(patch_size, in_chans, E, norm_layer if patch_norm else None)
        self.pos_drop = nn.Dropout(drop_rate)
        self.layers = stages(widths, depths, num_heads, PatchMerging)
        self.syn_layers = stages(widths[::-1], depths[::-1], num_heads[::-1], PatchSplit)
        self.end_conv = nn.Sequential(
            conv(E, E * patch_size**2, stride=1),
            nn.PixelShuffle(patch_size),
            conv3x3(E, in_chans),
        )
        self.latent_codec = build_slice_hyperprior(
            z_channels=N,
            h_a=_hyper_analysis(M, M, M - E, M - 2 * E, M - 3 * E, N),
            h_mean_s=_hyper_synthesis(N, M - 3 * E, M - 2 * E, M - E, M, M),
            h_scale_s=_hyper_synthesis(N, M - 3 * E, M - 2 * E, M - E, M, M),
            groups=equal_slices(M, num_slices),
            side_channels=M,
            widths=_WIDTHS,
            emit_mean_support=True,
            max_support_slices=self.max_support_slices,
        )
        self.add_auxiliary()

    @property
    def downsampling_factor(self) -> int:
        """Sides of an image must be multiples of this."""
        return self.patch_size * 2 ** (len(self.depths) - 1 + 2)

    @property
    def image_channels(self) -> int:
        """Channels of the images that the model takes."""
        return self.in_chans

    def g_a(self, x: Tensor) -> Tensor:
        """The analysis transform: image ``(N, C, H, W)`` to latent ``(N, M, H / 16, W / 16)``."""
        x = self.pos_drop(self.patch_embed(x))
        for layer in self.layers:
            x = layer(x)
        return x.permute(0, 3, 1, 2).contiguous()

    def g_s(self, y_hat: Tensor) -> Tensor:
        """The synthesis transform, the other way."""
        x = y_hat.permute(0, 2, 3, 1)
        for layer in self.syn_layers:
            x = layer(x)
        return self.end_conv(x.permute(0, 3, 1, 2).contiguous())

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        patches = "patch_embed.proj.weight"
        E = entry_size(state_dict, patches, 0, cls)
        stages = numbers_after(state_dict, "layers.")
        first = "layers.{}.blocks.0.{}"
        heads = "attn.relative_position_bias_table"
        M = E * 2 ** (len(stages) - 1)
        return {
            "patch_size": state_dict[patches].size(2),
            "in_chans": state_dict[patches].size(1),
            "embed_dim": E,
            "depths": [len(numbers_after(state_dict, f"layers.{i}.blocks.")) for i in stages],
            "num_heads": [entry_size(state_dict, first.format(i, heads), 1, cls) for i in stages],
            "window_size": window_size(state_dict[first.format(0, heads)]),
            "mlp_ratio": entry_size(state_dict, first.format(0, "mlp.fc1.weight"), 0, cls) / E,
            "qkv_bias": first.format(0, "attn.qkv.bias") in state_dict,
            "patch_norm": "patch_embed.norm.weight" in state_dict,
            **cls.infer_slices(state_dict, M),
        }


# -- weights of the authors' program ------------------------------------------------------------

_HEADS = {"cc_mean_transforms": "mean_cc", "cc_scale_transforms": "scale_cc"}
_ROOTS = frozenset({*_HEADS, *COMMON_ROOTS})
# The authors' attention of WACNN is not wrapped in one that knows windows.
_ATTENTION_RULE = (
    r"(\.conv_b\.\d+\.attn\.)(?=(?:qkv|proj|relative_position_\w+)(?:\.|$))",
    r"\1attn.",
)
_RULES = (*HYPER_RULES, *slice_rules(_HEADS))


def _is_upstream_stf_state_dict(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the authors' program."""
    return has_root(strip_wrapper(state_dict), _ROOTS)


def convert_upstream_stf_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the STF authors' program under the names of STF and WACNN here.

    Args:
        state_dict: names to tensors; parts of a model will do. Names of this library pass.

    Returns:
        New dict. Entries of an ``h_s``, which the program never uses, are left out.
    """
    state_dict = rename(strip_wrapper(state_dict), (_ATTENTION_RULE,))
    if not has_root(state_dict, _ROOTS):
        return state_dict
    used = {key: value for key, value in state_dict.items() if not key.startswith("h_s.")}
    return rename(replicate(used, "cc_mean_transforms"), _RULES)


# -- rows --------------------------------------------------------------------------------------

_PAPER = (
    "Zou et al. 2022, The devil is in the details: window-based attention for image compression"
)


def _mse_losses(*lambdas: float) -> dict[str, dict[int, dict[str, float]]]:
    return {"mse": {quality: {"lmbda": value} for quality, value in enumerate(lambdas, start=1)}}


register_entry(
    ModelEntry(
        name="stf",
        model=SymmetricalTransFormer,
        summary="Window transformers as transforms",
        paper=_PAPER,
        sizes=at_qualities((6, {})),
        losses=_mse_losses(0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483),
        extra="attn",
        small={
            "embed_dim": 8,
            "depths": (1, 1, 1, 1),
            "num_heads": (2, 2, 2, 2),
            "num_slices": 4,
            "max_support_slices": 2,
            "drop_path_rate": 0.0,
        },
        source="stf",
        detect=lambda weights: has_names(weights, "patch_embed."),
    )
)
register_entry(
    ModelEntry(
        name="stf-wacnn",
        model=WACNN,
        summary="Convolutional transforms with window attention",
        paper=_PAPER,
        sizes=at_qualities((4, {})),
        losses=_mse_losses(0.0018, 0.0035, 0.0067, 0.0250),
        small={"N": 16, "M": 32, "num_slices": 4, "max_support_slices": 2},
        source="wacnn",
        detect=lambda weights: (
            has_names(weights, "g_a.0.weight") and has_names(weights, "g_a.", ".conv_b.0.attn.")
        ),
    )
)
