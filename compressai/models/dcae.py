# SPDX-License-Identifier: BSD-3-Clause-Clear
"""DCAE: slices that are predicted with the help of a dictionary which the model has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.latent_codecs._slice_helpers import infer_max_support_slices
from compressai.layers import conv3x3
from compressai.layers.attn._remembered import Remembered
from compressai.layers.attn.attention import (
    ShiftedWindows,
    attend_with_bias,
    masked_bias,
    split_heads,
)
from compressai.layers.attn.windows import relative_position_index
from compressai.models._helpers.dictionary_context import (
    SharedDictionary,
    build_dictionary_mean_scale_head,
)
from compressai.models._helpers.dictionary_transforms import (
    GatedStage,
    bottlenecks_with_stride,
    bottlenecks_with_upsample,
)
from compressai.models._helpers.sizes import consecutive, numbers_after
from compressai.models._helpers.upstream import (
    HYPER_RULES,
    has_names,
    has_root,
    rename,
    replicate,
    slice_rules,
    strip_wrapper,
    swap_leading_inputs,
)
from compressai.models._state_dict import entry_size
from compressai.models.channel_slice import (
    ChannelSliceModel,
    build_slice_hyperprior,
    equal_slices,
)
from compressai.models.utils import conv, deconv
from compressai.registry import (
    ModelEntry,
    at_qualities,
    known_lambdas,
    register_entry,
    register_model,
)

__all__ = ["DCAE", "convert_upstream_dcae_state_dict"]

_HEAD_DIM = (8, 16, 32, 32, 16, 8)
_FEATURE_DIMS = (96, 144, 256)
_BLOCK_NUM = (1, 2, 12)


class GatedWindowAttention(ShiftedWindows):
    """Window attention under the names of the authors' program, channels last.

    Args:
        dim: channels C.
        head_dim: channels of a head, which divide ``dim``.
        window_size: side of a window.
        shifted: shift windows by half of it.

    Shape: ``(B, H, W, C)``, input and output alike, any H and W.
    Source: Lu et al. 2025, as :class:`DCAE`.
    """

    relative_position_index: Tensor

    def __init__(self, dim: int, head_dim: int, window_size: int, shifted: bool) -> None:
        super().__init__(window_size, window_size // 2 if shifted else 0)
        self.num_heads = dim // head_dim
        self.scale = head_dim**-0.5
        side = 2 * window_size - 1
        self.embedding_layer = nn.Linear(dim, 3 * dim)
        self.relative_position_params = nn.Parameter(
            nn.init.trunc_normal_(torch.empty(self.num_heads, side, side), std=0.02)
        )
        index = relative_position_index(window_size)
        self.register_buffer("relative_position_index", index, persistent=False)
        self.linear = nn.Linear(dim, dim)
        self._biases = Remembered()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.attend(self._attend_inside, x))

    @property
    def qkv(self) -> nn.Linear:
        """As in :class:`~compressai.layers.attn.WindowAttention`, and so are the next two."""
        return self.embedding_layer

    @property
    def proj(self) -> nn.Linear:
        return self.linear

    def _attend_inside(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        table = self.relative_position_params
        bias = masked_bias(self._biases, self.relative_position_bias, table, mask)
        q, k, v = split_heads(self.embedding_layer(windows), 3, self.num_heads)
        return attend_with_bias(q, k, v, bias, scale=self.scale)

    def relative_position_bias(self) -> Tensor:
        """What is added to the logits, ``(heads, positions, positions)``."""
        index = self.relative_position_index
        bias = self.relative_position_params.flatten(1).index_select(1, index.flatten())
        return bias.view(-1, *index.shape)


@register_model("dcae")
class DCAE(ChannelSliceModel):
    """Gated window attention in the transforms, and slices that look up a learned dictionary.

    Args:
        head_dim: channels of an attention head in each stage, three of the analysis and three of
            the synthesis; ``None`` takes (8, 16, 32, 32, 16, 8).
        N: channels inside the hyper transforms.
        M: channels of the latent.
        hyper_channels: channels of ``z``.
        num_slices: number of (equal) slices.
        max_support_slices: how many earlier slices a slice sees, the first ones; negative for all.
        feature_dims: channels of the stages of the analysis; ``None`` takes (96, 144, 256).
        block_num: blocks in each of these stages; ``None`` takes (1, 2, 12). The synthesis has
            the same stages in reverse order.
        dict_num: entries of the dictionary.
        dict_head_num: heads of the attention to the dictionary.
        dictionary_dim: width of an entry; ``None`` takes ``32 * dict_head_num``.
        window_size: side of the attention windows.
        hyper_window_size: the same in the hyper transforms.
        hyper_head_dim: channels of an attention head in the hyper transforms.
        kwargs: handed to :class:`~compressai.models.channel_slice.ChannelSliceModel`, such as
            ``use_cca``.

    Shape: ``x`` ``(N, 3, H, W)`` in [0, 1]; sides must be multiples of 64.

    Raises:
        ValueError: not six entries of ``head_dim``, not three of ``feature_dims`` or
            ``block_num``, a negative number of blocks, a head that does not divide its stage or
            the dictionary, or ``num_slices`` that does not divide ``M``.

    Source: Lu et al. 2025, "Learned image compression with dictionary-based entropy model".
    """

    # Name, in an attention, of the table that tells heads and window.
    _TABLE = "relative_position_params"

    def __init__(
        self,
        head_dim: Sequence[int] | None = None,
        N: int = 192,
        M: int = 320,
        hyper_channels: int = 192,
        num_slices: int = 5,
        max_support_slices: int = 5,
        feature_dims: Sequence[int] | None = None,
        block_num: Sequence[int] | None = None,
        dict_num: int = 128,
        dict_head_num: int = 20,
        dictionary_dim: int | None = None,
        window_size: int = 8,
        hyper_window_size: int = 4,
        hyper_head_dim: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.head_dim = tuple(_HEAD_DIM if head_dim is None else head_dim)
        self.feature_dims = tuple(_FEATURE_DIMS if feature_dims is None else feature_dims)
        self.block_num = tuple(_BLOCK_NUM if block_num is None else block_num)
        self.N = N
        self.M = M
        self.hyper_channels = hyper_channels
        self.num_slices = num_slices
        self.max_support_slices = max_support_slices
        self.dict_num = dict_num
        self.dict_head_num = dict_head_num
        self.dictionary_dim = 32 * dict_head_num if dictionary_dim is None else dictionary_dim
        self.window_size = window_size
        self.hyper_window_size = hyper_window_size
        self.hyper_head_dim = hyper_head_dim
        _check_stages(self.head_dim, self.feature_dims, self.block_num)

        down, up = bottlenecks_with_stride, bottlenecks_with_upsample
        d0, d1, d2 = self.feature_dims
        h0, h1, h2, h3, h4, h5 = self.head_dim
        b0, b1, b2 = self.block_num

        def stage(dim: int, head_dim: int, blocks: int, window: int = window_size) -> nn.Module:
            if head_dim < 1 or (blocks and dim % head_dim):
                raise ValueError(f"head_dim must divide {dim} channels, got head_dim={head_dim}")
            return self._stage(dim, head_dim, blocks, window)

        def hyper_stage() -> nn.Module:
            return stage(N, hyper_head_dim, 1, hyper_window_size)

        def hyper_synthesis() -> nn.Sequential:
            return nn.Sequential(
                deconv(hyper_channels, N, kernel_size=3),
                hyper_stage(),
                up(N, M),
            )

        self.g_a = nn.Sequential(
            down(3, d0),
            stage(d0, h0, b0),
            down(d0, d1),
            stage(d1, h1, b1),
            down(d1, d2),
            stage(d2, h2, b2),
            conv(d2, M),
        )
        self.g_s = nn.Sequential(
            deconv(M, d2),
            stage(d2, h3, b2),
            up(d2, d1),
            stage(d1, h4, b1),
            up(d1, d0),
            stage(d0, h5, b0),
            up(d0, 3),
        )
        self.shared_dictionary = SharedDictionary(dict_num, self.dictionary_dim)
        self.latent_codec = build_slice_hyperprior(
            z_channels=hyper_channels,
            h_a=nn.Sequential(
                down(M, N),
                hyper_stage(),
                conv3x3(N, hyper_channels, stride=2),
            ),
            h_mean_s=hyper_synthesis(),
            h_scale_s=hyper_synthesis(),
            groups=equal_slices(M, num_slices),
            side_channels=M,
            widths=(224, 128),
            head_factory=partial(
                build_dictionary_mean_scale_head,
                shared_dictionary=self.shared_dictionary,
                dict_output_ch=M,
                cross_attention_kwargs={"head_num": dict_head_num},
                widths=(224, 128),
                emit_mean_support=True,
                side_split=M,
            ),
            # The scales' half, and what the dictionary gives.
            extra_channels=2 * M,
            max_support_slices=max_support_slices,
        )
        self.add_auxiliary()

    @staticmethod
    def _stage(dim: int, head_dim: int, blocks: int, window: int) -> nn.Module:
        """Blocks whose windows stay and shift in turn."""
        attentions = [
            GatedWindowAttention(dim, head_dim, window, shifted=i % 2 == 1) for i in range(blocks)
        ]
        return GatedStage(dim, attentions, window)

    @staticmethod
    def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :func:`convert_upstream_dcae_state_dict`."""
        return convert_upstream_dcae_state_dict(state_dict)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        def size(key: str, dim: int) -> int:
            return entry_size(state_dict, key, dim, cls)

        M = size("latent_codec.h_a.0.conv.weight", 1)
        cls._check_family(state_dict)
        stages = [f"g_a.{i}" for i in (1, 3, 5)], [f"g_s.{i}" for i in (1, 3, 5)]
        windows: list[int] = []
        head_dim = []
        for place, default in zip(chain(*stages), _HEAD_DIM):
            heads, window = cls._heads_and_window(state_dict, place)
            width = size(f"{place}.conv.weight", 0)
            head_dim.append(width // heads if heads else default)
            windows += [window] if heads else []
        hyper_heads, hyper_window = cls._heads_and_window(state_dict, "latent_codec.h_a.1")
        hyper_width = size("latent_codec.h_a.1.conv.weight", 0)
        slices = cls.infer_slices(state_dict, M)
        support = infer_max_support_slices(state_dict, M, slices["num_slices"], extra_factor=3)
        heads_of_dictionary = "latent_codec.y.channel_context.y0.cross_attention.scale"
        return {
            **slices,
            "max_support_slices": support,
            "head_dim": head_dim,
            "N": size("latent_codec.h_a.0.conv.weight", 0),
            "M": M,
            "hyper_channels": size("latent_codec.z.entropy_bottleneck.quantiles", 0),
            "feature_dims": [size(f"g_a.{i}.conv.weight", 0) for i in (0, 2, 4)],
            "block_num": [
                consecutive(state_dict, place + ".layers.{}.ln1.weight") for place in stages[0]
            ],
            "dict_num": size("shared_dictionary.dt", 0),
            "dict_head_num": size(heads_of_dictionary, 0),
            "dictionary_dim": size("shared_dictionary.dt", 1),
            **({"window_size": windows[0]} if windows else {}),
            "hyper_window_size": hyper_window,
            "hyper_head_dim": hyper_width // hyper_heads if hyper_heads else hyper_width,
        }

    @classmethod
    def _check_family(cls, state_dict: Mapping[str, Tensor]) -> None:
        """Refuse the weights of SAAF, whose names are these and some more."""
        branch = [key for key in state_dict if key.startswith(("aux_enc.", "aux_dec."))]
        if branch:
            raise ValueError(
                f"this state dict is not of {cls.__name__}: it has {branch[0]!r} and "
                f"{len(branch) - 1} more of the auxiliary branches of SAAF"
            )

    @classmethod
    def _heads_and_window(cls, state_dict: Mapping[str, Tensor], stage: str) -> tuple[int, int]:
        """Heads, and side of a window, of the first attention of a stage; (0, 1) without any."""
        table = f"{stage}.layers.0.msa.{cls._TABLE}"
        if not consecutive(state_dict, stage + ".layers.{}.ln1.weight"):
            return 0, 1
        entry_size(state_dict, table, 0, cls)
        return cls._read_table(state_dict[table])

    @staticmethod
    def _read_table(table: Tensor) -> tuple[int, int]:
        return table.size(0), (table.size(-1) + 1) // 2


def _check_stages(
    head_dim: Sequence[int], feature_dims: Sequence[int], block_num: Sequence[int]
) -> None:
    for name, values, count in (
        ("head_dim", head_dim, 6),
        ("feature_dims", feature_dims, 3),
        ("block_num", block_num, 3),
    ):
        if len(values) != count:
            raise ValueError(f"{name} must have {count} entries, got {values}")
    if min(block_num) < 0:
        raise ValueError(f"block_num must not be negative, got {block_num}")


# -- weights of the authors' program ------------------------------------------------------------

_HEADS = {
    "dt_cross_attention": "cross_attention",
    "cc_mean_transforms": "mean_cc",
    "cc_scale_transforms": "scale_cc",
}
_RULES = (
    (r"^dt$", "shared_dictionary.dt"),
    # The authors' first hyper synthesis is that of the scales.
    (r"^h_z_s1\.", "latent_codec.h_s.h_scale_s."),
    (r"^h_z_s2\.", "latent_codec.h_s.h_mean_s."),
    *HYPER_RULES,
    *slice_rules(_HEADS),
)
# Their networks see [scales | means | slices], ours [means | scales | slices].
_SWAPPED = (
    ("dt_cross_attention.", ".x_trans.weight"),
    ("cc_mean_transforms.", ".0.weight"),
    ("cc_scale_transforms.", ".0.weight"),
    ("lrp_transforms.", ".0.weight"),
)


def _is_upstream_layout(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether names are those of the authors' program."""
    state_dict = strip_wrapper(state_dict)
    return "dt" in state_dict and has_root(state_dict, {"dt_cross_attention"})


def convert_upstream_dcae_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the DCAE authors' program under the names of :class:`DCAE`.

    The authors' networks see scales before means, ours means before scales; so the first two
    blocks of input channels change places in four weights of each slice.

    Args:
        state_dict: names to tensors; parts of a model will do. Names of this library pass.

    Returns:
        New dict.

    Raises:
        ValueError: nothing tells the number of slices or the width of the latent.
    """
    state_dict = strip_wrapper(state_dict)
    if not _is_upstream_layout(state_dict):
        return state_dict
    if not numbers_after(state_dict, "cc_mean_transforms."):
        raise ValueError(
            "the state dict has dt_cross_attention, but no cc_mean_transforms to count slices by"
        )
    M = _latent_width(state_dict)
    swapped = {
        key: swap_leading_inputs(value, M) if _is_swapped(key) else value
        for key, value in state_dict.items()
        if not key.endswith(".olp.identity_matrix")
    }
    return rename(replicate(swapped, "cc_mean_transforms"), _RULES)


def _is_swapped(key: str) -> bool:
    return any(key.startswith(start) and key.endswith(end) for start, end in _SWAPPED)


def _latent_width(state_dict: Mapping[str, Tensor]) -> int:
    places = (
        ("h_a.0.conv.weight", 1),
        ("g_a.6.weight", 0),
        ("dt_cross_attention.0.output_trans.0.weight", 0),
    )
    for key, dim in places:
        if key in state_dict:
            return state_dict[key].size(dim)
    raise ValueError(
        "the width of the latent cannot be told: the state dict has none of "
        + ", ".join(key for key, _ in places)
    )


# -- rows --------------------------------------------------------------------------------------

SMALL_DCAE = {
    "head_dim": (8, 4, 8, 4, 8, 4),
    "N": 16,
    "M": 32,
    "hyper_channels": 24,
    "num_slices": 4,
    "max_support_slices": 2,
    "feature_dims": (16, 24, 32),
    "block_num": (1, 1, 2),
    "dict_num": 8,
    "dict_head_num": 2,
    "dictionary_dim": 24,
    "window_size": 4,
    "hyper_window_size": 2,
    "hyper_head_dim": 8,
}


# Weights of the published points.
DCAE_MSE_LOSSES = {
    quality: {"lmbda": value}
    for quality, value in enumerate((0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0500), start=1)
}


def _has_dictionary(weights: Mapping[str, Tensor]) -> bool:
    return "dt" in weights or "shared_dictionary.dt" in weights


register_entry(
    ModelEntry(
        name="dcae",
        model=DCAE,
        summary="Slices predicted with a learned dictionary",
        paper="Lu et al. 2025, Learned image compression with dictionary-based entropy model",
        sizes=at_qualities((6, {})),
        losses={
            "mse": DCAE_MSE_LOSSES,
            "ms-ssim": known_lambdas(*range(1, 7))["ms-ssim"],
        },
        extra="attn",
        small=SMALL_DCAE,
        source="dcae",
        detect=lambda weights: _has_dictionary(weights) and not has_names(weights, "aux_enc."),
    )
)
